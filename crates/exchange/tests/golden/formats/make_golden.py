"""Write the golden models of the model crate in the formats of llama.cpp and llama2.c.

Run from any folder: `python make_golden.py` (needs gguf, torch, transformers; CPU, fp32). Beside this script it writes

- `NAME-TYPE.gguf`: the model `../NAME` by the package `gguf`, with the names that its own table has for each tensor and the order of rows
  of llama.cpp's converter; matrices in TYPE, vectors and positions in F32, and rows that are no multiple of a block in F16.
- `NAME-v0.bin`, `NAME-v1.bin`: `../NAME` as llama2.c's `export.py --version 0` and `--version 1` write it.
- `expected.json`: for files of less than 32 bits, by name: logits [batch, seq, vocab] that `transformers` computes with the rounded weights
  and the `input_ids` of the first sample of `../NAME/expected.json`. The other files have the logits of `../NAME/expected.json`.
"""

import importlib.metadata
import json
import pathlib
import struct

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Type

HERE = pathlib.Path(__file__).parent
MODELS = HERE.parents[3] / "model/tests/golden"
FILES = [("gpt2", "f32"), ("gpt2", "f16"), ("gpt2", "q8_0"), ("llama-untied", "f32"), ("llama-untied", "f16"), ("llama-untied", "q8_0"),
         ("llama-linear", "f32"), ("llama3", "f32"), ("qwen2", "f32"), ("qwen3", "f32"), ("llama-untied", "bf16"),
         ("llama-untied", "q4_0"), ("llama-untied", "q4_1"), ("llama-untied", "q5_0"), ("llama-untied", "q5_1")]
TYPES = {name.lower(): Type[name] for name in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")}
TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def load(name):
    return transformers.AutoModelForCausalLM.from_pretrained(MODELS / name, dtype=torch.float32).eval()


def interleaved(rows, n_heads):
    """Rows of queries or keys with the two coordinates of a rotary pair adjacent, like `permute` of llama.cpp's converter."""
    return rows.reshape(n_heads, 2, rows.shape[0] // n_heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def halves(rows, n_heads):
    return rows.reshape(n_heads, rows.shape[0] // n_heads // 2, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def stored_type(name, values, wanted):
    if values.ndim == 1 or name == "position_embd.weight":
        return Type.F32
    block, _ = gguf.GGML_QUANT_SIZES[wanted]
    return Type.F16 if values.shape[-1] % block else wanted


def keys(writer, config):
    is_gpt2 = config.model_type == "gpt2"
    writer.add_context_length(config.n_positions if is_gpt2 else config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    if is_gpt2:
        writer.add_feed_forward_length(4 * config.n_embd)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    rope = config.rope_parameters
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(head_dim)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_angles(rope, head_dim))


def llama3_angles(rope, dim):
    """As llama.cpp's converter computes them."""
    freqs = 1.0 / (rope["rope_theta"] ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim))
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    old = rope["original_max_position_embeddings"]
    factors = []
    for freq in freqs:
        wavelen = 2 * np.pi / freq
        if wavelen < old / high:
            factors.append(1)
        elif wavelen > old / low:
            factors.append(rope["factor"])
        else:
            smooth = (old / wavelen - low) / (high - low)
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


def write_gguf(name, kind):
    """Writes the file and puts the rounded weights into the model that is returned."""
    model = load(name)
    config = model.config
    arch = {"gpt2": gguf.MODEL_ARCH.GPT2, "llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2,
            "qwen3": gguf.MODEL_ARCH.QWEN3}[config.model_type]
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    writer = gguf.GGUFWriter(HERE / f"{name}-{kind}.gguf", gguf.MODEL_ARCH_NAMES[arch])
    keys(writer, config)
    for theirs, parameter in model.named_parameters():
        values = parameter.detach().numpy()
        ours = names.get_name(theirs, try_suffixes=(".weight", ".bias"))
        n_heads = {"q_proj": config.num_attention_heads, "k_proj": getattr(config, "num_key_value_heads", None)}
        heads = next((n for part, n in n_heads.items() if part in theirs and arch == gguf.MODEL_ARCH.LLAMA), None)
        is_transposed = theirs.endswith(TRANSPOSED)
        stored = values.T if is_transposed else values
        stored = np.ascontiguousarray(interleaved(stored, heads) if heads else stored)
        dtype = stored_type(ours, stored, TYPES[kind])
        data = gguf.quants.quantize(stored, dtype)
        writer.add_tensor(ours, data, raw_dtype=dtype)
        rounded = gguf.quants.dequantize(data, dtype)
        rounded = halves(rounded, heads) if heads else rounded
        parameter.data = torch.from_numpy(np.ascontiguousarray(rounded.T if is_transposed else rounded))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def write_llama2c(name, version):
    model = load(name)
    config, weights = model.config, {k: v.detach().numpy() for k, v in model.named_parameters()}
    head_dim = config.hidden_size // config.num_attention_heads
    is_tied = config.tie_word_embeddings

    def layers(suffix, n_heads=None):
        for layer in range(config.num_hidden_layers):
            values = weights[f"model.layers.{layer}.{suffix}.weight"]
            yield interleaved(values, n_heads) if n_heads else values

    norms = [*layers("input_layernorm")], [*layers("post_attention_layernorm")], [weights["model.norm.weight"]]
    embedding = [weights["model.embed_tokens.weight"]]
    attention = [*layers("self_attn.q_proj", config.num_attention_heads), *layers("self_attn.k_proj", config.num_key_value_heads),
                 *layers("self_attn.v_proj"), *layers("self_attn.o_proj")]
    feed_forward = [*layers("mlp.gate_proj"), *layers("mlp.down_proj"), *layers("mlp.up_proj")]
    output = [] if is_tied else [weights["lm_head.weight"]]
    sizes = [config.hidden_size, config.intermediate_size, config.num_hidden_layers, config.num_attention_heads,
             config.num_key_value_heads]
    context, vocab = config.max_position_embeddings, config.vocab_size
    if version == 0:
        header = struct.pack("7i", *sizes, vocab if is_tied else -vocab, context)
        freqs = 1.0 / (10000.0 ** (torch.arange(0, head_dim, 2)[: head_dim // 2].float() / head_dim))
        angles = torch.outer(torch.arange(context), freqs).float()
        tables = [torch.cos(angles).numpy(), torch.sin(angles).numpy()]
        tensors = [*embedding, *norms[0], *attention, *norms[1], *feed_forward, *norms[2], *tables, *output]
    else:
        header = struct.pack("=Ii7iB", 0x616B3432, 1, *sizes, vocab, context, is_tied).ljust(256, b"\0")
        tensors = [*norms[0], *norms[1], *norms[2], *embedding, *attention, *feed_forward, *output]
    data = b"".join(np.ascontiguousarray(tensor, dtype="<f4").tobytes() for tensor in tensors)
    (HERE / f"{name}-v{version}.bin").write_bytes(header + data)


def main():
    torch.set_num_threads(1)
    expected = {}
    for name, kind in FILES:
        model = write_gguf(name, kind)
        sample = json.loads((MODELS / name / "expected.json").read_text())["samples"][0]
        with torch.no_grad():
            logits = model(torch.tensor(sample["input_ids"])).logits
        if kind == "f32":
            assert np.abs(logits.numpy() - np.array(sample["logits"])).max() < 1e-5, name
        else:
            expected[f"{name}-{kind}"] = [[[float(f"{x:.7g}") for x in row] for row in rows] for rows in logits.tolist()]
    for name, version in [("llama-tied", 0), ("llama-untied", 0), ("llama-untied", 1)]:
        write_llama2c(name, version)
    versions = {package: importlib.metadata.version(package) for package in ("gguf", "numpy", "torch", "transformers")}
    text = json.dumps({"made_with": versions, "logits": expected}, separators=(",", ":"))
    (HERE / "expected.json").write_text(text + "\n")


main()
