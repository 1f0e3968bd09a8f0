"""Makes the files of a small Marian model, two SentencePiece models and one list of ids, and records the ids of its tokenizer in transformers.

    python crates/tokenizer/tests/golden/import/make_marian.py      # from the repository's root

Needs the packages sentencepiece and transformers.
"""

import contextlib
import importlib.metadata
import json
import pathlib
import tempfile

import sentencepiece
import transformers

HERE = pathlib.Path(__file__).resolve().parent / "marian"
SIDES = {
    "source": [
        "The cat sat on the mat and the other cat sat on the chair.",
        "She wanted to know whether the other children were there.",
        "They were there with their mother and their father.",
        "What is the weather like there, and where are the others?",
        "Nothing is better than the weather of this winter.",
        "The teacher thinks that nothing happens in the winter.",
    ],
    "target": [
        "De kat zat op de mat en de andere kat zat op de stoel.",
        "Ze wilde weten of de andere kinderen er waren.",
        "Ze waren er met hun moeder en hun vader.",
        "Wat voor weer is het daar, en waar zijn de anderen?",
        "Niets is beter dan het weer van deze winter.",
        "De leraar denkt dat er niets gebeurt in de winter.",
    ],
}
TEXTS = [text for side in SIDES.values() for text in side] + [
    "", "the", "de winter", "  twee  spaties ", "the other winter in the weather", "deze kinderen zijn hier in the weather",
    "één 猫", "They were wachten.", ">>nld<< The cat", "Zij zag Vera.",
]


def main():
    HERE.mkdir(exist_ok=True)
    pieces = []
    # A model keeps the paths it was trained with, so these have no folder.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for side, texts in SIDES.items():
            pathlib.Path(f"{side}.txt").write_text("".join(f"{text}\n" for text in texts))
            sentencepiece.SentencePieceTrainer.train(
                input=f"{side}.txt", model_prefix=side, model_type="unigram", vocab_size=90, hard_vocab_limit=False, num_threads=1,
                minloglevel=2, normalization_rule_name="identity")
            (HERE / f"{side}.spm").write_bytes(pathlib.Path(f"{side}.model").read_bytes())
            model = sentencepiece.SentencePieceProcessor(model_file=f"{side}.model")
            own = (model.id_to_piece(id) for id in range(model.get_piece_size()) if not (model.is_control(id) or model.is_unknown(id)))
            pieces += [piece for piece in own if piece not in pieces]
    # As Marian orders them: the end and the unknown token first, padding last.
    names = ["</s>", "<unk>", *pieces, ">>nld<<", "<pad>"]
    (HERE / "vocab.json").write_text(json.dumps({name: id for id, name in enumerate(names)}, ensure_ascii=False) + "\n")
    tokenizer = transformers.MarianTokenizer(
        source_spm=str(HERE / "source.spm"), target_spm=str(HERE / "target.spm"), vocab=str(HERE / "vocab.json"))
    cases = [{"text": text, "source": tokenizer(text).input_ids, "target": tokenizer(text_target=text).input_ids} for text in TEXTS]
    packages = {name: importlib.metadata.version(name) for name in ("sentencepiece", "transformers")}
    lines = ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases)
    (HERE / "expected.json").write_text(f'{{"packages": {json.dumps(packages)}, "cases": [\n{lines}\n]}}\n')
    print(len(names), "tokens;", sum(case["source"] != case["target"] for case in cases), "of", len(cases), "texts are split in two ways")


if __name__ == "__main__":
    main()
