"""Write `blocks.json` next to this script: blocks of llama.cpp's types that the package `gguf` reads and does not write.

Run from any folder: `python make_blocks.py` (needs gguf, numpy). By type: its number in a GGUF file, and two blocks of random bytes with
their values as `gguf.quants.dequantize` gives them, both in hexadecimal digits (values as little-endian fp32).
"""

import importlib.metadata
import json
import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

# By type: where a block has its 16-bit floats, which must be finite.
HALVES = {Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2],
          Type.Q6_K: [208], Type.IQ4_NL: [0], Type.IQ4_XS: [0]}


def main():
    random = np.random.default_rng(7)
    types = {}
    for kind, places in HALVES.items():
        size = gguf.GGML_QUANT_SIZES[kind][1]
        blocks = random.integers(0, 256, (2, size), dtype=np.uint8)
        for place in places:
            scales = random.normal(0, 0.02, (2, 1)).astype(np.float16)
            blocks[:, place:place + 2] = scales.view(np.uint8)
        values = gguf.quants.dequantize(blocks, kind).astype("<f4")
        types[kind.name] = {"number": int(kind), "bytes": blocks.tobytes().hex(), "values": values.tobytes().hex()}
    versions = {package: importlib.metadata.version(package) for package in ("gguf", "numpy")}
    text = json.dumps({"made_with": versions, "types": types}, indent=0)
    (pathlib.Path(__file__).parent / "blocks.json").write_text(text + "\n")


main()
