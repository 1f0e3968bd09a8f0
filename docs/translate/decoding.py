"""Sentences per second of `taal translate` and of CTranslate2 with the same weights, texts, beams and threads, in turn.

    pip install ctranslate2 transformers torch zstandard
    taal export --model runs/translate-en-nl --to hf --out translator
    python docs/translate/decoding.py --model translator --taal target/release/taal

A program is asked for the first sentence and for all of them, and the difference of the times counts, so that starting and opening the model
do not. For the sentences alone (`--batch 1`) CTranslate2 gets one after another.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import ctranslate2
import tokenizers
import zstandard
from ctranslate2.converters import transformers as converters

HERE = pathlib.Path(__file__).resolve().parent


class Loader(converters.BartLoader):
    """Taal's translators in Marian's layout. CTranslate2's loader of Marian's own models lets the decoder begin with a vector of zeros."""

    @property
    def architecture_name(self):
        return "MarianMTModel"

    def get_model_spec(self, model):
        model.config.normalize_before = False
        model.config.normalize_embedding = False
        return super().get_model_spec(model)

    def set_config(self, config, model, tokenizer):
        token = tokenizer.convert_ids_to_tokens
        config.eos_token = token(model.config.eos_token_id)
        config.decoder_start_token = token(model.config.decoder_start_token_id)


def converted(model, out, kind):
    converters._MODEL_LOADERS["MarianConfig"] = Loader()
    converters.TransformersConverter(str(model)).convert(str(out), quantization=None if kind == "float32" else kind, force=True)


def sentences(path, count):
    if path.suffix == ".zst":
        text = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read().decode()
        lines = list(dict.fromkeys(json.loads(row)["en"] for row in text.splitlines()))
    else:
        lines = path.read_text().splitlines()
    return lines[:count]


def with_taal(given, lines, batch, beam, kind):
    command = [given.taal, "translate", given.model, "-", "--beam", str(beam), "--batch-size", str(batch)]
    # As CTranslate2, which stops at the end of its table of positions.
    command += ["--max-tokens", str(json.loads((given.model / "config.json").read_text())["max_position_embeddings"])]
    if kind == "int8":
        command += ["--weights", "q8_0"]
    environment = os.environ | {"RAYON_NUM_THREADS": str(given.threads)}
    began = time.monotonic()
    out = subprocess.run(command, input="\n".join(lines) + "\n", text=True, env=environment, capture_output=True, check=True).stdout
    return time.monotonic() - began, out.splitlines()


class Other:
    def __init__(self, given, kind, folder):
        converted(given.model, folder, kind)
        self.longest = json.loads((given.model / "config.json").read_text())["max_position_embeddings"]
        self.tokenizer = tokenizers.Tokenizer.from_file(str(given.model / "tokenizer.json"))
        self.translator = ctranslate2.Translator(str(folder), compute_type=kind, inter_threads=1, intra_threads=given.threads)

    def translate(self, lines, batch, beam):
        began = time.monotonic()
        sources = [self.tokenizer.encode(line).tokens for line in lines]
        groups = [[source] for source in sources] if batch == 1 else [sources]
        results = []
        for group in groups:
            results += self.translator.translate_batch(
                group, beam_size=beam, max_batch_size=batch, max_decoding_length=self.longest
            )
        ids = [[self.tokenizer.token_to_id(token) for token in result.hypotheses[0]] for result in results]
        out = self.tokenizer.decode_batch(ids)
        return time.monotonic() - began, out


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", required=True, type=pathlib.Path)
    arguments.add_argument("--taal", default="taal")
    arguments.add_argument("--texts", type=pathlib.Path, default=HERE.parent.parent / "crates/data/corpora/tatoeba-en-nl/test.jsonl.zst")
    arguments.add_argument("--count", type=int, default=512)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    arguments.add_argument("--beam", type=int, nargs="+", default=[1, 5])
    arguments.add_argument("--kind", nargs="+", default=["float32", "int8"])
    arguments.add_argument("--turns", type=int, default=3)
    given = arguments.parse_args()
    lines = sentences(given.texts, given.count)
    print(f"{len(lines)} sentences, {given.threads} threads, median of {given.turns}, sentences per second")
    print("| weights | at once | beams | Taal | CTranslate2 | ratio (lowest to highest) | equal translations |\n|---|---|---|---|---|---|---|")
    for kind in given.kind:
        with tempfile.TemporaryDirectory() as folder:
            other = Other(given, kind, pathlib.Path(folder) / "ct2")
            for batch in given.batch:
                for beam in given.beam:
                    speeds = []
                    for _ in range(given.turns):
                        start, _ = with_taal(given, lines[:1], batch, beam, kind)
                        ours, mine = with_taal(given, lines, batch, beam, kind)
                        other.translate(lines[:1], batch, beam)
                        theirs, others = other.translate(lines, batch, beam)
                        speeds.append(((len(lines) - 1) / (ours - start), len(lines) / theirs))
                    ours, theirs = (statistics.median(speed) for speed in zip(*speeds))
                    ratios = sorted(a / b for a, b in speeds)
                    equal = sum(a.strip() == b.strip() for a, b in zip(mine, others, strict=True)) / len(lines)
                    print(f"| {kind} | {batch} | {beam} | {ours:.1f} | {theirs:.1f} | {statistics.median(ratios):.2f} "
                          f"({ratios[0]:.2f} to {ratios[-1]:.2f}) | {equal:.1%} |", flush=True)


if __name__ == "__main__":
    main()
