"""Make the golden adapters of the model crate: PEFT adapters of the models next to this script, and what they compute.

Run from any folder: `python make_adapters.py` (needs torch, transformers, peft, safetensors; CPU, fp32).
Each folder `adapters/NAME` holds `adapter_config.json` and `adapter_model.safetensors`, as PEFT's `save_pretrained` writes
them, A and B normal with standard deviation 0.2, and `expected.json`: `base`, the folder of the base model, the versions
used, and one sample with `input_ids` [batch, seq] and `logits` [batch, seq, vocab] with 7 significant digits.

`python make_adapters.py NAME...` makes only these. `python make_adapters.py check DIR BASE [TOKENS]` opens an adapter that
Taal wrote with PEFT, on its base with rows for so many tokens, and prints the logits for the same ids as JSON.
"""

import json
import pathlib
import sys

import peft
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from make_golden import rounded

HERE = pathlib.Path(__file__).parent

ADAPTERS = {
    "gpt2": dict(base="gpt2", r=3, lora_alpha=7, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True),
    "llama": dict(base="llama-untied", r=4, lora_alpha=8, use_rslora=True, target_modules="all-linear"),
    "llama-head": dict(base="llama-untied", r=2, lora_alpha=3, target_modules=["q_proj", "v_proj", "lm_head"]),
    "qwen2": dict(base="qwen2", r=2, lora_alpha=4, target_modules=["k_proj", "down_proj"]),
    "bert": dict(base="bert", r=3, lora_alpha=6, target_modules=["query", "value", "dense"]),
    "distilbert": dict(base="distilbert", r=2, lora_alpha=2, target_modules="all-linear"),
    "llama-saved": dict(base="llama-untied", tokens=53, r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"],
                        modules_to_save=["embed_tokens", "lm_head"]),
    "llama-tied-saved": dict(base="llama-tied", tokens=53, r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"],
                             modules_to_save=["embed_tokens"], ensure_weight_tying=True),
    "modernbert": dict(base="modernbert", r=2, lora_alpha=4, target_modules=["Wqkv", "Wi", "Wo"]),
}


def open_base(name, tokens=None):
    """A base model, with rows for new tokens where there are more than it has."""
    kind = AutoModelForMaskedLM if "bert" in name else AutoModelForCausalLM
    model = kind.from_pretrained(HERE / name, attn_implementation="eager").eval()
    if tokens is not None and tokens > model.config.vocab_size:
        model.resize_token_embeddings(tokens)
    return model


def logits_of(model, base):
    """The ids of the base's first sample, of which some become new tokens where the model has more, and the logits for them."""
    expected = json.loads((HERE / base / "expected.json").read_text())
    ids = expected["samples"][0]["input_ids"]
    known, tokens = json.loads((HERE / base / "config.json").read_text())["vocab_size"], model.config.vocab_size
    for new in range(known, tokens):
        ids[0][2 * (new - known)] = new
    with torch.no_grad():
        return ids, model(input_ids=torch.tensor(ids)).logits


def make(names):
    for seed, (name, settings) in enumerate(ADAPTERS.items()):
        if names and name not in names:
            continue
        settings = dict(settings)
        base, tokens = settings.pop("base"), settings.pop("tokens", None)
        task = None if "bert" in base else "CAUSAL_LM"
        model = peft.get_peft_model(open_base(base, tokens), peft.LoraConfig(**settings, lora_dropout=0.1, task_type=task))
        generator = torch.Generator().manual_seed(seed)
        for parameter_name, parameter in sorted(model.named_parameters()):
            if "lora_" in parameter_name or "modules_to_save.default" in parameter_name:
                parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
        model.eval()
        model.peft_config["default"].base_model_name_or_path = base
        folder = HERE / "adapters" / name
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)
        ids, logits = logits_of(model, base)
        (folder / "expected.json").write_text(json.dumps(dict(
            base=base, torch=torch.__version__, transformers=transformers.__version__, peft=peft.__version__,
            samples=[dict(input_ids=ids, logits=rounded(logits), attention_layer0_head0=[])])) + "\n")


def check(folder, base, tokens=None):
    model = peft.PeftModel.from_pretrained(open_base(base, tokens and int(tokens)), folder).eval()
    print(json.dumps(rounded(logits_of(model, base)[1])))


if __name__ == "__main__":
    check(*sys.argv[2:]) if sys.argv[1:2] == ["check"] else make(sys.argv[1:])
