"""Make `dpo.json`: the loss of DPO and its gradients on ten pairs, as trl's `DPOTrainer` computes them (`loss_type="sigmoid"`).

Run from any folder: `python make_dpo.py` (needs torch, transformers, safetensors; CPU, fp32). trl's formula is written out
here, so that trl itself is not needed: `logits = (pi_chosen - pi_rejected) - (ref_chosen - ref_rejected)`,
`loss = -logsigmoid(beta * logits) * (1 - label_smoothing) - logsigmoid(-beta * logits) * label_smoothing`, and the mean over
pairs; each of the four is the sum of the log-probabilities of the answer's tokens.

The policy is the golden model `llama-untied` of the model crate, the reference `llama-tied`.
"""

import json
import pathlib

import torch
from torch.nn.functional import log_softmax, logsigmoid
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
MODELS = HERE / "../../../model/tests/golden"
PAIRS = 10


def open_model(name):
    return AutoModelForCausalLM.from_pretrained(MODELS / name, attn_implementation="eager").eval()


def log_prob(model, prompt, answer):
    logits = model(input_ids=torch.tensor([prompt + answer])).logits[0]
    log_probs = log_softmax(logits, dim=-1)
    places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
    return sum(log_probs[place, token] for place, token in zip(places, answer))


def main():
    generator = torch.Generator().manual_seed(1)
    draw = lambda low, high: int(torch.randint(low, high, (1,), generator=generator))
    ids = lambda count: [draw(1, 50) for _ in range(count)]
    pairs = [dict(prompt=ids(draw(1, 6)), chosen=ids(draw(1, 8)), rejected=ids(draw(1, 8))) for _ in range(PAIRS)]
    policy, reference = open_model("llama-untied"), open_model("llama-tied")
    cases = []
    for beta, smoothing in [(0.1, 0.0), (0.5, 0.2)]:
        policy.zero_grad()
        losses, margins = [], []
        for pair in pairs:
            side = lambda model, key: log_prob(model, pair["prompt"], pair[key])
            with torch.no_grad():
                ref = side(reference, "chosen") - side(reference, "rejected")
            logits = side(policy, "chosen") - side(policy, "rejected") - ref
            margins.append(logits.item())
            losses.append(-logsigmoid(beta * logits) * (1 - smoothing) - logsigmoid(-beta * logits) * smoothing)
        loss = torch.stack(losses).mean()
        loss.backward()
        gradients = {name: parameter.grad.norm().item() for name, parameter in policy.named_parameters()}
        cases.append(dict(
            beta=beta, label_smoothing=smoothing, loss=loss.item(), margins=margins, gradient_norms=gradients,
            final_norm_gradient=policy.model.norm.weight.grad.tolist()))
    result = dict(torch=torch.__version__, pairs=pairs, cases=cases)
    (HERE / "dpo.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
