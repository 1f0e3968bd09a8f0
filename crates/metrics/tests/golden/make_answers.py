"""Make answers.json: what rouge_score and scikit-learn compute.

Run from any folder: `python make_answers.py` (needs rouge-score 0.1.2, scikit-learn, numpy). All texts are made here.

- `rouge`: answers, references, and precision, recall and F-measure of ROUGE-L (rouge_score's `RougeScorer`, no stemming);
- `f1`: predicted and right labels, and scikit-learn's `f1_score(average="macro", zero_division=0)`.
"""

import importlib.metadata
import json
import pathlib

import numpy
import sklearn
from rouge_score import rouge_scorer
from sklearn.metrics import f1_score

PAIRS = [
    ("the cat sat", "the cat sat on the mat"),
    ("The cat, sat!", "the Cat sat"),
    ("", "the cat"),
    ("the cat", ""),
    ("...", "the cat"),
    ("mat the on sat cat the", "the cat sat on the mat"),
    ("één kat in de hoek", "een kat in één hoek"),
    ("a1 b-2 c_3", "a1 b 2 c 3"),
    ("tar -xzf archive.tar.gz", "tar xzf archive.tar.gz -C /tmp"),
    ("İstanbul straße ﬁn", "istanbul strasse fin"),
    ("a a a a", "a a"),
    ("line one\nline two\n", "line two\nline one"),
    ("42", "42"),
    ("猫 cat", "cat 猫"),
]


def rouge(rng):
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    words = [f"w{number}" for number in range(12)]
    pairs = PAIRS + [(" ".join(rng.choice(words, rng.integers(1, 40))), " ".join(rng.choice(words, rng.integers(1, 40))))
                     for _ in range(40)]
    cases = []
    for answer, reference in pairs:
        score = scorer.score(reference, answer)["rougeL"]
        cases.append({"answer": answer, "reference": reference, "precision": score.precision, "recall": score.recall,
                      "f1": score.fmeasure})
    return cases


def f1(rng):
    cases = []
    for n, labels, predicted_labels in [(1, 1, 1), (2, 2, 1), (30, 3, 3), (200, 5, 7), (50, 2, 4)]:
        right, predicted = rng.integers(0, labels, n), rng.integers(0, predicted_labels, n)
        cases.append({"predicted": predicted.tolist(), "right": right.tolist(),
                      "f1": float(f1_score(right, predicted, average="macro", zero_division=0))})
    return cases


if __name__ == "__main__":
    rng = numpy.random.default_rng(5)
    expected = {
        "versions": {"rouge_score": importlib.metadata.version("rouge-score"), "sklearn": sklearn.__version__},
        "rouge": rouge(rng),
        "f1": f1(rng),
    }
    (pathlib.Path(__file__).parent / "answers.json").write_text(json.dumps(expected) + "\n", encoding="utf-8")
