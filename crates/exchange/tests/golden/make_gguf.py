"""Write tiny GGUF models with tokenizers, and record what llama.cpp makes of texts and prompts with them.

Run from any folder: `python make_gguf.py` (needs gguf, llama-cpp-python, numpy, sentencepiece). Beside this script it writes

- `byte-level.gguf`: GPT-2's architecture with the byte-level BPE of the tokenizer crate's golden files.
- `sentence-piece.gguf`: LLaMA's with the SentencePiece BPE of the same.
- `expected.json`: by file, llama.cpp's ids of each of the tokenizer crate's hard texts, without a beginning-of-sequence token and without
  looking for special tokens (`null` where a text spells one), and of some prompts, with its beginning-of-sequence token, and the ids that
  it continues them with, always taking the likeliest.
"""

import importlib.metadata
import json
import pathlib

import gguf
import llama_cpp
import numpy as np
import sentencepiece

HERE = pathlib.Path(__file__).parent
TOKENIZERS = HERE.parents[2] / "tokenizer/tests/golden/import"
TEXTS = json.loads((TOKENIZERS / "expected.json").read_text())["texts"]
PROMPTS = ["De kat", "Er was eens", "\n", "één idee"]
WIDTH, HEADS, HIDDEN, LAYERS, CONTEXT, NEW_IDS = 16, 2, 24, 2, 64, 40
# Of keys and values, as of everything else; llama.cpp's default is fp16.
FP32 = 0
Kind = gguf.TokenType


def common(writer, generator, n_tokens):
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_vocab_size(n_tokens)

    def matrix(name, *shape):
        values = generator.normal(0, 0.4, shape)
        writer.add_tensor(name, values.astype(np.float32))

    def vector(name, width, mean):
        values = generator.normal(mean, 0.1, width)
        writer.add_tensor(name, values.astype(np.float32))

    matrix("token_embd.weight", n_tokens, WIDTH)
    matrix("output.weight", n_tokens, WIDTH)
    vector("output_norm.weight", WIDTH, 1)
    for layer in range(LAYERS):
        vector(f"blk.{layer}.attn_norm.weight", WIDTH, 1)
        vector(f"blk.{layer}.ffn_norm.weight", WIDTH, 1)
        matrix(f"blk.{layer}.attn_output.weight", WIDTH, WIDTH)
        matrix(f"blk.{layer}.ffn_up.weight", HIDDEN, WIDTH)
        matrix(f"blk.{layer}.ffn_down.weight", WIDTH, HIDDEN)
    return matrix, vector


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def byte_level(path):
    vocab = json.loads((TOKENIZERS / "gpt2/vocab.json").read_text())
    merges = [line for line in (TOKENIZERS / "gpt2/merges.txt").read_text().splitlines() if line and not line.startswith("#version")]
    tokens = sorted(vocab, key=vocab.get)
    end = vocab["<|endoftext|>"]
    writer = gguf.GGUFWriter(path, "gpt2")
    matrix, vector = common(writer, np.random.default_rng(1), len(tokens))
    matrix("position_embd.weight", CONTEXT, WIDTH)
    vector("output_norm.bias", WIDTH, 0)
    for layer in range(LAYERS):
        matrix(f"blk.{layer}.attn_qkv.weight", 3 * WIDTH, WIDTH)
        for name, width in [("attn_norm", WIDTH), ("ffn_norm", WIDTH), ("attn_qkv", 3 * WIDTH), ("attn_output", WIDTH),
                            ("ffn_up", HIDDEN), ("ffn_down", WIDTH)]:
            vector(f"blk.{layer}.{name}.bias", width, 0)
    writer.add_layer_norm_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([Kind.CONTROL if token == "<|endoftext|>" else Kind.NORMAL for token in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
    finish(writer)
    return ["<|endoftext|>"]


def sentence_piece(path):
    model = sentencepiece.SentencePieceProcessor(model_file=str(TOKENIZERS / "bpe.model"))
    ids = range(model.vocab_size())

    def kind(i):
        if model.is_unknown(i):
            return Kind.UNKNOWN
        if model.is_control(i):
            return Kind.CONTROL
        return Kind.BYTE if model.is_byte(i) else Kind.NORMAL

    writer = gguf.GGUFWriter(path, "llama")
    matrix, _ = common(writer, np.random.default_rng(2), len(ids))
    for layer in range(LAYERS):
        matrix(f"blk.{layer}.ffn_gate.weight", HIDDEN, WIDTH)
        matrix(f"blk.{layer}.attn_q.weight", WIDTH, WIDTH)
        matrix(f"blk.{layer}.attn_k.weight", WIDTH // HEADS, WIDTH)
        matrix(f"blk.{layer}.attn_v.weight", WIDTH // HEADS, WIDTH)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([model.id_to_piece(i) for i in ids])
    writer.add_token_scores([model.get_score(i) for i in ids])
    writer.add_token_types([kind(i) for i in ids])
    writer.add_unk_token_id(model.unk_id())
    writer.add_bos_token_id(model.bos_id())
    writer.add_eos_token_id(model.eos_id())
    finish(writer)
    return [model.id_to_piece(i) for i in ids if kind(i) in (Kind.UNKNOWN, Kind.CONTROL)]


def greedy(model, prompt):
    ids = model.tokenize(prompt.encode(), add_bos=True, special=False)
    model.reset()
    model.eval(ids)
    new = []
    while len(new) < NEW_IDS:
        new.append(int(model.scores[model.n_tokens - 1].argmax()))
        model.eval(new[-1:])
    return {"prompt": prompt, "prompt_ids": ids, "new_ids": new}


def main():
    files = {}
    for name, make in {"byte-level": byte_level, "sentence-piece": sentence_piece}.items():
        path = HERE / f"{name}.gguf"
        special = make(path)
        model = llama_cpp.Llama(str(path), n_ctx=CONTEXT, n_threads=1, logits_all=True, verbose=False,
                                type_k=FP32, type_v=FP32)
        texts = [None if any(token in text for token in special) else model.tokenize(text.encode(), add_bos=False, special=False)
                 for text in TEXTS]
        files[name] = {"texts": texts, "greedy": [greedy(model, prompt) for prompt in PROMPTS]}
    versions = {package: importlib.metadata.version(package) for package in ("gguf", "llama_cpp_python", "numpy", "sentencepiece")}
    text = json.dumps({"made_with": versions, "files": files}, separators=(",", ":"))
    (HERE / "expected.json").write_text(text + "\n")


main()
