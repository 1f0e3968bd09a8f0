"""Builds the examples of `tldr` from the pages of tldr-pages; see SOURCE.md.

    python3 build.py tldr-pages.jsonl OUT

Each line of tldr-pages.jsonl is a page with its English and its Dutch text. OUT gets `train.jsonl` and `held-out.jsonl`. The same file
gives the same bytes.

- A row is one task of a page after what the page is about, and the command that does it. Of an option that has a short and a long
  name the command has the short one.
- Held out is every tenth page, by the SHA-256 of its name, in both languages.
- Left out are pages about another name of a command, commands of more than 120 characters, tasks that pages answer differently, and
  rows of the held-out part whose task is also in the other part.
"""

import collections
import hashlib
import json
import pathlib
import re
import sys

# `{{[-n|--name]}}`: the short and the long name of an option.
OPTION = re.compile(r"\{\{\[([^|\]]+)\|([^\]]+)\]\}\}")
MAX_COMMAND = 120
HELD_OUT_ONE_IN = 10


def command(text):
    return OPTION.sub(lambda found: found.group(1), text).replace("{{", "").replace("}}", "").strip()


def is_held_out(page):
    return int.from_bytes(hashlib.sha256(page.encode()).digest()[:8], "big") % HELD_OUT_ONE_IN == 0


def rows(pages):
    for page in pages:
        for language in ("en", "nl"):
            text = page[language]
            about = " ".join(text["description"][:1]).strip()
            for task, written in text["examples"]:
                said = command(written)
                if said and len(said) <= MAX_COMMAND and not said.startswith("tldr "):
                    yield {"page": page["page"], "language": language, "instruction": f"{about} {task.strip()}".strip(), "output": said}


def main(source, out):
    with open(source, encoding="utf-8") as lines:
        found = list(rows(map(json.loads, lines)))
    answers = collections.defaultdict(set)
    for row in found:
        answers[row["instruction"]].add(row["output"])
    unique = list({(row["page"], row["language"], row["instruction"]): row for row in found if len(answers[row["instruction"]]) == 1}.values())
    parts = {"train": [], "held-out": []}
    for row in unique:
        parts["held-out" if is_held_out(row["page"]) else "train"].append(row)
    known = {row["instruction"] for row in parts["train"]}
    parts["held-out"] = [row for row in parts["held-out"] if row["instruction"] not in known]
    for name, part in parts.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (pathlib.Path(out) / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        print(f"{name}: {len(part)} rows, {len({row['page'] for row in part})} pages")


if __name__ == "__main__":
    main(*sys.argv[1:])
