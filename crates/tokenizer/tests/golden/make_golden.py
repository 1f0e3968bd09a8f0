"""Trains a tokenizer of each kind with this crate and records what the Python package makes of it.

    python crates/tokenizer/tests/golden/make_golden.py      # with the package `tokenizers` installed, from the repository's root

Writes KIND.tokenizer.json and expected.json next to this script. A new expected.json is only right when the Rust test passes on it: the
test is that both sides agree.
"""

import json
import pathlib
import platform
import subprocess

import tokenizers

HERE = pathlib.Path(__file__).parent
VOCAB_SIZES = {"bpe": 600, "wordpiece": 600, "unigram": 600, "char": 200, "word": 600}

TEXTS = [
    "",
    " ",
    "De kat krabt de krullen van de trap.",
    "  twee spaties ervoor, en erna  ",
    "It's what we'd call a test, isn't it? 'Twas 1999's 3.14",
    "coördinatie, één, ideeën, naïef, Curaçao, IJsselmeer, Ĳsselmeer",
    "e\u0301e\u0301n met losse accenten, n\u0303, a\u030a\u0323",
    "regel een\r\nregel twee\r\n\r\nregel vier\rvijf\u2028zes\u0085zeven\u000bacht\u000cnegen",
    "\ttab\t\ttabs\t \t gemengd \n\n\n einde\n",
    "emoji 😀👍🏽 👩‍👩‍👧‍👦 🇳🇱 ❤️ ☃",
    "nul\u200bbreed\u200cen\u200dverbonden\u2060woord\ufeff",
    "niet\u00a0breken\u202fsmal\u3000breed",
    "Ⅳ ² ½ ① Ⓐ ﬁ 𝒜 ٣ ९ ªº",
    "日本語 한국어 ไทย हिन्दी العربية עברית ελληνικά Привет",
    "sparkline ▁▂▃▄▅▆▇█ en ▁▁",
    "letterlijk <0x41> <0xZZ> <0x0A>",
    "<|endoftext|> <s>tekst</s> [CLS][SEP] [UNK] <unk>[PAD]",
    "## ##ing #hash a##b",
    "https://voorbeeld.nl/pad?q=1&r=%20#fragment info@voorbeeld.nl",
    "def f(x):\n    return x ** 2  # kwadraat\n",
    "a" * 300,
    " " * 300 + "x",
    "\n" * 100 + "y",
    "woord " * 60,
    "!?!?...---___***" * 5,
    "\u0001\u0007\u001b[0m\u007f\u0080",
    "ǅ ẞ ß İ ı ſ",
]


def record(call):
    """The result, or None where the package raises an exception."""
    try:
        return call()
    except Exception:  # the package's exceptions are plain ones
        return None


def decode(tokenizer, ids):
    """Without special tokens, but with the unknown token, which this crate keeps so that nothing is lost in silence."""
    special = {token_id for token_id, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    kept = [i for i in ids if i not in special or tokenizer.id_to_token(i) in ("[UNK]", "<unk>")]
    return tokenizer.decode(kept, skip_special_tokens=False)


def main():
    expected = {"tokenizers": tokenizers.__version__, "python": platform.python_version(), "texts": TEXTS, "kinds": {}}
    for kind, vocab_size in VOCAB_SIZES.items():
        path = HERE / f"{kind}.tokenizer.json"
        train = ["cargo", "run", "--quiet", "--package", "taal-tokenizer", "--example", "train", "--"]
        subprocess.run([*train, kind, str(vocab_size), path, HERE / "corpus.txt"], check=True)
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
        cases = []
        for text in TEXTS:
            ids = record(lambda: tokenizer.encode(text, add_special_tokens=False).ids)
            with_special = record(lambda: tokenizer.encode(text, add_special_tokens=True).ids)
            decoded = None if ids is None else decode(tokenizer, ids)
            cases.append({"ids": ids, "with_special": with_special, "decoded": decoded})
        expected["kinds"][kind] = cases
    (HERE / "expected.json").write_text(json.dumps(expected, ensure_ascii=True, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
