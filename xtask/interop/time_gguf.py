"""Time llama.cpp with a GGUF file: `time_gguf.py FILE THREADS PROMPT TOKENS TYPE`.

Reads PROMPT tokens at once and decodes TOKENS one by one after them, greedily, with keys and values in fp32 or fp16 (TYPE), and prints a JSON
object: prefill and decode tokens per second, the latter at the median step, as `taal bench generate` reports them.
"""

import json
import statistics
import sys
import time

import llama_cpp
import numpy as np
from llama_cpp import Llama

TYPES = {"f32": 0, "f16": 1}


def main():
    path, threads, prompt, tokens, kind = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5]
    model = Llama(path, n_ctx=prompt + tokens + 1, n_batch=max(prompt, 1), n_ubatch=max(prompt, 1), n_threads=threads, n_threads_batch=threads,
                  verbose=False, type_k=TYPES[kind], type_v=TYPES[kind])
    vocabulary = model.n_vocab()
    ids = [i * 7919 % vocabulary for i in range(prompt)]
    model.eval(ids)  # warm-up
    model.reset()
    begin = time.perf_counter()
    model.eval(ids)
    prefill = time.perf_counter() - begin
    times = []
    for _ in range(tokens):
        begin = time.perf_counter()
        logits = llama_cpp.llama_get_logits_ith(model.ctx, -1)
        likeliest = int(np.ctypeslib.as_array(logits, shape=(vocabulary,)).argmax())
        model.eval([likeliest])
        times.append(time.perf_counter() - begin)
    print(json.dumps({"prefill": prompt / prefill, "decode": 1 / statistics.median(times)}))


main()
