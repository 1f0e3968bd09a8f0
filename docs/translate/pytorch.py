"""The recipe `translate-en-nl` in PyTorch: the same shape, tokenizer, pairs, batches by length and time, and the same BLEU.

    pip install torch tokenizers sacrebleu zstandard
    python docs/translate/pytorch.py --tokenizer runs/translate-en-nl/model/tokenizer.json --minutes 60

The encoder and the decoder have three blocks each of width 256 in Marian's shape: LayerNorm after each residual sum, sinusoidal positions,
swish, biases, one scaled embedding for both sides and the output. The rate rises for a fifth of the time (with a rise of 4 % AdamW did not
learn to read the source) and falls to 0 on a straight line. The weights that are tested are the mean of five states, taken every
`--average-every` minutes up to the end. The clock covers training with its evaluations, not reading the data and not the translations of
the test.

`--steps N` makes so many steps instead of going by the clock, as many as an idle machine makes in `--minutes`, so that the result does not
depend on what else a machine does; minutes are then shares of the steps. `--bf16` computes products in bfloat16 (autocast) in training.
"""

import argparse
import json
import math
import pathlib
import random
import time

import sacrebleu
import tokenizers
import torch
import torch.nn as nn
import torch.nn.functional as F
import zstandard

HERE = pathlib.Path(__file__).resolve().parent
IGNORE = -100
# Of all matrices but those into the residual sums, which begin at 0.
INIT_STD = 0.0625


def rows(path, source, target):
    text = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read().decode()
    return [(row[source], row[target]) for row in map(json.loads, text.splitlines())]


def linear(inputs, outputs, std):
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=std) if std else nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Attention(nn.Module):
    """Multi-head attention with one projection for queries and one for keys and values."""

    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q, self.kv = linear(width, width, INIT_STD), linear(width, 2 * width, INIT_STD)
        self.out = linear(width, width, 0.0)

    def forward(self, x, memory=None, mask=None, is_causal=False):
        batch, length, width = x.shape
        split = lambda t: t.view(batch, -1, self.heads, width // self.heads).transpose(1, 2)
        q = split(self.q(x))
        k, v = map(split, self.kv(x if memory is None else memory).chunk(2, dim=-1))
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal, dropout_p=dropout)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    def __init__(self, width, heads, dropout, has_cross):
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.cross = Attention(width, heads, dropout) if has_cross else None
        self.up, self.down = linear(width, 4 * width, INIT_STD), linear(4 * width, width, 0.0)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if has_cross else 2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, mask=None, memory=None, memory_mask=None):
        x = self.norms[0](x + self.dropout(self.attention(x, mask=mask, is_causal=memory is not None)))
        if memory is not None:
            x = self.norms[2](x + self.dropout(self.cross(x, memory=memory, mask=memory_mask)))
        return self.norms[1](x + self.dropout(self.down(F.silu(self.up(x)))))


class Translator(nn.Module):
    def __init__(self, vocabulary, width=256, heads=4, layers=3, dropout=0.2, longest=64):
        super().__init__()
        self.embedding, self.bias = nn.Embedding(vocabulary, width), nn.Parameter(torch.zeros(vocabulary))
        nn.init.normal_(self.embedding.weight, std=INIT_STD)
        self.encoder = nn.ModuleList(Block(width, heads, dropout, False) for _ in range(layers))
        self.decoder = nn.ModuleList(Block(width, heads, dropout, True) for _ in range(layers))
        self.dropout, self.scale = nn.Dropout(dropout), width**0.5
        angles = torch.outer(torch.arange(4 * longest).float(), 10000.0 ** (-torch.arange(0, width, 2) / width))
        self.register_buffer("positions", torch.cat((angles.sin(), angles.cos()), 1))

    def embedded(self, ids):
        return self.dropout(self.scale * self.embedding(ids) + self.positions[: ids.shape[1]])

    def encode(self, source, lengths):
        mask = (torch.arange(source.shape[1])[None] < lengths[:, None])[:, None, None]
        x = self.embedded(source)
        for block in self.encoder:
            x = block(x, mask=mask)
        return x, mask

    def decode(self, ids, memory, mask):
        x = self.embedded(ids)
        for block in self.decoder:
            x = block(x, memory=memory, memory_mask=mask)
        return x

    def logits(self, hidden):
        return hidden @ self.embedding.weight.T + self.bias


def padded(lists, value):
    longest = max(map(len, lists))
    return torch.tensor([ids + [value] * (longest - len(ids)) for ids in lists])


class Pairs:
    """Pairs as ids: a source between two end-of-text tokens, a target with one after it. Longer than `longest` on one side: left out."""

    def __init__(self, tokenizer, pairs, end, longest):
        encode = lambda texts: [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
        sources = [[end, *ids, end] for ids in encode([source for source, _ in pairs])]
        targets = [[*ids, end] for ids in encode([target for _, target in pairs])]
        self.pairs = [pair for pair in zip(sources, targets) if max(map(len, pair)) <= longest]
        self.end = end

    def batches(self, positions, shuffle=None):
        """Batches of similar lengths: rows times the longest source and target are at most `positions`."""
        order = list(range(len(self.pairs)))
        if shuffle:
            shuffle.shuffle(order)
        order.sort(key=lambda i: (len(self.pairs[i][1]), len(self.pairs[i][0])))
        batches, batch, longest = [], [], [0, 0]
        for i in order:
            grown = [max(longest[side], len(self.pairs[i][side])) for side in (0, 1)]
            if batch and (len(batch) + 1) * sum(grown) > positions:
                batches.append(batch)
                batch, grown = [], [len(self.pairs[i][side]) for side in (0, 1)]
            batch.append(i)
            longest = grown
        batches.append(batch)
        if shuffle:
            shuffle.shuffle(batches)
        return batches

    def tensors(self, batch):
        sources, targets = zip(*(self.pairs[i] for i in batch))
        inputs = padded([[self.end, *ids[:-1]] for ids in targets], self.end)
        return padded(sources, self.end), torch.tensor([len(ids) for ids in sources]), inputs, padded(targets, IGNORE)


def loss_of(model, tensors, smoothing):
    source, lengths, inputs, targets = tensors
    hidden = model.decode(inputs, *model.encode(source, lengths))
    counted = targets.flatten() != IGNORE
    logits = model.logits(hidden.flatten(0, 1)[counted])
    return F.cross_entropy(logits.float(), targets.flatten()[counted], label_smoothing=smoothing), int(counted.sum())


@torch.no_grad()
def validation_loss(model, pairs, positions):
    model.eval()
    nats = tokens = 0
    for batch in pairs.batches(positions):
        loss, counted = loss_of(model, pairs.tensors(batch), 0.0)
        nats, tokens = nats + loss.item() * counted, tokens + counted
    model.train()
    return nats / tokens


@torch.no_grad()
def translate(model, sources, end, beam, most=64):
    """Beam search; a candidate's score is its log-probability divided by its number of tokens."""
    model.eval()
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    found = [None] * len(sources)
    for start in range(0, len(order), 32):
        chosen = order[start : start + 32]
        rows = [sources[i] for i in chosen]
        memory, mask = model.encode(padded(rows, end), torch.tensor([len(row) for row in rows]))
        memory, mask = memory.repeat_interleave(beam, 0), mask.repeat_interleave(beam, 0)
        ids = torch.full((len(rows) * beam, 1), end)
        scores = torch.full((len(rows), beam), -math.inf)
        scores[:, 0] = 0.0
        ended = [[] for _ in rows]
        limit = min(most, 2 * max(map(len, rows)) + 10)
        for length in range(1, limit + 1):
            logs = F.log_softmax(model.logits(model.decode(ids, memory, mask)[:, -1]), -1).view(len(rows), beam, -1)
            best, places = (scores[:, :, None] + logs).flatten(1).topk(2 * beam, 1)
            parents, tokens = places // logs.shape[-1], places % logs.shape[-1]
            next_ids, next_scores = [], torch.full((len(rows), beam), -math.inf)
            for row in range(len(rows)):
                taken = []
                for score, parent, token in zip(best[row].tolist(), parents[row].tolist(), tokens[row].tolist()):
                    prefix = ids[row * beam + parent].tolist()
                    if token == end:
                        ended[row].append((score / length, prefix[1:]))
                    elif len(taken) < beam:
                        next_scores[row, len(taken)] = score
                        taken.append(prefix + [token])
                next_ids += taken
            ids, scores = torch.tensor(next_ids), next_scores
            if all(len(row) >= beam and max(row)[0] >= (scores[i, 0] / (length + 1)).item() for i, row in enumerate(ended)):
                break
        for row, i in enumerate(chosen):
            left = (scores[row, 0].item() / limit, ids[row * beam].tolist()[1:])
            found[i] = max(ended[row] or [left])[1]
    return found


def test(model, tokenizer, pairs, end, beam):
    references = {}
    for source, target in pairs:
        known = references.setdefault(source, [])
        if target not in known:
            known.append(target)
    sources = [[end, *encoding.ids, end] for encoding in tokenizer.encode_batch(list(references), add_special_tokens=False)]
    texts = tokenizer.decode_batch(translate(model, sources, end, beam))
    most = max(map(len, references.values()))
    columns = [[known[i] if i < len(known) else None for known in references.values()] for i in range(most)]
    bleu, chrf = sacrebleu.metrics.BLEU(), sacrebleu.metrics.CHRF()
    scores = bleu.corpus_score(texts, columns), chrf.corpus_score(texts, columns)
    print(f"beam {beam}: BLEU {scores[0].score:.2f}, chrF {scores[1].score:.2f}, {len(texts)} sources; {bleu.get_signature()}", flush=True)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--tokenizer", required=True, type=pathlib.Path)
    arguments.add_argument("--data", type=pathlib.Path, default=HERE.parent.parent / "crates/data/corpora/tatoeba-en-nl")
    arguments.add_argument("--source", default="en")
    arguments.add_argument("--target", default="nl")
    arguments.add_argument("--minutes", type=float, default=60.0)
    arguments.add_argument("--steps", type=int, help="as many as an idle machine makes in --minutes (default: go by the clock)")
    arguments.add_argument("--bf16", action="store_true")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--positions", type=int, default=2048, help="of a batch, sources and targets with their padding")
    arguments.add_argument("--lr", type=float, default=1e-3)
    arguments.add_argument("--warmup", type=float, default=0.2, help="share of the time in which the rate rises")
    arguments.add_argument("--weight-decay", type=float, default=0.01)
    arguments.add_argument("--dropout", type=float, default=0.2)
    arguments.add_argument("--smoothing", type=float, default=0.1)
    arguments.add_argument("--average-every", type=float, default=1.0, metavar="MINUTES")
    arguments.add_argument("--seed", type=int, default=1337)
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    tokenizer = tokenizers.Tokenizer.from_file(str(given.tokenizer))
    end = tokenizer.token_to_id("<|endoftext|>")
    part = lambda name: rows(given.data / f"{name}.jsonl.zst", given.source, given.target)
    train, held_out = (Pairs(tokenizer, part(name), end, 64) for name in ("train", "validation"))
    model = Translator(tokenizer.get_vocab_size(), dropout=given.dropout)
    print(sum(parameter.numel() for parameter in model.parameters()), "parameters", flush=True)
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": given.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=given.lr, betas=(0.9, 0.98), fused=True)
    shuffle, kept, epoch, step, next_kept, shown = random.Random(given.seed), [], 0, 0, 0.0, 0.0
    began = time.monotonic()
    # From 0 to 1.
    progress = lambda: step / given.steps if given.steps else (time.monotonic() - began) / (60.0 * given.minutes)
    while progress() < 1.0:
        epoch += 1
        for batch in train.batches(given.positions, shuffle):
            done = progress()
            if done >= 1.0:
                break
            for group in optimizer.param_groups:
                group["lr"] = given.lr * min(done / given.warmup, (1.0 - done) / (1.0 - given.warmup))
            with torch.autocast("cpu", torch.bfloat16, enabled=given.bf16):
                loss, _ = loss_of(model, train.tensors(batch), given.smoothing)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            minutes = given.minutes * progress()
            if minutes - shown >= given.minutes / 20.0:
                shown = minutes
                print(f"{minutes:5.1f} min, step {step}, epoch {epoch}: loss {loss.item():.3f}, "
                      f"validation {validation_loss(model, held_out, given.positions):.4f}", flush=True)
            if minutes >= next_kept:
                next_kept = minutes + given.average_every
                kept = kept[-3:] + [{name: value.clone() for name, value in model.state_dict().items()}]
    kept = kept[-4:] + [model.state_dict()]
    print(f"{step} steps, {epoch} epochs, last validation {validation_loss(model, held_out, given.positions):.4f}", flush=True)
    model.load_state_dict({name: sum(state[name] for state in kept) / len(kept) for name in kept[0]})
    print(f"mean of {len(kept)}: validation {validation_loss(model, held_out, given.positions):.4f}", flush=True)
    for beam in (1, 5):
        test(model, tokenizer, part("test"), end, beam)


if __name__ == "__main__":
    main()
