"""Make random models of Hugging Face `transformers` and their logits, for Taal to open: `make_models.py FOLDER FAMILY...`.

Each case is `FOLDER/FAMILY/CASE` with the files of `save_pretrained`, `ids.json` (a list of samples with `input_ids` and, for encoders, an
`attention_mask`) and `transformers.bin`: the logits of all samples, fp32, little-endian, computed in fp32 from the weights as they are
stored. Logits at padding are 0. Every tensor is random, including norm weights and biases, so that a swapped, transposed or forgotten one
shows.
"""

import json
import pathlib
import sys

import torch
import transformers as t

# Keys of a case other than those of the configuration.
STORAGE = ("dtype", "shard_size", "lengths")


def rope(theta=10000.0, kind="default", **more):
    return {"rope_theta": theta, "rope_type": kind, **more}


LLAMA3 = rope(500000.0, "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=256)


def gpt2():
    tiny = dict(vocab_size=61, n_positions=40, n_embd=32, n_layer=2, n_head=4)
    yield "tiny", tiny
    yield "odd", dict(vocab_size=103, n_positions=33, n_embd=30, n_layer=3, n_head=5, n_inner=70, activation_function="gelu")
    yield "relu", {**tiny, "activation_function": "relu", "layer_norm_epsilon": 1e-3}
    yield "untied", {**tiny, "tie_word_embeddings": False}
    yield "long", dict(vocab_size=300, n_positions=1024, n_embd=128, n_layer=4, n_head=8, lengths=[(1, 1024), (3, 200)])
    yield from stored(tiny)


def llama_like(**own):
    tiny = dict(
        vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=64, rope_parameters=rope(), tie_word_embeddings=False, **own)
    yield "tiny", tiny
    yield "tied", {**tiny, "tie_word_embeddings": True}
    yield "grouped", {**tiny, "num_key_value_heads": 2, "rms_norm_eps": 1e-5}
    yield "one-kv-head", {**tiny, "num_key_value_heads": 1}
    yield "wide-heads", {**tiny, "head_dim": 24, "num_key_value_heads": 2}
    yield "long", {
        **tiny, "vocab_size": 300, "hidden_size": 128, "intermediate_size": 200, "num_hidden_layers": 4, "num_attention_heads": 8,
        "num_key_value_heads": 2, "max_position_embeddings": 4096, "rope_parameters": rope(1000000.0), "lengths": [(1, 1500), (3, 200)]}
    yield from stored(tiny)


def llama():
    cases = list(llama_like())
    yield from cases
    tiny = cases[0][1]
    yield "biases", {**tiny, "attention_bias": True, "mlp_bias": True}
    long = {**tiny, "max_position_embeddings": 2048, "lengths": [(1, 900), (2, 100)]}
    yield "llama3", {**long, "rope_parameters": LLAMA3, "num_key_value_heads": 2, "tie_word_embeddings": True, "head_dim": 16}
    yield "linear", {**long, "rope_parameters": rope(10000.0, "linear", factor=4.0)}
    yield "dynamic", {**long, "rope_parameters": rope(10000.0, "dynamic", factor=4.0)}
    yield "yarn", {**long, "rope_parameters": rope(10000.0, "yarn", factor=4.0, original_max_position_embeddings=256)}
    yield "yarn-mscale", {**long, "rope_parameters": rope(
        10000.0, "yarn", factor=40.0, original_max_position_embeddings=64, mscale=0.7, mscale_all_dim=1.0, beta_fast=16, truncate=False)}


def mistral():
    cases = list(llama_like(sliding_window=9))
    yield from cases
    tiny = cases[0][1]
    yield "no-window", {**tiny, "sliding_window": None}
    yield "window-of-4096", {**tiny, "sliding_window": 4096}


def qwen2():
    yield from ((name, {k: v for k, v in case.items() if k != "head_dim"}) for name, case in llama_like() if name != "wide-heads")


def qwen3():
    for name, case in llama_like():
        yield name, {"head_dim": case["hidden_size"] // case["num_attention_heads"], **case}
    yield "biases", {**next(llama_like())[1], "head_dim": 16, "attention_bias": True}


def bert():
    tiny = dict(
        vocab_size=61, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=40)
    yield "tiny", tiny
    yield "odd", dict(
        vocab_size=103, hidden_size=30, intermediate_size=70, num_hidden_layers=3, num_attention_heads=5, max_position_embeddings=37,
        hidden_act="gelu_new", layer_norm_eps=1e-6)
    yield "relu", {**tiny, "hidden_act": "relu"}
    yield "untied", {**tiny, "tie_word_embeddings": False}
    yield "long", {
        **tiny, "vocab_size": 300, "hidden_size": 128, "num_hidden_layers": 4, "max_position_embeddings": 514,
        "lengths": [(1, 512), (3, 200)]}
    yield from stored(tiny)


def roberta():
    for name, case in bert():
        case.pop("hidden_act", None)
        if name != "relu":
            yield name, {**case, "type_vocab_size": 1}


def distilbert():
    names = {
        "hidden_size": "dim", "intermediate_size": "hidden_dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads",
        "hidden_act": "activation"}
    for name, case in bert():
        case = {names.get(key, key): value for key, value in case.items() if key != "layer_norm_eps"}
        if name == "odd":
            case["activation"] = "gelu"
        yield name, case


def modernbert():
    tiny = dict(
        vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4, max_position_embeddings=64,
        local_attention=8)
    yield "tiny", tiny
    yield "untied", {**tiny, "tie_word_embeddings": False}
    yield "biases", {**tiny, "norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True}
    yield "head-bias-only", {**tiny, "classifier_bias": True, "decoder_bias": False}
    yield "silu", {**tiny, "hidden_activation": "silu", "classifier_activation": "silu", "norm_eps": 1e-4}
    yield "odd", dict(
        vocab_size=103, hidden_size=30, intermediate_size=35, num_hidden_layers=5, num_attention_heads=5, max_position_embeddings=37,
        local_attention=7, global_attn_every_n_layers=2)
    yield "all-global", {**tiny, "global_attn_every_n_layers": 1}
    yield "all-local", {**tiny, "layer_types": ["sliding_attention"] * 4}
    yield "angles", {
        **tiny, "rope_parameters": {"full_attention": rope(500.0), "sliding_attention": rope(20.0)}, "global_attn_every_n_layers": 2}
    yield "long", {
        **tiny, "vocab_size": 300, "hidden_size": 128, "num_hidden_layers": 7, "max_position_embeddings": 8192, "local_attention": 128,
        "lengths": [(1, 1000), (3, 200)]}
    yield from stored(tiny)


def stored(tiny):
    """One model in every kind of file."""
    yield "sharded", {**tiny, "shard_size": "16KB"}
    yield "f16", {**tiny, "dtype": "float16"}
    yield "bf16", {**tiny, "dtype": "bfloat16"}
    yield "bf16-sharded", {**tiny, "dtype": "bfloat16", "shard_size": "8KB"}


FAMILIES = {
    "gpt2": (gpt2, t.GPT2Config, t.GPT2LMHeadModel),
    "llama": (llama, t.LlamaConfig, t.LlamaForCausalLM),
    "mistral": (mistral, t.MistralConfig, t.MistralForCausalLM),
    "qwen2": (qwen2, t.Qwen2Config, t.Qwen2ForCausalLM),
    "qwen3": (qwen3, t.Qwen3Config, t.Qwen3ForCausalLM),
    "bert": (bert, t.BertConfig, t.BertForMaskedLM),
    "roberta": (roberta, t.RobertaConfig, t.RobertaForMaskedLM),
    "distilbert": (distilbert, t.DistilBertConfig, t.DistilBertForMaskedLM),
    "modernbert": (modernbert, t.ModernBertConfig, t.ModernBertForMaskedLM),
}

# Ids of padding, and of every special token below.
PADDING = 1
FIRST_ORDINARY = 5


def randomize(model, generator):
    """Weights that keep logits of the order of 1 at any width."""
    width = model.get_input_embeddings().weight.shape[1]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                parameter.copy_(1.0 + 0.1 * noise if name.endswith("weight") else 0.2 * noise)
            else:
                parameter.copy_(noise / width**0.5)


def logits_of(model, sample):
    ids = torch.tensor(sample["input_ids"])
    mask = torch.tensor(sample["attention_mask"]) if "attention_mask" in sample else None
    with torch.no_grad():
        logits = model(ids, attention_mask=mask).logits
    return logits if mask is None else logits * mask[:, :, None]


def samples_of(lengths, vocab_size, is_encoder, generator):
    def sample(shape):
        return {"input_ids": torch.randint(FIRST_ORDINARY, vocab_size, shape, generator=generator).tolist()}

    samples = [sample(shape) for shape in lengths]
    if is_encoder:
        padded = sample((2, 21))
        padded["input_ids"][1][14:] = [PADDING] * 7
        padded["attention_mask"] = [[1] * 21, [1] * 14 + [0] * 7]
        samples.append(padded)
    return samples


def main():
    torch.set_num_threads(1)
    folder = pathlib.Path(sys.argv[1])
    for family in sys.argv[2:]:
        cases, config_class, model_class = FAMILIES[family]
        for index, (name, case) in enumerate(cases()):
            generator = torch.Generator().manual_seed(7000 + index)
            keys = {key: value for key, value in case.items() if key not in STORAGE}
            special = dict(pad_token_id=PADDING, bos_token_id=2, eos_token_id=3)
            if family == "modernbert":
                special.update(cls_token_id=2, sep_token_id=3)
            config = config_class(**keys, **special)
            model = model_class(config)
            randomize(model, generator)
            model = model.to(getattr(torch, case.get("dtype", "float32")))
            out = folder / family / name
            model.save_pretrained(out, **({"max_shard_size": case["shard_size"]} if "shard_size" in case else {}))
            is_encoder = "Masked" in model_class.__name__
            samples = samples_of(case.get("lengths", [(2, 29), (1, 33)]), config.vocab_size, is_encoder, generator)
            # Opened again, because a model converted back to fp32 would keep the rotary angles of half precision.
            model = model_class.from_pretrained(out, dtype=torch.float32, attn_implementation="eager").eval()
            logits = [logits_of(model, sample).flatten() for sample in samples]
            (out / "ids.json").write_text(json.dumps(samples))
            torch.cat(logits).numpy().astype("<f4").tofile(out / "transformers.bin")


if __name__ == "__main__":
    main()
