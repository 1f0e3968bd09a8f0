"""Write blocks.txt: one block per type whose layout llama.cpp defines, and the values that the package `gguf` reads from it.

Run from any folder: `python make_blocks.py` (needs gguf, numpy). A line per type: name, bytes in hexadecimal, values.
"""

import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

SCALES = {"Q8_0": [0], "Q4_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}

lines = []
for name, scales in SCALES.items():
    size = gguf.GGML_QUANT_SIZES[Type[name]][1]
    block = np.array([(i * i * 37 + i * 101 + 11) % 256 for i in range(size)], dtype=np.uint8)
    for place in scales:
        block[place : place + 2] = np.frombuffer(np.float16(0.0123 + place / 1000).tobytes(), dtype=np.uint8)
    values = gguf.quants.dequantize(block, Type[name])
    lines.append(f"{name} {block.tobytes().hex()} {' '.join(repr(float(value)) for value in values)}")
pathlib.Path(__file__).with_name("blocks.txt").write_text("\n".join(lines) + "\n")
