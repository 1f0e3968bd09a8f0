"""Makes a small tokenizer file of each format that is imported, and records what the programs they belong to make of hard texts.

    python crates/tokenizer/tests/golden/import/make_golden.py      # from the repository's root

Needs the packages sentencepiece, tiktoken, tokenizers and transformers. It also has this crate import every file and sees that the package
tokenizers gives the same ids with the tokenizer.json, which the Rust test cannot see.
"""

import base64
import contextlib
import importlib.metadata
import importlib.util
import json
import pathlib
import shutil
import struct
import subprocess
import tempfile

import sentencepiece
import tiktoken
import tokenizers
import transformers

HERE = pathlib.Path(__file__).parent
GOLDEN = HERE.parent
CORPUS = GOLDEN / "corpus.txt"
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
CL100K = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"

spec = importlib.util.spec_from_file_location("golden", GOLDEN / "make_golden.py")
golden = importlib.util.module_from_spec(spec)
spec.loader.exec_module(golden)
TEXTS = golden.TEXTS + [
    "▁▁ ▁x▁",
    "x▁",
    " ▁ ",
    "wit  \n  ",
    "\ufeff\u200bnul breed\u200b",
    "ＶＯＬ ﬁ ½ <sep>ij<sep> ĳ",
    "＜ｓ＞",
    "<0x41>",
    "DON'T 'ſ 'LL we'Re",
] + [c * n for c in (" ", "a", "1", "\n", "▁", "e\u0301", "👍") for n in (2, 3, 5, 7, 16, 31)]

# Rules of the kind that SentencePiece's own tables have: one for one, to a space, to nothing, two for one.
RULES = "".join(
    f"{' '.join(f'{ord(c):X}' for c in a)}\t{' '.join(f'{ord(c):X}' for c in b)}\n"
    for a, b in [("\u00a0", " "), ("\t", " "), ("\n", " "), ("\u200b", ""), ("ﬁ", "fi"), ("½", "1⁄2"), ("Ｖ", "V"), ("Ｏ", "O"),
                 ("Ｌ", "L"), ("e\u0301", "é"), ("＜", "<"), ("＞", ">"), ("ｓ", "s")]
)


def sentencepiece_models():
    # A model keeps the paths it was trained with, so these have no folder.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        pathlib.Path("rules.tsv").write_text(RULES)
        shutil.copy(CORPUS, "corpus.txt")
        kinds = {
            "unigram": dict(model_type="unigram", vocab_size=400, normalization_rule_tsv="rules.tsv", byte_fallback=True),
            # Whose pieces can spell `<0x41>`.
            "unigram-names": dict(model_type="unigram", vocab_size=360, normalization_rule_name="identity", byte_fallback=True,
                                  required_chars="<>x0123456789ABCDEF"),
            "unigram-unk": dict(model_type="unigram", vocab_size=150, normalization_rule_name="identity",
                                remove_extra_whitespaces=False, user_defined_symbols=["<sep>", "ij"]),
            "bpe": dict(model_type="bpe", vocab_size=450, normalization_rule_name="identity", byte_fallback=True,
                        remove_extra_whitespaces=False, user_defined_symbols=["<sep>"]),
            # llama2.c knows no user-defined pieces; only what it makes of this model is kept.
            "llama2c": dict(model_type="bpe", vocab_size=450, normalization_rule_name="identity", byte_fallback=True,
                            remove_extra_whitespaces=False),
            "bpe-unk": dict(model_type="bpe", vocab_size=150, normalization_rule_tsv="rules.tsv", add_dummy_prefix=False),
        }
        for name, options in kinds.items():
            sentencepiece.SentencePieceTrainer.train(
                input="corpus.txt", model_prefix=name, num_threads=1, minloglevel=2, **options)
            shutil.copy(f"{name}.model", HERE)
    return {f"{name}.model": sentencepiece.SentencePieceProcessor(model_file=str(HERE / f"{name}.model")) for name in kinds}


class Llama2c:
    """`encode` of llama2.c's run.c, on the file that its tokenizer.py writes of a SentencePiece model."""

    def __init__(self, model, path):
        tokens = []
        for id in range(model.get_piece_size()):
            token = model.id_to_piece(id)
            token = {model.bos_id(): "\n<s>\n", model.eos_id(): "\n</s>\n"}.get(id, token).replace("▁", " ")
            tokens.append((token.encode(), model.get_score(id)))
        longest = max(len(token) for token, _ in tokens)
        path.write_bytes(struct.pack("<I", longest)
                         + b"".join(struct.pack("<fI", score, len(token)) + token for token, score in tokens))
        self.ids = {token: id for id, (token, _) in enumerate(tokens)}
        self.tokens = tokens

    def encode(self, text):
        ids = [self.ids[b" "]] if text else []
        for character in text:
            id = self.ids.get(character.encode())
            ids += [id] if id is not None else [byte + 3 for byte in character.encode()]
        while True:
            best = (-1e10, None, None)
            for i in range(len(ids) - 1):
                id = self.ids.get(self.tokens[ids[i]][0] + self.tokens[ids[i + 1]][0])
                if id is not None and self.tokens[id][1] > best[0]:
                    best = (self.tokens[id][1], id, i)
            if best[1] is None:
                return ids
            ids[best[2]:best[2] + 2] = [best[1]]


def byte_characters():
    """The byte of each character of byte-level tokens, as `bytes_to_unicode` of GPT-2 has it."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


def main():
    bpe = json.loads((GOLDEN / "bpe.tokenizer.json").read_text())["model"]
    to_byte = byte_characters()
    spelled = sorted((t for t in bpe["vocab"] if all(c in to_byte for c in t) and t != "<|endoftext|>"), key=bpe["vocab"].get)
    ranks = {bytes(to_byte[c] for c in token): rank for rank, token in enumerate(spelled)}
    (HERE / "tiny.tiktoken").write_bytes(b"".join(base64.b64encode(t) + b" %d\n" % r for t, r in ranks.items()))
    gpt2 = HERE / "gpt2"
    gpt2.mkdir(exist_ok=True)
    vocab = {token: id for id, token in enumerate([*spelled, "<|endoftext|>"])}
    (gpt2 / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (gpt2 / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(pair) + "\n" for pair in bpe["merges"]))
    pieces = json.loads((GOLDEN / "wordpiece.tokenizer.json").read_text())["model"]["vocab"]
    cased = sorted(pieces, key=pieces.get)
    (HERE / "cased.vocab.txt").write_text("".join(f"{token}\n" for token in cased))
    plain = dict.fromkeys(t if t.startswith("[") and len(t) > 1 else tokenizers.normalizers.BertNormalizer().normalize_str(t)
                          for t in cased)
    (HERE / "uncased.vocab.txt").write_text("".join(f"{token}\n" for token in plain if token.strip()))

    tik = tiktoken.Encoding("tiny", pat_str=CL100K, mergeable_ranks=ranks, special_tokens={})
    two = tiktoken.Encoding("gpt2", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": len(ranks)})
    models = sentencepiece_models()
    llama = Llama2c(models.pop("llama2c.model"), HERE / "llama2c.bin")
    (HERE / "llama2c.model").unlink()
    references = {
        "tiny.tiktoken": (lambda text: tik.encode(text), tik.decode),
        "gpt2": (lambda text: two.encode(text, allowed_special="all"), two.decode),
        "llama2c.bin": (llama.encode, None),
    }
    for name in ("cased", "uncased"):
        bert = transformers.BertTokenizer(vocab=str(HERE / f"{name}.vocab.txt"), do_lower_case=name == "uncased")
        references[f"{name}.vocab.txt"] = (lambda text, bert=bert: bert.encode(text, add_special_tokens=False), None)
    for name, model in models.items():
        references[name] = (model.encode, model.decode)

    packages = ["sentencepiece", "tiktoken", "tokenizers", "transformers"]
    expected = {"packages": {p: importlib.metadata.version(p) for p in packages}, "texts": TEXTS, "files": {}}
    with tempfile.TemporaryDirectory() as folder:
        texts = pathlib.Path(folder) / "texts.json"
        texts.write_text(json.dumps(TEXTS))
        for name, (encode, decode) in references.items():
            # llama2.c spells U+2581 in bytes; SentencePiece, which trained its models, takes it for a space, and so does the import.
            special = ["<s>", "</s>", "<unk>"] + ["▁"] * (name == "llama2c.bin") if name.endswith((".model", ".bin")) else ["<|endoftext|>"] if name == "gpt2" else []
            cases = []
            for text in TEXTS:
                # Spelled out, they become their ids here and not there; tiktoken agrees, but decodes them.
                has_special = any(token in text for token in special)
                if has_special and name != "gpt2" or "\0" in text:
                    cases.append({"ids": None, "decoded": None})
                    continue
                ids = encode(text)
                decoded = decode(ids) if decode and not has_special else None
                # SentencePiece shows the unknown as " ⁇ ", this crate as its token.
                cases.append({"ids": ids, "decoded": None if decoded is None or "⁇" in decoded else decoded})
            expected["files"][name] = cases
            saved = pathlib.Path(folder) / "tokenizer.json"
            pattern = [CL100K_PLAIN] if name == "tiny.tiktoken" else []
            run = ["cargo", "run", "--quiet", "--package", "taal-tokenizer", "--example", "import", "--", HERE / name, saved, texts]
            lines = subprocess.run([*run, *pattern], check=True, capture_output=True, text=True).stdout.split("\n")
            package = tokenizers.Tokenizer.from_file(str(saved))
            for text, line in zip(TEXTS, lines):
                theirs = package.encode(text, add_special_tokens=False).ids
                assert json.loads(line)[0] == theirs, (name, text)
    (HERE / "expected.json").write_text(json.dumps(expected, ensure_ascii=True, separators=(",", ":")) + "\n")


# The pattern of the import, without possessive repetitions.
CL100K_PLAIN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+\z|\s*[\r\n]|\s+(?!\S)|\s"
)

if __name__ == "__main__":
    main()
