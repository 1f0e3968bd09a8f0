"""Make small instruct models, masked models and sentence encoders, and what `transformers` and `sentence-transformers` make of texts with
them, for Taal to do the same: `make_texts.py FOLDER`.

Each case is `FOLDER/CASE` with a directory `model` and `runs.json`: a list of runs of `taal`, each with its `arguments` and with what it must
print, `expected`: a list of JSON values. Weights are random; tokenizers are trained here on a few sentences and have the parts and the special
tokens of the families they are named after. An instruct model is made to end: the token that it would write at one step exchanges its
logits with the one that ends a turn.
"""

import json
import pathlib
import sys

import torch
import transformers as t
from make_models import randomize
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE, WordPiece

TEXT = """The cat sat on the mat and looked at the dog. The dog ran away, because it's 3 o'clock in the morning!
De kat zat op de mat en keek naar de hond. In 2024 waren er 12345 katten: één daarvan heette Poes.
What is the capital of France? The capital of France is Paris. Qu'est-ce que c'est? Ça va très bien, merci.
def main():\n    return [word for word in text.split()]  # a comment\n\n\nhello   world\tand more
你好，世界。我们来看一只猫。 Привет, мир! 🙂🚀 ½ café naïve""".split("\n")

# How tokenizers like GPT-4's split words; Qwen2 takes one digit at a time and LLaMA 3 up to three.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Steps after which the text ends, and a larger number.
END_AT = 11
MAX_TOKENS = 24


def special(names):
    return [AddedToken(name, special=True, normalized=False) for name in names]


def byte_level(names, digits="", template=None, nfc=False):
    """Byte-level BPE as in Qwen, LLaMA 3 and DeepSeek."""
    tokenizer = Tokenizer(BPE())
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(WORDS.replace("DIGITS", digits)), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=360, initial_alphabet=alphabet, show_progress=False))
    tokenizer.add_special_tokens(special(names))
    return with_template(tokenizer, template)


def sentence_piece(names, template):
    """BPE with SentencePiece's marks and byte fallback, as in LLaMA 2, Phi-3 and Mistral."""
    base = ["<unk>", "<s>", "</s>"]
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    # The last line is left out, so that it needs byte fallback.
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=base + fallback, show_progress=False)
    tokenizer.train_from_iterator(TEXT[:-1], trainer)
    file = json.loads(tokenizer.to_str())
    file["added_tokens"] = [token for token in file["added_tokens"] if token["content"] in base]
    file["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(file))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(special(names))
    return with_template(tokenizer, template)


def with_template(tokenizer, template):
    if template is not None:
        names = [name for name in template.split() if not name.startswith("$")]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[(name, tokenizer.token_to_id(name)) for name in names])
    return tokenizer


CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA3 = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
PHI3 = ["<|endoftext|>", "<|assistant|>", "<|user|>", "<|end|>"]
DEEPSEEK = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"]
MISTRAL = ["[INST]", "[/INST]"]


def instruct_cases():
    """Name, configuration, model, tokenizer, which files define the end token, the token that ends a turn, and a prompt of one turn."""
    question = "What is the capital of France? 12345 cafés 🙂"
    yield ("qwen2", t.Qwen2Config, t.Qwen2ForCausalLM, byte_level(CHATML, nfc=True),
           {"config": "<|endoftext|>", "generation": ["<|im_end|>", "<|endoftext|>"]}, "<|im_end|>",
           f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")
    yield ("qwen3", t.Qwen3Config, t.Qwen3ForCausalLM, byte_level(CHATML, nfc=True),
           {"config": "<|im_end|>"}, "<|im_end|>",
           f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")
    yield ("llama3", t.LlamaConfig, t.LlamaForCausalLM, byte_level(LLAMA3, "{1,3}", "<|begin_of_text|> $A"),
           {"config": "<|end_of_text|>", "generation": ["<|end_of_text|>", "<|eot_id|>"]}, "<|eot_id|>",
           f"<|start_header_id|>user<|end_header_id|>\n\n{question}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n")
    yield ("phi3", t.LlamaConfig, t.LlamaForCausalLM, sentence_piece(PHI3, "<s> $A"),
           {"config": "<|endoftext|>", "generation": ["<|endoftext|>", "<|assistant|>", "<|end|>"]}, "<|end|>",
           f"<|user|>\n{question}<|end|>\n<|assistant|>\n")
    yield ("deepseek", t.LlamaConfig, t.LlamaForCausalLM, byte_level(DEEPSEEK, "{1,3}", "<｜begin▁of▁sentence｜> $A"),
           {"config": "<｜end▁of▁sentence｜>"}, "<｜end▁of▁sentence｜>",
           f"<｜User｜>{question}<｜Assistant｜>")
    yield ("mistral", t.MistralConfig, t.MistralForCausalLM, sentence_piece(MISTRAL, "<s> $A"),
           {"config": "</s>"}, "</s>", f"[INST] {question} [/INST]")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def continued(model, ids):
    """Greedy ids, and whether the text ends before the limit."""
    with torch.no_grad():
        found = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=MAX_TOKENS, pad_token_id=0)
    found = found[0, len(ids):].tolist()
    return found, len(found) < MAX_TOKENS


def exchange(model, one, other):
    """Swaps the logits of two tokens."""
    with torch.no_grad():
        matrix = model.get_output_embeddings().weight
        matrix[[one, other]] = matrix[[other, one]]


def instruct(folder, index, case):
    name, config_class, model_class, tokenizer, ends, end, prompt = case
    ids_of = tokenizer.token_to_id
    config = config_class(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=256, tie_word_embeddings=False, pad_token_id=None,
        bos_token_id=None, eos_token_id=ids_of(ends["config"]))
    model = model_class(config).eval()
    randomize(model, seeded(9000 + index))
    prompt_ids = tokenizer.encode(prompt).ids
    # Without an end token: the first new token at a step that is late enough.
    model.generation_config = t.GenerationConfig()
    free, _ = continued(model, prompt_ids)
    step = next(step for step in range(END_AT, MAX_TOKENS) if free[step] not in free[:step])
    assert not {ids_of(end) for end in [ends["config"], *ends.get("generation", [])]} & set(free[:step]), name
    exchange(model, ids_of(end), free[step])

    out = folder / name / "model"
    model.save_pretrained(out)
    (out / "generation_config.json").unlink(missing_ok=True)
    if "generation" in ends:
        (out / "generation_config.json").write_text(json.dumps({"eos_token_id": [ids_of(end) for end in ends["generation"]]}))
    # The end token here has no effect, because config.json defines it.
    t.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=ends["config"]).save_pretrained(out)

    # Opened again, as a user of `transformers` would.
    model = t.AutoModelForCausalLM.from_pretrained(out, attn_implementation="eager").eval()
    tokenizer = t.PreTrainedTokenizerFast.from_pretrained(out)
    prompt_ids = tokenizer(prompt)["input_ids"]
    found, has_ended = continued(model, prompt_ids)
    assert has_ended and found[-1] == ids_of(end) and len(found) == step + 1, (name, found, step)
    decode = lambda ids, skip: tokenizer.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)

    def run(skip):
        whole = decode(prompt_ids + found, skip)
        arguments = ["generate", "--model", "model", "--prompt", prompt, "--temperature", "0", "--max-tokens", str(MAX_TOKENS), "--json"]
        expected = {
            "token_ids": found, "finish_reason": "eos", "prompt_tokens": len(prompt_ids),
            "text": whole[len(decode(prompt_ids, skip)):]}
        return {"arguments": arguments + [] if skip else arguments + ["--show-special"], "expected": [expected]}

    return [run(True), run(False)]


def word_piece():
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(TEXT, trainers.WordPieceTrainer(vocab_size=300, special_tokens=names, show_progress=False))
    return with_template(tokenizer, "[CLS] $A [SEP]"), "[MASK]"


def roberta_like():
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=names[:-1], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", special=True, normalized=False, lstrip=True)])
    return with_template(tokenizer, "<s> $A </s>"), "<mask>"


def masked_cases():
    same = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    yield "bert", t.BertConfig, t.BertForMaskedLM, word_piece(), {**same, "max_position_embeddings": 64}
    yield "roberta", t.RobertaConfig, t.RobertaForMaskedLM, roberta_like(), {
        **same, "max_position_embeddings": 66, "type_vocab_size": 1, "pad_token_id": 1}
    yield "modernbert", t.ModernBertConfig, t.ModernBertForMaskedLM, roberta_like(), {
        **same, "max_position_embeddings": 64, "local_attention": 8, "pad_token_id": 1}


def fill(folder, index, case):
    name, config_class, model_class, (tokenizer, mask), keys = case
    special_ids = {key: value for key, value in (("bos_token_id", 0), ("eos_token_id", 2), ("cls_token_id", 0), ("sep_token_id", 2))}
    keys = {**special_ids, **keys} if name == "modernbert" else keys
    model = model_class(config_class(vocab_size=tokenizer.get_vocab_size(), **keys))
    randomize(model, seeded(9100 + index))
    out = folder / f"fill-{name}" / "model"
    model.save_pretrained(out)
    t.PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token=mask).save_pretrained(out)

    model = model_class.from_pretrained(out, attn_implementation="eager").eval()
    tokenizer = t.PreTrainedTokenizerFast.from_pretrained(out)
    # Special tokens are not guesses.
    barred = [id for id, token in tokenizer.added_tokens_decoder.items() if token.special]
    runs = []
    for text in [f"The cat sat on the {mask}.", f"De {mask}{mask} keek naar de {mask}, café {mask}"]:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            shares = model(ids).logits[0].softmax(-1)
        shares[:, barred] = 0.0
        gaps = []
        for place in (ids[0] == tokenizer.convert_tokens_to_ids(mask)).nonzero().flatten():
            best = shares[place].topk(5)
            guesses = [{"id": id, "probability": share} for id, share in zip(best.indices.tolist(), best.values.tolist())]
            gaps.append({"guesses": guesses})
        runs.append({
            "arguments": ["fill", "--model", "model", "--pieces", "--top", "5", "--json", text],
            "expected": [{"text": text, "gaps": gaps}]})
    return runs


def embed(folder, pooling, is_normalised):
    """A directory as `sentence-transformers` saves it."""
    tokenizer, _ = word_piece()
    config = t.BertConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64)
    model = t.BertModel(config)
    randomize(model, seeded(9200))
    name = f"embed-{pooling}"
    parts = folder / name / "parts"
    model.save_pretrained(parts)
    names = dict(unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", mask_token="[MASK]")
    t.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=32, **names).save_pretrained(parts)
    transformer = modules.Transformer(str(parts), max_seq_length=20)
    layers = [transformer, modules.Pooling(config.hidden_size, pooling_mode=pooling)] + [modules.Normalize()] * is_normalised
    out = folder / name / "model"
    SentenceTransformer(modules=layers, device="cpu").save(str(out))
    texts = [*TEXT[:3], "cat", "The cat sat on the mat " * 10]
    vectors = SentenceTransformer(str(out), device="cpu").encode(texts)
    expected = [{"text": text, "embedding": vector} for text, vector in zip(texts, vectors.tolist())]
    return name, [{"arguments": ["embed", "--model", "model", "--json", *texts], "expected": expected}]


def main():
    torch.set_num_threads(1)
    folder = pathlib.Path(sys.argv[1])

    def write(name, runs):
        (folder / name / "runs.json").write_text(json.dumps(runs, indent=1))

    for index, case in enumerate(instruct_cases()):
        write(case[0], instruct(folder, index, case))
    for index, case in enumerate(masked_cases()):
        write(f"fill-{case[0]}", fill(folder, index, case))
    for pooling, is_normalised in [("mean", True), ("cls", True), ("max", False)]:
        write(*embed(folder, pooling, is_normalised))


if __name__ == "__main__":
    main()
