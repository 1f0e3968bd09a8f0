"""Make `variants.json`: what Hugging Face `transformers` computes with the golden models under other configurations.

Run from any folder after `make_golden.py`: `python make_variants.py` (needs torch, transformers, safetensors; CPU, fp32).
Each entry has the folder that it changes (`base`), keys of `config.json` that are set or, in `absent`, taken away, tensors that are
added as ones (`extra`, name to shape), `input_ids` of one row and the logits of its last position in 7 significant digits.
"""

import json
import pathlib
import shutil
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

HERE = pathlib.Path(__file__).parent
THETA = {"rope_theta": 10.0}
OLD = ["rope_scaling", "rope_theta"]
YARN = {"rope_type": "yarn", "factor": 4.0, **THETA}
ORIGINAL = {"original_max_position_embeddings": 16}


def angles(name, parameters, absent=OLD, **config):
    return {"name": name, "base": "llama-linear", "absent": absent, "set": {"rope_parameters": parameters, **config}}


def variants():
    yield angles("yarn", {**YARN, **ORIGINAL})
    yield angles("yarn, original context is the model's", YARN)
    yield angles("yarn, not truncated", {**YARN, **ORIGINAL, "truncate": False})
    yield angles("yarn, truncate null", {**YARN, **ORIGINAL, "truncate": None})
    yield angles("yarn, other betas", {**YARN, **ORIGINAL, "beta_fast": 2.0, "beta_slow": 0.25})
    yield angles("yarn, betas 0 and null", {**YARN, **ORIGINAL, "beta_fast": 0, "beta_slow": None})
    yield angles("yarn, mscale and mscale_all_dim", {**YARN, **ORIGINAL, "mscale": 0.707, "mscale_all_dim": 1.5})
    yield angles("yarn, mscale only", {**YARN, **ORIGINAL, "mscale": 0.707})
    yield angles("yarn, mscale_all_dim 0", {**YARN, **ORIGINAL, "mscale": 2.0, "mscale_all_dim": 0})
    yield angles("yarn, attention_factor", {**YARN, **ORIGINAL, "attention_factor": 0.8, "mscale": 2.0, "mscale_all_dim": 1.0})
    yield angles("yarn, factor null", {**YARN, **ORIGINAL, "factor": None})
    yield angles("yarn, factor 1", {**YARN, **ORIGINAL, "factor": 1.0})
    yield angles("yarn, original context at the top and inside", {**YARN, **ORIGINAL}, original_max_position_embeddings=32)
    yield angles("yarn, original context at the top", YARN, original_max_position_embeddings=32)
    yield {"name": "yarn, older keys", "base": "llama-linear", "absent": [],
           "set": {"rope_scaling": {"type": "yarn", "factor": 4.0, **ORIGINAL}, "rope_theta": 100.0}}
    yield angles("llama3, original context at the top and inside", {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, **THETA, **ORIGINAL},
        original_max_position_embeddings=32)
    yield angles("dynamic", {"rope_type": "dynamic", "factor": 4.0, **THETA})
    yield {"name": "dynamic, older keys", "base": "llama-linear", "absent": [],
           "set": {"rope_scaling": {"type": "dynamic", "factor": 2.0}, "rope_theta": 100.0}}
    # rope_scaling is used, with the base next to it and not with that of rope_parameters.
    yield {"name": "rope_scaling beside rope_parameters", "base": "llama-linear", "absent": [],
           "set": {"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_theta": 100.0,
                   "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0}}}
    yield {"name": "rope_scaling without a base beside rope_parameters", "base": "llama-linear", "absent": ["rope_theta"],
           "set": {"rope_scaling": {"type": "linear", "factor": 4.0},
                   "rope_parameters": {"rope_type": "default", "rope_theta": 100.0}}}
    yield {"name": "an empty rope_scaling beside rope_parameters", "base": "llama-linear", "absent": ["rope_theta"],
           "set": {"rope_scaling": {}, "rope_parameters": {**YARN, **ORIGINAL}}}
    yield {"name": "null for rope_scaling beside rope_parameters", "base": "llama-linear", "absent": ["rope_theta"],
           "set": {"rope_scaling": None, "rope_parameters": {**YARN, **ORIGINAL}}}
    yield angles("default with keys that it does not use", {
        "rope_type": "default", "factor": 2.0, "beta_fast": 32, **THETA})
    yield {"name": "default with keys that it does not use, older keys", "base": "llama-linear", "absent": [],
           "set": {"rope_scaling": {"type": "default", "factor": 2.0, "beta_fast": 32}, "rope_theta": 10.0}}
    yield {"name": "null for rope_scaling", "base": "llama-linear", "absent": [],
           "set": {"rope_scaling": None, "rope_theta": 10.0}}
    yield {"name": "null for rope_parameters", "base": "llama-linear", "absent": ["rope_scaling"],
           "set": {"rope_parameters": None, "rope_theta": 10.0}}
    yield angles("swish", {"rope_type": "default", **THETA}, hidden_act="swish")
    for base in ("mistral", "qwen2", "qwen3"):
        yield {"name": f"yarn in {base}", "base": base, "absent": [], "set": {"rope_parameters": {**YARN, **ORIGINAL}}}
    # In ModernBERT rope_scaling is put over both objects, and rope_parameters has the bases.
    kinds = {"full_attention": {"rope_type": "default", "rope_theta": 1000.0},
             "sliding_attention": {"rope_type": "default", "rope_theta": 10.0}}
    yield {"name": "modernbert with both keys", "base": "modernbert", "absent": [],
           "set": {"rope_parameters": kinds, "rope_scaling": {"rope_type": "linear", "factor": 4.0},
                   "global_rope_theta": 500.0, "local_rope_theta": 50.0}}
    yield {"name": "modernbert with yarn", "base": "modernbert", "absent": [],
           "set": {"rope_parameters": {name: {**kind, **YARN, **ORIGINAL, "rope_theta": kind["rope_theta"]}
                                       for name, kind in kinds.items()}}}
    for name in ("gelu", "gelu_python", "gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast",
                 "gelu_accurate", "relu", "relu2"):
        yield {"name": f"gpt2 with {name}", "base": "gpt2", "absent": [], "set": {"activation_function": name}}
    layers = [f"model.layers.{layer}.self_attn" for layer in range(2)]
    tables = ("inv_freq", "original_inv_freq", "cos_cached", "sin_cached")
    yield {"name": "llama with masks and tables", "base": "llama-linear", "absent": [], "set": {}, "extra": {
        **{f"{layer}.bias": [1, 1, 32, 32] for layer in layers}, **{f"{layer}.masked_bias": [1] for layer in layers},
        **{f"{layer}.rotary_emb.{table}": [4] for layer in layers for table in tables},
        **{f"model.rotary_emb.{table}": [4] for table in tables}}}
    blocks = [f"transformer.h.{layer}.attn" for layer in range(2)]
    yield {"name": "gpt2 with masks", "base": "gpt2", "absent": [], "set": {}, "extra": {
        **{f"{block}.bias": [1, 1, 24, 24] for block in blocks}, **{f"{block}.masked_bias": [1] for block in blocks}}}


def logits(variant, ids):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        shutil.copytree(HERE / variant["base"], folder, dirs_exist_ok=True)
        config = json.loads((folder / "config.json").read_text())
        config.update(variant["set"])
        for key in variant["absent"]:
            if key not in variant["set"]:
                config.pop(key, None)
        (folder / "config.json").write_text(json.dumps(config))
        if "extra" in variant:
            tensors = load_file(folder / "model.safetensors")
            tensors.update({name: torch.ones(shape) for name, shape in variant["extra"].items()})
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        kind = AutoModelForMaskedLM if "bert" in variant["base"] else AutoModelForCausalLM
        model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        with torch.no_grad():
            return [float(f"{logit:.7g}") for logit in model(torch.tensor([ids])).logits[0, -1].tolist()]


def main():
    torch.set_num_threads(1)
    ids = [(7919 * i + i * i) % 45 + 5 for i in range(24)]
    entries = [{**variant, "input_ids": ids, "logits": logits(variant, ids)} for variant in variants()]
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    (HERE / "variants.json").write_text(f'{{"made_with": {json.dumps(versions)}, "variants": [\n{lines}\n]}}\n')


main()
