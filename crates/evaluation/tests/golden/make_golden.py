"""Make the golden files of the evaluation crate: what scipy, gensim, scikit-learn and the lm-evaluation-harness compute.

Run from any folder: `python make_golden.py [words] [choices]` (needs numpy, scipy, gensim; torch, transformers, tokenizers,
lm-eval 0.4.9.1; CPU, fp32). All words, vectors and judgements are random and made here.

- `words/vectors.txt` (word2vec text format), `similarity.csv`, `analogies.txt`, `pairs.json`, `categories.csv`: the inputs.
- `words/expected.json`: Spearman's correlation (scipy) of judgements and cosines; right answers, scored questions a section
  (gensim's `evaluate_word_analogies`); purity of average-linkage clusters (scipy).
- `choices/gpt2/`: a tiny random GPT-2 with a byte-level BPE tokenizer; `choices/items.jsonl`: items of 2 to 5 choices, with white
  space at the edges, empty contexts, and contexts that do not fit; `choices/expected.json`: log-likelihoods of all choices by the
  harness (`HFLM.loglikelihood`) and, from the same token ids, by transformers alone.
"""

import json
import pathlib
import random
import sys
import types

import numpy

HERE = pathlib.Path(__file__).parent
SYLLABLES = ["ba", "do", "ki", "lu", "me", "no", "pi", "ra", "su", "te", "vo", "zy"]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def words_golden():
    import gensim
    import scipy
    from gensim.models import KeyedVectors
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.stats import spearmanr

    rng = numpy.random.default_rng(7)
    draw = random.Random(7)
    folder = HERE / "words"
    names = []
    while len(names) < 48:
        name = "".join(draw.choice(SYLLABLES) for _ in range(draw.randint(2, 3)))
        if name not in names:
            names.append(name)
    # Four groups around a centre; every second word is the one before it and a common step, so that some analogies are found.
    centres = rng.normal(size=(4, 11))
    step = rng.normal(size=11)
    first = numpy.repeat(centres, 6, axis=0) + 0.9 * rng.normal(size=(24, 11))
    second = first + step + 0.6 * rng.normal(size=(24, 11))
    vectors = numpy.stack([first, second], axis=1).reshape(48, 11)
    lines = [f"{len(names)} 11"] + [
        name + " " + " ".join(f"{value:.4f}" for value in vector) for name, vector in zip(names, vectors)]
    write(folder / "vectors.txt", "\n".join(lines) + "\n")
    keyed = KeyedVectors.load_word2vec_format(folder / "vectors.txt")

    def cosine(a, b):
        a, b = keyed[a].astype(float), keyed[b].astype(float)
        return float(a @ b / numpy.sqrt((a @ a) * (b @ b)))

    rows = [",word1,word2,similarity"]
    judgements, cosines = [], []
    for index in range(60):
        a, b = draw.sample(names, 2)
        # Rounded, so that there are ties.
        judgement = round(5 + 3 * cosine(a, b) + draw.gauss(0, 2), 0)
        if index % 10 == 9:
            b = f"unknown{index}"
        else:
            judgements.append(judgement)
            cosines.append(cosine(a, b))
        rows.append(f"{index},{a},{b},{judgement}")
    write(folder / "similarity.csv", "\n".join(rows) + "\n")

    text = ""
    for section, start in [("first", 0), ("second", 12), ("mixed", 6)]:
        text += f": {section}\n"
        for _ in range(40):
            i, j = draw.sample(range(start, start + 12, 2), 2)
            question = [names[i], names[i + 1], names[j], names[j + 1]]
            if draw.random() < 0.1:
                question[draw.randint(0, 3)] = "nowhere"
            text += " ".join(question) + "\n"
    write(folder / "analogies.txt", text)
    _, sections = keyed.evaluate_word_analogies(folder / "analogies.txt", case_insensitive=False)

    pairs = {"steps": [[names[i], names[i + 1]] for i in range(0, 10, 2)] + [[names[0], names[1]]],
             "back": [[names[i + 1], names[i]] for i in range(20, 30, 2)]}
    write(folder / "pairs.json", json.dumps(pairs, indent=1) + "\n")
    questions = ""
    for section in sorted(pairs):
        distinct = list(dict.fromkeys(map(tuple, pairs[section])))
        questions += f": {section}\n" + "".join(
            " ".join([*one, *other]) + "\n" for one in distinct for other in distinct if one != other)
    temporary = folder / "pairs.txt"
    write(temporary, questions)
    _, pair_sections = keyed.evaluate_word_analogies(temporary, case_insensitive=False)
    temporary.unlink()

    rows = ["category,word"] + [f"group{i // 12},{name}" for i, name in enumerate(names)]
    write(folder / "categories.csv", "\n".join(rows) + "\n")
    labels = fcluster(linkage(keyed.vectors.astype(float), "average", "cosine"), 4, "maxclust")
    purity = sum(max(numpy.bincount([i // 12 for i in range(48) if labels[i] == label])) for label in set(labels)) / 48

    def counts(sections):
        return [[s["section"], len(s["correct"]), len(s["correct"]) + len(s["incorrect"])] for s in sections[:-1]]

    write(folder / "expected.json", json.dumps({
        "versions": {"numpy": numpy.__version__, "scipy": scipy.__version__, "gensim": gensim.__version__},
        "spearman": float(spearmanr(cosines, judgements).statistic),
        "analogies": counts(sections), "pairs": counts(pair_sections), "purity": float(purity),
    }, indent=1) + "\n")


def choice_items():
    draw = random.Random(11)
    def word():
        word = "".join(draw.choice(SYLLABLES) for _ in range(draw.randint(1, 3)))
        return draw.choice([word, word, word, word.title(), word + ",", word + ".", "\u00e9" + word, str(draw.randrange(99))])

    def piece(low, high):
        return " ".join(word() for _ in range(draw.randint(low, high)))

    for index in range(50):
        context = "" if index % 17 == 3 else piece(1, 60 if index % 9 == 4 else 12)
        if index % 7 == 1:
            context += draw.choice([" ", "  ", "\n"])
        choices = [piece(1, 6) for _ in range(draw.randint(2, 5))]
        if index % 11 == 5:
            choices[-1] = choices[0]
        if index % 13 == 6:
            choices = [" " + choice for choice in choices]
        yield {"context": context, "choices": choices, "answer": draw.randrange(len(choices))}


def choices_golden():
    import tokenizers
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    # This version of the harness wants names that newer versions of transformers lack.
    for other in ["hf_vlms", "hf_audiolm"]:
        sys.modules[f"lm_eval.models.{other}"] = types.ModuleType(other)
    from lm_eval.api.instance import Instance
    from lm_eval.models import huggingface
    huggingface.transformers.AutoModelForVision2Seq = transformers.AutoModelForImageTextToText

    folder = HERE / "choices"
    items = list(choice_items())
    write(folder / "items.jsonl", "".join(json.dumps(item) + "\n" for item in items))

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([json.dumps(item) for item in items], trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>")
    torch.manual_seed(5)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=320, n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = "ln_" in name and name.endswith("weight")
            parameter.copy_(1 + 0.1 * torch.randn_like(parameter) if is_norm else 0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder / "gpt2")
    (folder / "gpt2" / "generation_config.json").unlink(missing_ok=True)
    tokenizer.save(str(folder / "gpt2" / "tokenizer.json"))

    harness = huggingface.HFLM(pretrained=model, tokenizer=fast, batch_size=1, max_length=64, device="cpu")
    pairs = []
    for item in items:
        for choice in item["choices"]:
            context = item["context"]
            joined = context == "" or context[-1].isspace() or choice[0].isspace()
            pairs.append((context, choice if joined else " " + choice))
    found = harness.loglikelihood(
        [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)], disable_tqdm=True)
    values, differences, tokens = [], [], []
    for (context, continuation), (value, _) in zip(pairs, found):
        if context == "":
            before, after = [0], fast.encode(continuation)
        else:
            before, after = harness._encode_pair(context, continuation)
        row = torch.tensor([(before + after)[-65:]])
        with torch.no_grad():
            losses = model(row[:, :-1]).logits.log_softmax(-1).gather(-1, row[:, 1:, None])[0, :, 0]
        plain = losses[-len(after):].sum().item()
        differences.append(abs(plain - value))
        values.append(float(f"{value:.7g}"))
        tokens.append(len(after))
    assert max(differences) < 1e-4, max(differences)
    each, start = [], 0
    for item in items:
        end = start + len(item["choices"])
        each.append({"log_likelihoods": values[start:end], "tokens": tokens[start:end]})
        start = end

    def counts(lengths):
        """Items whose right choice is strictly the best, and those whose best is shared; the harness takes the first of a tie."""
        correct = ties = 0
        for item, one, length in zip(items, each, lengths):
            values = [value / n for value, n in zip(one["log_likelihoods"], length)]
            ties += values.count(max(values)) > 1
            correct += values.count(max(values)) == 1 and values.index(max(values)) == item["answer"]
        return {"correct": correct, "ties": ties}

    texts = [[choice.strip() for choice in item["choices"]] for item in items]
    write(folder / "expected.json", json.dumps({
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__,
                     "tokenizers": tokenizers.__version__, "lm-eval": "0.4.9.1"},
        "accuracy": {
            "none": counts([[1] * len(row) for row in texts]),
            "tokens": counts([one["tokens"] for one in each]),
            "characters": counts([[len(text) for text in row] for row in texts]),
            "bytes": counts([[len(text.encode()) for text in row] for row in texts]),
        },
        "items": each,
    }) + "\n")


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["words", "choices"]
    if "words" in wanted:
        words_golden()
    if "choices" in wanted:
        choices_golden()
