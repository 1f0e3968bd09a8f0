"""Write tasks of lm-evaluation-harness into a folder: `make_tasks.py FOLDER`.

`choices` has 100 questions with four answers, `texts` 20 texts whose tokens are all scored. One answer
continues the sentence, the others have their words backwards.
"""

import json
import pathlib
import sys

SUBJECTS = "De oude man,De kleine kat,Mijn zus,Een grote hond,De minister,Het meisje,De vrouw,Die jongen,Het paard,De bakker".split(",")
VERBS = "loopt langzaam,slaapt vaak,eet een appel,leest de krant,wacht op de trein,zoekt een huis,ziet het water,koopt brood," \
    "zegt niets,denkt na".split(",")
TASK = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {folder}/{name}.jsonl
test_split: test
output_type: {kind}
"""
CHOICES = """doc_to_text: "{{context}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{label}}"
metric_list:
  - metric: acc
  - metric: acc_norm
"""
TEXTS = """doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - metric: word_perplexity
  - metric: bits_per_byte
"""


def question(number):
    subject, verb = SUBJECTS[number % 10], VERBS[number // 10]
    wrong = [" ".join(reversed(VERBS[(number // 10 + step) % 10].split())) for step in (0, 3, 7)]
    label = number * 7 % 4
    return {"context": subject, "choices": wrong[:label] + [verb] + wrong[label:], "label": label}


def text(number):
    return {"text": ". ".join(f"{SUBJECTS[(number + i) % 10]} {VERBS[(number * 3 + i) % 10]}" for i in range(1 + number % 4)) + "."}


def main():
    folder = pathlib.Path(sys.argv[1]).resolve()
    for name, kind, make, count, rest in ("choices", "multiple_choice", question, 100, CHOICES), \
            ("texts", "loglikelihood_rolling", text, 20, TEXTS):
        lines = [json.dumps(make(number)) + "\n" for number in range(count)]
        (folder / f"{name}.jsonl").write_text("".join(lines))
        (folder / f"{name}.yaml").write_text(TASK.format(name=name, folder=folder, kind=kind) + rest)


main()
