"""Open models that Taal wrote with Hugging Face `transformers` and write what they compute: `open_models.py FOLDER`.

For each `FOLDER/FAMILY/CASE` with an `ids.json`, writes `transformers.bin`, as `make_models.py` does, or `transformers.error` where the
directory does not open, or opens with tensors that are missing, left over or of another shape.
"""

import json
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from make_models import logits_of

CAUSAL = ("gpt2", "llama", "mistral", "qwen2", "qwen3")


def opened(folder, is_causal):
    model_class = AutoModelForCausalLM if is_causal else AutoModelForMaskedLM
    model, info = model_class.from_pretrained(
        folder, output_loading_info=True, dtype=torch.float32, attn_implementation="eager", local_files_only=True)
    wrong = {kind: names for kind, names in info.items() if names}
    if wrong:
        raise ValueError(f"not all tensors were taken: {wrong}")
    return model.eval()


def main():
    torch.set_num_threads(1)
    for ids in sorted(pathlib.Path(sys.argv[1]).glob("*/*/ids.json")):
        case = ids.parent
        try:
            model = opened(case, case.parent.name in CAUSAL)
            logits = [logits_of(model, sample).flatten() for sample in json.loads(ids.read_text())]
            torch.cat(logits).numpy().astype("<f4").tofile(case / "transformers.bin")
        except Exception as error:  # A failed case is a row of the table; the others are still compared.
            (case / "transformers.error").write_text(f"{type(error).__name__}: {error}")


main()
