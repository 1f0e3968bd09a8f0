"""Make the golden files of the trainer crate: 20 steps of nanoGPT's training in plain PyTorch, and single optimizers.

Run from any folder: `python make_golden.py` (needs torch and safetensors; CPU, fp32, one thread). Written beside it:

- `nanogpt/config.json`, `nanogpt/model.safetensors`: the initial weights in Hugging Face's GPT-2 names and orientation
  ([in, out] for the four linear maps of a block), with zeros for the biases the layout has and nanoGPT does not.
- `nanogpt/batches.json`: 20 batches, `inputs` and `targets` [step][row][position].
- `nanogpt/expected.json`: the settings, and for each step the loss before the update, the gradient norm before
  clipping and the learning rate.
- `nanogpt/gradients.safetensors`: every parameter's gradient at step 0 before clipping, in the names and orientation of
  `model.safetensors`; the tied embedding has one, the sum over both its uses.
- `nanogpt/final.safetensors`: the weights after 20 steps.
- `muon.json`, `adamw.json`: three steps of each optimiser on small parameters from given gradients.

The model and the loop are nanoGPT's (https://github.com/karpathy/nanoGPT): pre-norm blocks without biases or dropout,
erf GELU, tied head, AdamW with weight decay on tensors of rank 2 and more, clipping to a global norm of 1. Muon is
Keller Jordan's (https://github.com/KellerJordan/Muon) with its Newton-Schulz iteration in fp32 instead of bf16.
"""

import json
import math
import pathlib
import platform

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

HERE = pathlib.Path(__file__).parent
N_LAYERS, N_HEADS, D_MODEL, BLOCK_SIZE, VOCAB = 2, 4, 32, 16, 65
BATCH_SIZE, STEPS, WARMUP_STEPS = 4, 20, 5
MAX_LR, MIN_LR, BETAS, EPS, WEIGHT_DECAY, CLIP = 1e-3, 1e-4, (0.9, 0.99), 1e-8, 0.1, 1.0
VERSIONS = {"python": platform.python_version(), "torch": torch.__version__}


class LayerNorm(nn.Module):
    """Layer normalization with a weight and no bias."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight, None, 1e-5)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_attn = nn.Linear(D_MODEL, 3 * D_MODEL, bias=False)
        self.c_proj = nn.Linear(D_MODEL, D_MODEL, bias=False)

    def forward(self, x):
        batch, length, _ = x.shape
        q, k, v = (part.view(batch, length, N_HEADS, -1).transpose(1, 2)
                   for part in self.c_attn(x).split(D_MODEL, dim=2))
        scores = q @ k.transpose(-2, -1) / math.sqrt(k.shape[-1])
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        weights = scores.masked_fill(future, float("-inf")).softmax(dim=-1)
        return self.c_proj((weights @ v).transpose(1, 2).reshape(batch, length, D_MODEL))


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_fc = nn.Linear(D_MODEL, 4 * D_MODEL, bias=False)
        self.c_proj = nn.Linear(4 * D_MODEL, D_MODEL, bias=False)

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.attn, self.ln_2, self.mlp = LayerNorm(D_MODEL), Attention(), LayerNorm(D_MODEL), FeedForward()

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(VOCAB, D_MODEL)
        self.wpe = nn.Embedding(BLOCK_SIZE, D_MODEL)
        self.h = nn.ModuleList(Block() for _ in range(N_LAYERS))
        self.ln_f = LayerNorm(D_MODEL)


class Model(nn.Module):
    """nanoGPT's model; its parameters have the names of Hugging Face's GPT-2."""

    def __init__(self):
        super().__init__()
        self.transformer = Transformer()

    def loss(self, inputs, targets):
        t = self.transformer
        x = t.wte(inputs) + t.wpe(torch.arange(inputs.shape[1]))
        for block in t.h:
            x = block(x)
        logits = t.ln_f(x) @ t.wte.weight.T
        return F.cross_entropy(logits.view(-1, VOCAB), targets.view(-1))


def initialise(model, generator):
    """nanoGPT's initialization, except norm weights of 1 + 0.1 * normal so that a forgotten one shows."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            std = 0.02 / math.sqrt(2 * N_LAYERS) if name.endswith("c_proj.weight") else 0.02
            parameter.copy_(1.0 + 0.1 * noise if parameter.dim() == 1 else std * noise)


def is_linear(name):
    return "c_attn" in name or "c_proj" in name or "c_fc" in name


def hugging_face(named_tensors):
    """Tensors under GPT-2's names, linear maps transposed to [in, out]."""
    return {name: (tensor.detach().T if is_linear(name) else tensor.detach()).contiguous().clone()
            for name, tensor in named_tensors}


def with_zero_biases(tensors):
    """Add the biases GPT-2's layout has: one of the output width per linear map, one per norm."""
    biases = {name.removesuffix("weight") + "bias": torch.zeros(tensor.shape[-1])
              for name, tensor in tensors.items() if is_linear(name) or ".ln_" in name}
    return {**tensors, **biases}


def learning_rate(step):
    """nanoGPT's `get_lr`: linear warm-up, then a cosine to the minimum."""
    if step < WARMUP_STEPS:
        return MAX_LR * (step + 1) / (WARMUP_STEPS + 1)
    if step > STEPS:
        return MIN_LR
    progress = (step - WARMUP_STEPS) / (STEPS - WARMUP_STEPS)
    return MIN_LR + 0.5 * (1.0 + math.cos(math.pi * progress)) * (MAX_LR - MIN_LR)


def random_batches(generator):
    """Ids with Zipf's frequencies, so that there is something to learn and the early gradients need clipping."""
    frequencies = 1.0 / torch.arange(1, VOCAB + 1)
    order = torch.randperm(VOCAB, generator=generator)
    windows = torch.multinomial(frequencies, STEPS * BATCH_SIZE * (BLOCK_SIZE + 1), True, generator=generator)
    windows = order[windows].view(STEPS, BATCH_SIZE, BLOCK_SIZE + 1)
    return windows[:, :, :-1].contiguous(), windows[:, :, 1:].contiguous()


def write_json(path, value):
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n")


def write_config(folder):
    write_json(folder / "config.json", {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "activation_function": "gelu",
        "vocab_size": VOCAB, "n_positions": BLOCK_SIZE, "n_embd": D_MODEL, "n_layer": N_LAYERS, "n_head": N_HEADS,
        "n_inner": None, "bos_token_id": None, "eos_token_id": None,
        "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True,
        "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
        "taal": {"norm_bias": False, "qkv_bias": False, "attention_output_bias": False, "ffn_bias": False},
    })


def make_nanogpt():
    folder = HERE / "nanogpt"
    folder.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(2000)
    model = Model()
    initialise(model, generator)
    inputs, targets = random_batches(generator)
    write_config(folder)
    save_file(with_zero_biases(hugging_face(model.named_parameters())), folder / "model.safetensors",
              metadata={"format": "pt"})
    write_json(folder / "batches.json", {"inputs": inputs.tolist(), "targets": targets.tolist()})

    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW([
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ], lr=MAX_LR, betas=BETAS, eps=EPS)
    losses, grad_norms, lrs = [], [], []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        loss = model.loss(inputs[step], targets[step])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if step == 0:
            gradients = [(name, p.grad) for name, p in model.named_parameters()]
            save_file(hugging_face(gradients), folder / "gradients.safetensors", metadata={"format": "pt"})
        grad_norms.append(nn.utils.clip_grad_norm_(parameters, CLIP).item())
        optimizer.step()
        losses.append(loss.item())
        lrs.append(learning_rate(step))
    save_file(hugging_face(model.named_parameters()), folder / "final.safetensors", metadata={"format": "pt"})
    settings = {"max_lr": MAX_LR, "min_lr": MIN_LR, "warmup_steps": WARMUP_STEPS, "decay_steps": STEPS,
                "betas": BETAS, "eps": EPS, "weight_decay": WEIGHT_DECAY, "clip": CLIP}
    write_json(folder / "expected.json", {"made_with": VERSIONS, "settings": settings, "losses": losses,
                                          "grad_norms": grad_norms, "learning_rates": lrs})


def newton_schulz(gradient, steps=5):
    """The nearest half-orthogonal matrix, roughly: singular values end between about 0.7 and 1.2."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = gradient.T if gradient.shape[0] > gradient.shape[1] else gradient
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if gradient.shape[0] > gradient.shape[1] else x


def muon_case(shape, weight_decay, generator, lr=0.02, momentum=0.95):
    """Three steps on one [out, in] matrix."""
    parameter = torch.randn(shape, generator=generator)
    gradients = [torch.randn(shape, generator=generator) * scale for scale in (1.0, 0.01, 3.0)]
    case = {"shape": shape, "lr": lr, "momentum": momentum, "nesterov": True, "newton_schulz_steps": 5,
            "weight_decay": weight_decay, "initial": parameter.tolist(), "steps": []}
    buffer = torch.zeros(shape)
    for gradient in gradients:
        buffer.lerp_(gradient, 1 - momentum)
        direction = newton_schulz(gradient.lerp(buffer, momentum))
        update = direction * max(1, shape[0] / shape[1]) ** 0.5
        parameter = parameter * (1 - lr * weight_decay) - lr * update
        case["steps"].append({"gradient": gradient.tolist(), "orthogonalised": direction.tolist(),
                              "parameter": parameter.tolist()})
    return case


def adamw_case(generator):
    """Three steps of torch.optim.AdamW with its defaults on a vector of 6."""
    parameter = nn.Parameter(torch.randn(6, generator=generator))
    optimizer = torch.optim.AdamW([parameter])
    defaults = {key: optimizer.defaults[key] for key in ("lr", "betas", "eps", "weight_decay")}
    case = {**defaults, "initial": parameter.tolist(), "steps": []}
    for scale in (1.0, 1e-4, 10.0):
        parameter.grad = torch.randn(6, generator=generator) * scale
        optimizer.step()
        case["steps"].append({"gradient": parameter.grad.tolist(), "parameter": parameter.tolist()})
    return case


def main():
    torch.set_num_threads(1)
    make_nanogpt()
    generator = torch.Generator().manual_seed(3000)
    cases = [muon_case(shape, weight_decay, generator) for shape, weight_decay in (((8, 12), 0.0), ((12, 8), 0.1))]
    write_json(HERE / "muon.json", {"made_with": VERSIONS, "cases": cases})
    write_json(HERE / "adamw.json", {"made_with": VERSIONS, "cases": [adamw_case(generator)]})


main()
