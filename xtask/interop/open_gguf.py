"""Open GGUF files that Taal wrote with llama.cpp and write what it computes: `open_gguf.py FOLDER`.

For each `FOLDER/FAMILY/CASE/model.gguf` with an `ids.json`, writes `llama.cpp.bin`, the logits of all samples as fp32, or `llama.cpp.error`
where the package `gguf` or llama.cpp does not open it, or they find other tensors.
"""

import json
import pathlib
import sys

import gguf
import numpy as np
from llama_cpp import Llama, llama_cpp

FP32 = 0

default_params = llama_cpp.llama_model_default_params


def plain_params():
    """Without the weights in other buffers, whose AMX kernels crash on some CPUs that have AMX."""
    params = default_params()
    params.use_extra_bufts = False
    return params


llama_cpp.llama_model_default_params = plain_params


def logits_of(model, rows):
    for ids in rows:
        model.reset()
        model.eval(ids)
        yield np.array(model.scores[: len(ids)])


def main():
    for path in sorted(pathlib.Path(sys.argv[1]).glob("*/*/ids.json")):
        case = path.parent
        try:
            samples = json.loads(path.read_text())
            tensors = gguf.GGUFReader(case / "model.gguf").tensors
            if not all(np.isfinite(tensor.data).all() for tensor in tensors):
                raise ValueError("not all values are finite")
            longest = max(len(row) for sample in samples for row in sample["input_ids"])
            # Keys and values in fp32, like everything else; the default is fp16.
            model = Llama(str(case / "model.gguf"), n_ctx=longest, n_batch=longest, n_threads=1, logits_all=True, verbose=False,
                          type_k=FP32, type_v=FP32)
            logits = [row for sample in samples for row in logits_of(model, sample["input_ids"])]
            np.concatenate([row.ravel() for row in logits]).astype("<f4").tofile(case / "llama.cpp.bin")
        except Exception as error:  # A failed case is a row of the table; the others are still compared.
            (case / "llama.cpp.error").write_text(f"{type(error).__name__}: {error}")


main()
