"""Make beams.json: what transformers' beam search finds on given logits.

Run from any folder: `python make_beams.py` (needs torch and transformers). All numbers are random and made here. The logits of the next
token depend only on the last token, so that a table of them is the whole model.
"""

import json
import pathlib
import random

import torch
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

PROMPT = 0  # Row 0 of the table; the row of id i is i + 1. In the model, ids are rows.


class Table(PreTrainedModel, GenerationMixin):
    config_class = PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, config, logits):
        super().__init__(config)
        self.logits = torch.nn.Parameter(logits)

    def prepare_inputs_for_generation(self, input_ids, **_):
        return {"input_ids": input_ids}

    def forward(self, input_ids, **_):
        after = self.logits[input_ids]  # [batch, seq, ids]
        # The prompt's row is no id that can be generated.
        never = torch.full((*after.shape[:2], 1), float("-inf"))
        return CausalLMOutput(logits=torch.cat([never, after], dim=-1))


def case(random_, generator):
    ids = random_.choice([5, 8, 13])
    ends = random_.choice([[], [0], [0, 2]])
    logits = (torch.randn(ids + 1, ids, generator=generator) * 1.5).round(decimals=3)
    width = random_.choice([2, 3, 4, 6])
    max_tokens = random_.choice([1, 2, 5, 9])
    settings = {
        "width": width,
        "length_penalty": random_.choice([0.0, 1.0, 1.5, -0.5]),
        "early_stopping": random_.choice([False, True, "never"]),
        "max_tokens": max_tokens,
        "ends": ends,
        "logits": [[round(value, 3) for value in row] for row in logits.tolist()],
    }
    model = Table(PretrainedConfig(vocab_size=ids + 1, is_encoder_decoder=False), logits)
    config = GenerationConfig(
        num_beams=width, num_return_sequences=width, do_sample=False, length_penalty=settings["length_penalty"],
        early_stopping=settings["early_stopping"], max_new_tokens=max_tokens, use_cache=False, pad_token_id=0,
        eos_token_id=[end + 1 for end in ends] or None, return_dict_in_generate=True, output_scores=True)
    found = model.generate(torch.tensor([[PROMPT]]), generation_config=config)
    beams = []
    for row, score in zip(found.sequences.tolist(), found.sequences_scores.tolist()):
        new = [id - 1 for id in row[1:]]
        for place, id in enumerate(new):
            if id in ends:
                new = new[:place + 1]
                break
        beams.append([[id for id in new if id >= 0], round(score, 6)])
    return settings | {"beams": beams}


def main():
    random_, generator = random.Random(3), torch.Generator().manual_seed(3)
    cases = []
    while len(cases) < 120:
        made = case(random_, generator)
        # An unfilled place has a score of about -1e9.
        if all(score > -1e6 for _, score in made["beams"]):
            cases.append(made)
    path = pathlib.Path(__file__).parent / "beams.json"
    path.write_text("[" + ",\n".join(json.dumps(case) for case in cases) + "]\n")


main()
