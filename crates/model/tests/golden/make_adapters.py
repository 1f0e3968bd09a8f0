"""Make the golden adapters of the model crate: PEFT adapters of the models next to this script, and what they compute.

Run from any folder: `python make_adapters.py` (needs torch, transformers, peft, safetensors; CPU, fp32).
Each folder `adapters/NAME` holds `adapter_config.json` and `adapter_model.safetensors`, as PEFT's `save_pretrained` writes
them, A and B normal with standard deviation 0.2, and `expected.json`: `base`, the folder of the base model, the versions
used, and one sample with `input_ids` [batch, seq] and `logits` [batch, seq, vocab] with 7 significant digits.

`python make_adapters.py check DIR BASE` opens an adapter that Taal wrote with PEFT and prints the logits for the same ids
as JSON.
"""

import json
import pathlib
import sys

import peft
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

HERE = pathlib.Path(__file__).parent

ADAPTERS = {
    "gpt2": dict(base="gpt2", r=3, lora_alpha=7, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True),
    "llama": dict(base="llama-untied", r=4, lora_alpha=8, use_rslora=True, target_modules="all-linear"),
    "llama-head": dict(base="llama-untied", r=2, lora_alpha=3, target_modules=["q_proj", "v_proj", "lm_head"]),
    "qwen2": dict(base="qwen2", r=2, lora_alpha=4, target_modules=["k_proj", "down_proj"]),
    "bert": dict(base="bert", r=3, lora_alpha=6, target_modules=["query", "value", "dense"]),
    "distilbert": dict(base="distilbert", r=2, lora_alpha=2, target_modules="all-linear"),
}


def open_base(name):
    kind = AutoModelForMaskedLM if "bert" in name else AutoModelForCausalLM
    return kind.from_pretrained(HERE / name, attn_implementation="eager").eval()


def rounded(tensor):
    return [[[float(f"{x:.7g}") for x in row] for row in rows] for rows in tensor.tolist()]


def logits_of(model, base):
    sample = json.loads((HERE / base / "expected.json").read_text())["samples"][0]
    with torch.no_grad():
        return sample["input_ids"], model(input_ids=torch.tensor(sample["input_ids"])).logits


def make():
    for seed, (name, settings) in enumerate(ADAPTERS.items()):
        settings = dict(settings)
        base = settings.pop("base")
        task = None if "bert" in base else "CAUSAL_LM"
        model = peft.get_peft_model(open_base(base), peft.LoraConfig(**settings, lora_dropout=0.1, task_type=task))
        generator = torch.Generator().manual_seed(seed)
        for parameter_name, parameter in sorted(model.named_parameters()):
            if "lora_" in parameter_name:
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


def check(folder, base):
    model = peft.PeftModel.from_pretrained(open_base(base), folder).eval()
    print(json.dumps(rounded(logits_of(model, base)[1])))


if __name__ == "__main__":
    check(*sys.argv[2:]) if sys.argv[1:2] == ["check"] else make()
