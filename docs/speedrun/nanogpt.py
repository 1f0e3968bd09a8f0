"""nanoGPT's CPU recipe (train_shakespeare_char.py with the README's CPU flags) in plain PyTorch, timed to a loss.

The same split, loss and estimator as Taal's: the last 10 % of the characters, the mean over every target of the split in
windows of 64 that do not overlap, the first character unscored. It is evaluated every 250 steps, as nanoGPT does, and the
run ends at the first evaluation with at most --loss, or after 2,000 steps.

    python nanogpt.py --data input.txt --seed 1337 --loss 1.92

Prints one JSON object: reached, val_loss, step, seconds since the process began.
"""

import argparse
import json
import math
import time

BEGAN = time.time()

import torch
import torch.nn as nn
import torch.nn.functional as F

LAYERS, HEADS, WIDTH, BLOCK, BATCH = 4, 4, 128, 64, 12
STEPS, WARMUP, RATE, MIN_RATE, EVERY = 2000, 100, 1e-3, 1e-4, 250


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, bias=False)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.norm2 = nn.LayerNorm(WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x):
        batch, length, _ = x.shape
        heads = [part.view(batch, length, HEADS, -1).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, 2)]
        mixed = F.scaled_dot_product_attention(*heads, is_causal=True).transpose(1, 2).reshape(batch, length, WIDTH)
        x = x + self.out(mixed)
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, WIDTH)
        self.positions = nn.Embedding(BLOCK, WIDTH)
        self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * LAYERS) if residual else 0.02)

    def forward(self, ids):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.tokens.weight)


def rate_at(step):
    if step < WARMUP:
        return RATE * (step + 1) / (WARMUP + 1)
    share = (step - WARMUP) / (STEPS - WARMUP)
    return MIN_RATE + 0.5 * (1 + math.cos(math.pi * share)) * (RATE - MIN_RATE)


@torch.no_grad()
def whole_split_loss(model, ids):
    nats, count = 0.0, 0
    windows = [ids[start : start + BLOCK + 1] for start in range(0, len(ids) - 1, BLOCK)]
    whole = [window for window in windows if len(window) == BLOCK + 1]
    rest = [window for window in windows if 1 < len(window) < BLOCK + 1]
    batches = [torch.stack(whole[start : start + 64]) for start in range(0, len(whole), 64)]
    for batch in batches + [window[None] for window in rest]:
        logits = model(batch[:, :-1])
        targets = batch[:, 1:].reshape(-1)
        nats += F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets, reduction="sum").item()
        count += targets.numel()
    return nats / count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--loss", type=float, default=1.92)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)

    text = open(arguments.data, encoding="utf-8").read()
    characters = sorted(set(text))
    index = {character: number for number, character in enumerate(characters)}
    cut = int(0.9 * len(text))
    train, validation = (torch.tensor([index[c] for c in part]) for part in (text[:cut], text[cut:]))

    model = Gpt(len(characters))
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.99), fused=True)
    step, loss = 0, float("inf")
    while step < arguments.steps and loss > arguments.loss:
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step)
        starts = torch.randint(len(train) - BLOCK, (BATCH,))
        ids = torch.stack([train[start : start + BLOCK + 1] for start in starts])
        logits = model(ids[:, :-1])
        F.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % EVERY == 0 or step == arguments.steps:
            loss = whole_split_loss(model, validation)
    found = {"reached": loss <= arguments.loss, "val_loss": loss, "step": step, "seconds": time.time() - BEGAN}
    print(json.dumps(found))


main()
