"""Make sampling.json: what transformers' logits processors leave of given logits, and with what probability.

Run from any folder: `python make_sampling.py` (needs torch and transformers). All numbers are random and made here.

The processors run in transformers' own order, on 64-bit floats. Presence and frequency penalties, which transformers lacks, are
OpenAI's formula over the new tokens and come after the repetition penalty, as in vLLM.
"""

import itertools
import json
import pathlib

import torch
import transformers
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)


class Penalties(LogitsProcessor):
    def __init__(self, prompt_len, frequency, presence):
        self.prompt_len, self.frequency, self.presence = prompt_len, frequency, presence

    def __call__(self, input_ids, scores):
        counts = torch.bincount(input_ids[0, self.prompt_len:], minlength=scores.shape[-1]).to(scores)
        return scores - counts * self.frequency - (counts > 0).to(scores) * self.presence


def processors(sampling, prompt_len):
    made = LogitsProcessorList()
    if bias := sampling.get("logit_bias"):
        made.append(SequenceBiasLogitsProcessor([[[int(id)], value] for id, value in bias.items()]))
    if (penalty := sampling.get("repetition_penalty", 1.0)) != 1.0:
        made.append(RepetitionPenaltyLogitsProcessor(penalty))
    penalties = sampling.get("frequency_penalty", 0.0), sampling.get("presence_penalty", 0.0)
    if any(penalties):
        made.append(Penalties(prompt_len, *penalties))
    for key, warper in [("temperature", TemperatureLogitsWarper), ("top_k", TopKLogitsWarper), ("top_p", TopPLogitsWarper),
                        ("min_p", MinPLogitsWarper), ("typical_p", TypicalLogitsWarper)]:
        if key in sampling:
            made.append(warper(sampling[key]))
    return made


def settings():
    single = {
        "logit_bias": [{"3": -100.0}, {"0": 2.5, "7": -1.25, "30": 4.0}],
        "repetition_penalty": [0.5, 1.3, 8.0],
        "frequency_penalty": [-0.75, 0.5, 2.0],
        "presence_penalty": [-2.0, 0.75],
        "temperature": [0.3, 0.8, 2.5],
        "top_k": [1, 5, 1000],
        "top_p": [0.05, 0.5, 0.95],
        "min_p": [0.02, 0.3],
        "typical_p": [0.1, 0.5, 0.95],
    }
    yield {}
    for key, values in single.items():
        yield from ({key: value} for value in values)
    for left, right in itertools.combinations(single, 2):
        yield {left: single[left][-1], right: single[right][len(single[right]) // 2]}
    yield {"logit_bias": {"5": 1.5, "9": -3.0}, "repetition_penalty": 1.2, "frequency_penalty": 0.3, "presence_penalty": 0.4,
           "temperature": 0.9, "top_k": 20, "top_p": 0.97, "min_p": 0.01, "typical_p": 0.9}


if __name__ == "__main__":
    draw = torch.Generator().manual_seed(19)
    vectors = {
        "flat": torch.randn(40, generator=draw),
        "peaked": 4 * torch.randn(61, generator=draw),
        "one token": torch.cat([torch.randn(32, generator=draw), torch.tensor([25.0])]),
    }
    prompt, new = [1, 5, 5, 12, 30], [2, 7, 7, 7, 12, 9]
    ids = torch.tensor([prompt + new])
    cases = []
    for (name, logits), sampling in itertools.product(vectors.items(), settings()):
        scores = processors(sampling, len(prompt))(ids, logits.double().unsqueeze(0))[0]
        kept = [id for id, score in enumerate(scores.tolist()) if score > float("-inf")]
        found = scores.softmax(-1)[kept].tolist()
        cases.append({"vector": name, "sampling": sampling, "ids": kept, "probabilities": [float(f"{p:.10g}") for p in found]})
    file = {
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "vectors": {name: logits.tolist() for name, logits in vectors.items()},
        "prompt": prompt,
        "new": new,
    }
    lines = ",\n".join(json.dumps(case) for case in cases)
    text = json.dumps(file)[:-1] + ', "cases": [\n' + lines + "\n]}\n"
    (pathlib.Path(__file__).parent / "sampling.json").write_text(text, encoding="utf-8")
