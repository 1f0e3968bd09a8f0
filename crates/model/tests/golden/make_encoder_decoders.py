"""Make the golden files of encoder-decoders: tiny random Marian and T5 models and what `transformers` computes with them.

Run from any folder: `python make_encoder_decoders.py [folder ...]` (needs torch, transformers, safetensors; CPU, fp32).
Each folder written next to this script holds

- `config.json` and `model.safetensors`, as `save_pretrained` writes them (fp32), every tensor random as in `make_golden.py`.
- `expected.json`: the versions used and one sample of two sources, the second of them shorter, with `source_ids` [batch, source],
  `source_lengths` [batch], `decoder_ids` [batch, target], `logits` [batch, target, vocab], `encoder_attention` of the first block and
  head [batch, 2, source], `cross_attentions`, for each block the first head's [batch, 2, source], both of the first and the last query,
  `labels` [batch, target] (-100 where there is none), `loss`, their cross-entropy with a label smoothing of 0.1, and `gradients` of it
  by our names: the norm and the first numbers in our orientation, [in, out] for matrices. Numbers have 7 significant digits.
"""

import sys

import torch
from transformers import MarianConfig, MarianMTModel, T5Config, T5ForConditionalGeneration

from make_golden import rounded, save, write_expected

VOCAB = 30
SMOOTHING = 0.1
SHOWN = 8


def models():
    """Yield (folder name, model, lengths of sources and targets)."""
    marian = dict(
        vocab_size=VOCAB, d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=24,
        decoder_start_token_id=VOCAB - 1, pad_token_id=VOCAB - 1, eos_token_id=0, forced_eos_token_id=0)
    yield "marian", MarianMTModel(MarianConfig(**marian, activation_function="swish", scale_embedding=True)), (9, 5)
    yield "marian-gelu", MarianMTModel(
        MarianConfig(**{**marian, "encoder_layers": 1, "decoder_layers": 2}, activation_function="gelu")), (7, 11)
    t5 = dict(vocab_size=VOCAB, d_model=16, d_kv=6, d_ff=24, num_heads=2, decoder_start_token_id=0)
    # Both are long enough for ranges of several distances.
    yield "t5", T5ForConditionalGeneration(T5Config(**t5, num_layers=2, num_decoder_layers=1)), (70, 24)
    yield "t5-gated", T5ForConditionalGeneration(T5Config(
        **t5, num_layers=1, num_decoder_layers=2, feed_forward_proj="gated-gelu", tie_word_embeddings=False,
        relative_attention_num_buckets=8, relative_attention_max_distance=12)), (20, 14)


def randomise(model, generator):
    """Overwrite every parameter; norm weights are recognised by their name. Untied, the output matrix becomes a parameter of its own."""
    if isinstance(model, T5ForConditionalGeneration) and not model.config.scale_decoder_outputs:
        model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.shared.weight))
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            # transformers keeps the vector of padding from learning; here it begins every target and learns like the others.
            module.padding_idx = None
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm_weight = parameter.dim() == 1 and name.endswith("weight")
            is_position = "embed_positions" in name
            if not is_position:
                parameter.copy_(1.0 + 0.1 * noise if is_norm_weight else 0.2 * noise)
        if isinstance(model, MarianMTModel):
            model.final_logits_bias.copy_(0.2 * torch.randn(model.final_logits_bias.shape, generator=generator))


def our_names(model):
    """Parameters of theirs, one or several next to each other, by our names."""
    if isinstance(model, MarianMTModel):
        encoder, decoder = model.model.encoder.layers[0], model.model.decoder.layers[0]
        return {
            "token_embedding.weight": [model.model.shared.weight],
            "encoder.blocks.0.attention.qkv.weight": [
                encoder.self_attn.q_proj.weight, encoder.self_attn.k_proj.weight, encoder.self_attn.v_proj.weight],
            "encoder.blocks.0.feed_forward_norm.weight": [encoder.final_layer_norm.weight],
            "blocks.0.cross_norm.bias": [decoder.encoder_attn_layer_norm.bias],
            "blocks.0.cross.query.weight": [decoder.encoder_attn.q_proj.weight],
            "blocks.0.cross.key_value.weight": [
                decoder.encoder_attn.k_proj.weight, decoder.encoder_attn.v_proj.weight],
            "blocks.0.cross.key_value.bias": [decoder.encoder_attn.k_proj.bias, decoder.encoder_attn.v_proj.bias],
            "blocks.0.cross.output.weight": [decoder.encoder_attn.out_proj.weight],
            "blocks.0.feed_forward.up.weight": [decoder.fc1.weight],
        }
    encoder, decoder = model.encoder.block[0].layer, model.decoder.block[0].layer
    cross = decoder[1].EncDecAttention
    return {
        "token_embedding.weight": [model.shared.weight],
        "encoder.relative_bias.weight": [encoder[0].SelfAttention.relative_attention_bias.weight],
        "relative_bias.weight": [decoder[0].SelfAttention.relative_attention_bias.weight],
        "encoder.blocks.0.attention.output.weight": [encoder[0].SelfAttention.o.weight],
        "blocks.0.cross.query.weight": [cross.q.weight],
        "blocks.0.cross.key_value.weight": [cross.k.weight, cross.v.weight],
        "blocks.0.cross_norm.weight": [decoder[1].layer_norm.weight],
        "encoder.final_norm.weight": [model.encoder.final_layer_norm.weight],
    }


def gradient(ours, parameters):
    """The gradient in our orientation: matrices are [in, out], tables of vectors as they are."""
    is_table = "embedding" in ours or "relative_bias" in ours
    parts = [p.grad.T if p.dim() == 2 and not is_table else p.grad for p in parameters]
    whole = torch.cat(parts, dim=-1)
    shown = whole.flatten() if "relative_bias" in ours else whole.flatten()[:SHOWN]
    return {"norm": rounded(whole.norm()), "first": rounded(shown)}


def first_and_last(weights):
    """The rows of the first and the last query of the first head."""
    return rounded(weights[:, 0, [0, -1]].detach())


def sample(model, source, target, generator):
    """Run one batch and record what the Rust test compares."""
    lengths = [source, source - 3]
    source_ids = torch.randint(1, VOCAB - 1, (2, source), generator=generator)
    mask = torch.ones_like(source_ids)
    mask[1, lengths[1]:] = 0
    source_ids[1, lengths[1]:] = model.config.pad_token_id
    decoder_ids = torch.randint(1, VOCAB - 1, (2, target), generator=generator)
    decoder_ids[:, 0] = model.config.decoder_start_token_id
    labels = torch.randint(0, VOCAB, (2, target), generator=generator)
    labels[1, -1] = -100
    output = model(
        input_ids=source_ids, attention_mask=mask, decoder_input_ids=decoder_ids, output_attentions=True, use_cache=False)
    loss = torch.nn.functional.cross_entropy(
        output.logits.reshape(-1, VOCAB), labels.reshape(-1), label_smoothing=SMOOTHING)
    loss.backward()
    return {
        "source_ids": source_ids.tolist(),
        "source_lengths": lengths,
        "decoder_ids": decoder_ids.tolist(),
        "logits": rounded(output.logits.detach()),
        "encoder_attention": first_and_last(output.encoder_attentions[0]),
        "cross_attentions": [first_and_last(weights) for weights in output.cross_attentions],
        "labels": labels.tolist(),
        "loss": rounded(loss.detach()),
        "gradients": {ours: gradient(ours, theirs) for ours, theirs in our_names(model).items()},
    }


def main():
    torch.set_num_threads(1)
    for index, (name, model, lengths) in enumerate(models()):
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        generator = torch.Generator().manual_seed(2000 + index)
        randomise(model, generator)
        folder = save(model, name)
        write_expected(folder, **sample(model, *lengths, generator))


main()
