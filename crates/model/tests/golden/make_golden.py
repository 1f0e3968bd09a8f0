"""Make the golden files of the model crate: tiny random models of Hugging Face `transformers` and what they compute.

Run from any folder: `python make_golden.py [folder ...]` (needs torch, transformers, safetensors; CPU, fp32).
Each folder written next to this script holds

- `config.json` and `model.safetensors`, as `save_pretrained` writes them (fp32). Every tensor is random: matrices,
  embeddings and biases are normal with standard deviation 0.2, norm weights are 1 + 0.1 * normal, so that a swapped,
  transposed or forgotten tensor changes the logits.
- `expected.json`: the versions used and one entry a sample with `input_ids` [batch, seq], `logits` [batch, seq, vocab],
  `hidden_norms` (Euclidean norm over the whole tensor of: the embedding output, each block's output, the final norm's
  output, in this order) and `attention_layer0_head0` [batch, seq, seq] (rows are queries, after the softmax).
  Numbers have 7 significant digits. Encoders have one more sample with an `attention_mask` [batch, seq], 0 for padding;
  ids that are not padding are above every special one, so that RoBERTa counts their positions.
"""

import json
import pathlib
import platform
import sys

import torch
import transformers
from transformers import (
    BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM, GPT2Config, GPT2LMHeadModel, LlamaConfig,
    LlamaForCausalLM, MistralConfig, MistralForCausalLM, ModernBertConfig, ModernBertForMaskedLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM,
    RobertaConfig, RobertaForMaskedLM)

HERE = pathlib.Path(__file__).parent
VOCAB = 50
FIRST_ORDINARY_ID = 5
ENCODERS = (BertForMaskedLM, RobertaForMaskedLM, DistilBertForMaskedLM, ModernBertForMaskedLM)

LLAMA = dict(
    vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=32, rms_norm_eps=1e-5, bos_token_id=None, eos_token_id=None,
)


def rope(theta):
    return {"rope_theta": theta, "rope_type": "default"}


def models():
    """Yield (folder name, model); the seed of each model is fixed by its place in the list."""
    yield "gpt2", GPT2LMHeadModel(GPT2Config(
        vocab_size=VOCAB, n_positions=24, n_embd=32, n_layer=2, n_head=4, bos_token_id=None, eos_token_id=None))
    yield "llama-tied", LlamaForCausalLM(LlamaConfig(**LLAMA, tie_word_embeddings=True, rope_parameters=rope(10000.0)))
    yield "llama-untied", LlamaForCausalLM(
        LlamaConfig(**LLAMA, tie_word_embeddings=False, rope_parameters=rope(10000.0)))
    yield "qwen3", Qwen3ForCausalLM(Qwen3Config(
        **{**LLAMA, "rms_norm_eps": 1e-6}, head_dim=16, tie_word_embeddings=True, rope_parameters=rope(1000000.0)))
    bert = dict(vocab_size=VOCAB, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=24)
    yield "bert", BertForMaskedLM(BertConfig(**bert, hidden_size=32, intermediate_size=64))
    yield "bert-untied", BertForMaskedLM(
        BertConfig(**bert, hidden_size=16, intermediate_size=24, hidden_act="relu", tie_word_embeddings=False))
    yield "roberta", RobertaForMaskedLM(
        RobertaConfig(**bert, hidden_size=16, intermediate_size=24, layer_norm_eps=1e-5, type_vocab_size=1))
    yield "distilbert", DistilBertForMaskedLM(DistilBertConfig(
        vocab_size=VOCAB, max_position_embeddings=24, n_layers=2, n_heads=4, dim=16, hidden_dim=24))
    small = {**LLAMA, "intermediate_size": 24}
    yield "mistral", MistralForCausalLM(MistralConfig(
        **small, head_dim=12, sliding_window=5, tie_word_embeddings=False, rope_parameters=rope(10000.0)))
    yield "qwen2", Qwen2ForCausalLM(Qwen2Config(**small, tie_word_embeddings=True, rope_parameters=rope(1000000.0)))
    # The four pairs of a head turn 5.1, 1.6, 0.5 and 0.16 times in the original context: fast, between and slow.
    yield "llama3", LlamaForCausalLM(LlamaConfig(
        **{**small, "max_position_embeddings": 64}, tie_word_embeddings=True, rope_parameters={
            "rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32}))
    yield "llama-linear", LlamaForCausalLM(LlamaConfig(
        **small, tie_word_embeddings=True,
        rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}))
    # A window of three tokens to each side in the second and third of four layers, with angles of its own.
    modernbert = dict(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_attention_heads=2, max_position_embeddings=32,
        local_attention=6, pad_token_id=0, bos_token_id=None, eos_token_id=None, cls_token_id=None, sep_token_id=None)
    angles = {"full_attention": rope(160000.0), "sliding_attention": rope(100.0)}
    yield "modernbert", ModernBertForMaskedLM(
        ModernBertConfig(**modernbert, num_hidden_layers=4, rope_parameters=angles))
    yield "modernbert-untied", ModernBertForMaskedLM(ModernBertConfig(
        **modernbert, num_hidden_layers=3, global_attn_every_n_layers=2, tie_word_embeddings=False, norm_bias=True,
        attention_bias=True, mlp_bias=True, decoder_bias=False, hidden_activation="silu", classifier_activation="silu",
        norm_eps=1e-4))


def randomise(model, generator):
    """Overwrite every parameter; norm weights are recognised by their name."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm_weight = parameter.dim() == 1 and name.endswith("weight")
            parameter.copy_(1.0 + 0.1 * noise if is_norm_weight else 0.2 * noise)


def rounded(value):
    """A tensor or number as nested lists with 7 significant digits."""
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.7g}")


def blocks_and_final_norm(model):
    """The blocks and, in a list, the final norm where there is one."""
    if isinstance(model, GPT2LMHeadModel):
        return model.transformer.h, [model.transformer.ln_f]
    if isinstance(model, ModernBertForMaskedLM):
        return model.model.layers, [model.model.final_norm]
    if isinstance(model, DistilBertForMaskedLM):
        return model.distilbert.transformer.layer, []
    if isinstance(model, ENCODERS):
        return model.base_model.encoder.layer, []
    return model.model.layers, [model.model.norm]


def first(output):
    return output[0] if isinstance(output, tuple) else output


def sample(model, input_ids, attention_mask=None):
    """Run one batch and record what the Rust test compares."""
    blocks, final_norm = blocks_and_final_norm(model)
    seen = []
    hooks = [blocks[0].register_forward_pre_hook(lambda _m, args: seen.append(args[0].norm()))]
    for module in [*blocks, *final_norm]:
        hooks.append(module.register_forward_hook(lambda _m, _args, output: seen.append(first(output).norm())))
    with torch.no_grad():
        no_cache = {} if isinstance(model, ENCODERS) else {"use_cache": False}
        output = model(input_ids, attention_mask=attention_mask, output_attentions=True, **no_cache)
    for hook in hooks:
        hook.remove()
    return {
        "input_ids": input_ids.tolist(),
        **({} if attention_mask is None else {"attention_mask": attention_mask.tolist()}),
        "logits": rounded(output.logits),
        "hidden_norms": rounded(torch.stack(seen)),
        "attention_layer0_head0": rounded(output.attentions[0][:, 0]),
    }


def padded_sample(model, generator):
    """Two rows, the second of them shorter."""
    input_ids = torch.randint(FIRST_ORDINARY_ID, VOCAB, (2, 9), generator=generator)
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, 6:] = 0
    input_ids[1, 6:] = model.config.pad_token_id
    return sample(model, input_ids, attention_mask)


def use_older_config_keys(folder):
    """Rewrite `rope_parameters` to the keys `rope_theta` and `rope_scaling` of files written before transformers 5."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    kind = parameters.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {"type": kind, **parameters}
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def save(model, name):
    """Write a model, make its attention show its weights, and return its folder."""
    model.eval()
    model.set_attn_implementation("eager")
    folder = HERE / name
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    return folder


def write_expected(folder, **found):
    """Write what a model computes, with the versions used."""
    versions = {"python": platform.python_version(), "torch": torch.__version__,
                "transformers": transformers.__version__}
    text = json.dumps({"made_with": versions, **found}, separators=(",", ":"))
    (folder / "expected.json").write_text(text + "\n")


def main():
    torch.set_num_threads(1)
    for index, (name, model) in enumerate(models()):
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        generator = torch.Generator().manual_seed(1000 + index)
        randomise(model, generator)
        folder = save(model, name)
        if name in ("llama-untied", "llama-linear"):
            use_older_config_keys(folder)
        # Scaled angles show beyond the original context, in one long row.
        shapes = [(1, 37)] if name == "llama3" else [(2, 11), (1, 17)]
        is_encoder = isinstance(model, ENCODERS)
        first_id = FIRST_ORDINARY_ID if is_encoder else 0
        samples = [sample(model, torch.randint(first_id, VOCAB, shape, generator=generator)) for shape in shapes]
        samples += [padded_sample(model, generator)] if is_encoder else []
        write_expected(folder, samples=samples)


if __name__ == "__main__":
    main()
