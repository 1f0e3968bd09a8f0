"""Builds the texts of the corpora `dutch` and `english` from folders of free text, and the pairs `tatoeba-en-nl`; see SOURCE.md of each.

    python3 build.py --from DATA --out OUT

DATA has one folder per source, as named below. OUT gets `LANGUAGE/PART.txt` for each part of a text, and `tatoeba-en-nl/PART.jsonl` for
the pairs to train on, to validate with and to test with. LANGUAGE/gaps.tsv in this folder
has the sentences that the texts may not have. The same files give the same
bytes: nothing is random and nothing depends on an order of a file system. `cargo xtask corpora --from DATA` runs this
script and compresses what it writes.

What every part keeps:

- A line is a sentence, or a few that follow each other. No sentence of three words or more is in the corpus twice,
  whatever its capitals and punctuation.
- Held out: Tatoeba's sentences of `held_out_components` (both languages, for tests of translation), the sentences of the
  last tenth of the corpus `dutch-alpino` (validation text of older recipes), and those of WikiText-2's validation file.
- No line has both words of UNSEEN or one of COARSE, and no line has a gap's filled sentence or a sentence that differs from it in one word.
"""

import argparse
import collections
import hashlib
import importlib.util
import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent

# The word of the first gap must be learned from other sentences.
UNSEEN = {"dutch": ("kat", "mat"), "english": ("cat", "mat")}

# Lines with these words are left out: the texts are printed in tutorials.
COARSE = {
    "dutch": set("klootzak klootzakken klaarkomen kut lul neuken pik slet stront teef hoer hoeren verkracht verkrachten "
                 "verkrachting verkrachter penis pedofiel neger negers flikker flikkers godverdomme".split()),
    "english": set("anal asshole bitch bitches bullshit butthole clitoris cock cocks cunt dick dicks fag fuck fucked fuckin "
                   "fucking horny intercourse masturbation nigger niggers orgasm orgy paedophile panties pedophile penis porn "
                   "pussy rape raped rapist sex sexy shit slut sodomy threesome tits vagina whore whores".split()),
}

# One in so many of Tatoeba's components is held out, if it has at most this many pairs.
HELD_OUT_ONE_IN, HELD_OUT_PAIRS = 32, 12

# Of the held-out components, one in so many validates; the others are for tests.
VALIDATION_ONE_IN = 4

# A pair with a longer side is left out.
MOST_PAIR_CHARACTERS = 400

LETTERS = "abcdefghijklmnopqrstuvwxyz"
ALLOWED = set(LETTERS + LETTERS.upper() + "0123456789 .,;:!?()'\"-&%/€$°"
              "áàäâéèëêíìïîóòöôúùüûçñãåøæœÁÀÄÂÉÈËÊÍÏÎÓÖÔÚÜÇÑÅØÆ")
PLAIN = str.maketrans({"’": "'", "‘": "'", "`": "'", "´": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"',
                       "–": "-", "—": "-", "‑": "-", "−": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " ",
                       "\u200b": None, "\u00ad": None, "…": "..."})

ALPINO = importlib.util.spec_from_file_location("alpino", HERE / "dutch-alpino" / "build.py")
alpino = importlib.util.module_from_spec(ALPINO)
ALPINO.loader.exec_module(alpino)


def read(path):
    return path.read_text(encoding="utf-8")


def words_of(text):
    """The words of a text in lower case: what makes two sentences the same."""
    return re.findall(r"[^\W_]+(?:['-][^\W_]+)*", text.lower())


def sentences_of(line):
    """A line in sentences. A stretch of fewer than three words belongs to the one after it: "Ja. Dat denk ik ook."."""
    pieces = re.split(r"(?<=[.!?])(?:[\"')]*) (?=[\"'(]*[A-ZÀ-Þ0-9])", line)
    sentences, before = [], []
    for piece in pieces:
        before += words_of(piece)
        if len(before) >= 3:
            sentences.append(" ".join(before))
            before = []
    return sentences + ([" ".join(before)] if before and not sentences else [])


def forms_of(sentence):
    """A sentence, and a long one without its first words: it may begin after a short form, "Mr. C. Lensink zei"."""
    words = sentence.split()
    return [sentence] + [" ".join(words[i:]) for i in (1, 2) if len(words) >= 8]


class Rules:
    """Which lines a corpus may have; remembers the sentences that it has."""

    def __init__(self, language, held_out, gaps):
        self.unseen, self.coarse = set(UNSEEN[language]), COARSE[language]
        self.seen, self.written = set(), set()
        self.held_out = {form for sentence in held_out for form in forms_of(sentence)}
        self.near = set()
        self.filled = [" " + " ".join(gap) + " " for gap in gaps]
        for gap in gaps:
            self.near.update(tuple(gap[:i] + ["*"] + gap[i + 1:]) for i in range(len(gap)))

    def take(self, line):
        """Whether the line is kept; if it is, its sentences are known from now on."""
        words = words_of(line)
        sentences = sentences_of(line)
        if self.unseen <= set(words) or self.coarse & set(words) or len(set(sentences)) < len(sentences) or self.seen & set(sentences):
            return False
        if any(form in self.held_out for sentence in sentences for form in forms_of(sentence)):
            return False
        text = " " + " ".join(words) + " "
        if any(gap in text for gap in self.filled) or any(self.is_near(sentence) for sentence in sentences):
            return False
        self.seen.update(sentences)
        return True

    def is_new(self, line):
        """Whether no earlier line has one of its sentences: what is left of a line may read as other sentences than before."""
        sentences = sentences_of(line)
        is_new = not self.written & set(sentences)
        self.written.update(sentences)
        return is_new

    def is_near(self, sentence):
        words = sentence.split()
        return any(tuple(words[:i] + ["*"] + words[i + 1:]) in self.near for i in range(len(words)))


def ordinary(line):
    """Plain quotation marks, dashes and spaces."""
    return re.sub(r"\s+", " ", line.translate(PLAIN)).strip()


def is_sentence(line, least_words=3):
    if not set(line) <= ALLOWED or not 8 <= len(line) <= 400:
        return False
    words = words_of(line)
    if len(words) < least_words or not re.match(r"[\"'(]*[A-ZÀ-Þ0-9]|'[a-z] ", line) or not re.search(r"[.!?][\")']*$", line):
        return False
    if re.search(r"https?:|www\.| [.,;:!?](?:$| )|\(\s*\)|  ", line) or line.count("(") != line.count(")"):
        return False
    return line.count('"') % 2 == 0 and sum(word.isupper() and len(word) > 4 for word in re.findall(r"\w+", line)) == 0


def by_hash(lines):
    """An order that depends on the lines alone: for sentences that do not follow each other."""
    return sorted(lines, key=lambda line: hashlib.sha256(line.encode()).digest())


# Tatoeba: pairs in components, so that the translations of a sentence stay together.

def components(pairs):
    """Pairs joined by a sentence they share on either side, in the order of their first pair."""
    parent = list(range(len(pairs)))

    def root(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first = {}
    for i, (english, dutch) in enumerate(pairs):
        for key in (("en", " ".join(words_of(english))), ("nl", " ".join(words_of(dutch)))):
            j = root(first.setdefault(key, i))
            i_root = root(i)
            parent[max(i_root, j)] = min(i_root, j)
    groups = collections.defaultdict(list)
    for i, pair in enumerate(pairs):
        groups[root(i)].append(pair)
    return [groups[key] for key in sorted(groups)]


def digest_of(component):
    """The hash of a component's smallest English sentence."""
    name = min(" ".join(words_of(english)) for english, _ in component)
    return hashlib.sha256(name.encode()).digest()


def is_held_out(component):
    """A component of few pairs, chosen by its hash."""
    return len(component) <= HELD_OUT_PAIRS and int.from_bytes(digest_of(component)[:4], "big") % HELD_OUT_ONE_IN == 0


def tatoeba_components(data):
    """The components of Tatoeba's pairs, those to train on and those that are held out."""
    lines = read(data / "tatoeba-en-nl" / "tatoeba.en-nl.tsv").splitlines()
    parts = components([tuple(line.split("\t")[:2]) for line in lines if line.count("\t") >= 1])
    return [part for part in parts if not is_held_out(part)], [part for part in parts if is_held_out(part)]


def tatoeba(data):
    kept, held = tatoeba_components(data)
    return [pair for part in kept for pair in part], [pair for part in held for pair in part]


# Pairs for translation.

def is_pair(pair):
    """Two sentences with words, none too long or with coarse words."""
    for text, language in zip(pair, ("english", "dutch")):
        words = words_of(text)
        if not words or len(text) > MOST_PAIR_CHARACTERS or COARSE[language] & set(words):
            return False
    return True


def known_sentences(pairs):
    return {(side, " ".join(words_of(text))) for pair in pairs for side, text in enumerate(pair)}


def pair_parts(data):
    """Pairs to test, to validate and to train with. A later part has no pair that shares a sentence with an earlier part: components
    are made of the sentences as they are written, and two of them may be the same with plain quotation marks."""
    kept, held = tatoeba_components(data)
    is_validation = [int.from_bytes(digest_of(part)[4:8], "big") % VALIDATION_ONE_IN == 0 for part in held]
    parts = {
        "test": [pair for part, chosen in zip(held, is_validation) if not chosen for pair in part],
        "validation": [pair for part, chosen in zip(held, is_validation) if chosen for pair in part],
        "train": [pair for part in kept for pair in part],
    }
    seen = set()
    for name, pairs in parts.items():
        plain = dict.fromkeys((ordinary(english), ordinary(dutch)) for english, dutch in pairs)
        good = [pair for pair in plain if is_pair(pair) and not known_sentences([pair]) & seen]
        seen |= known_sentences(good)
        yield name, good


# The other sources: each gives lines in its own order.

def voice(data, language):
    name = {"dutch": "common-voice-nl/zinnen.txt", "english": "common-voice-en/sentences.txt"}[language]
    return by_hash(set(filter(is_sentence, map(ordinary, read(data / name).splitlines()))))


def tokenized(data, name, fix):
    """Alpino's sentences, one per line, set in ordinary type; neighbors are joined, as in `dutch-alpino`."""
    seen, forms = set(), {}
    return [alpino.balance_quotes(line) for line in alpino.paragraphs(data / name, fix, seen, forms)]


def dutch_news(data):
    words, unique = alpino.load_words(data / "opentaal" / "basiswoorden-gekeurd.txt")
    return tokenized(data, "alpino-cdb-sentences/cdb.sents", lambda text: alpino.restore_diacritics(text, words, unique))


def dutch_wiki(data):
    return tokenized(data, "nlwiki-sentences/nlwikipedia-selection.sents", lambda text: text)


def in_paragraphs(sentences, most=5):
    return [" ".join(sentences[i:i + most]) for i in range(0, len(sentences), most)]


def split_sentences(paragraph):
    """Sentences of running text: a mark, a space and a capital, but not after an initial or a short form."""
    pieces = re.split(r"(?<=[.!?])([\"')]*) (?=[\"'(]*[A-ZÀ-Þ])", paragraph)
    sentences, current = [], ""
    for text, marks in zip(pieces[::2], pieces[1::2] + [""]):
        current += (" " if current else "") + text + marks
        if not re.search(r"(?:^|[\s(.\"'])(?:[A-Z]|[A-Za-z]{1,4}\.[a-z]|Mr|Mrs|Ms|Dr|St|Jr|Sr|Prof|No|vs|Vol|Inc|Ltd|Co|Lt|Gen|Capt|Col|Rev|Hon|ca|c|etc|e\.g|i\.e|bijv|nr|o\.a)\.$", current):
            sentences.append(current)
            current = ""
    return sentences + ([current] if current else [])


def prose(text, least_words=5):
    """Runs of good sentences of each paragraph of running text, at most five at a time."""
    lines = []
    for paragraph in text.splitlines():
        run = []
        for sentence in split_sentences(ordinary(re.sub(r"[_*]", "", paragraph))) + [""]:
            if is_sentence(sentence, least_words):
                run.append(sentence)
            else:
                lines += in_paragraphs(run)
                run = []
    return lines


def is_dutch(line):
    words = set(words_of(line))
    return bool(alpino.FUNCTION_WORDS & words) and not {"the", "and", "by", "from", "to", "with"} & words


def quality(data):
    """ICTU's guide: only full sentences of its paragraphs and lists, without names of its templates."""
    text = read(data / "ictu-kwaliteit-nl" / "ictu-kwaliteitsaanpak.txt")
    lines = [re.sub(r"^\s*(?:[*+-]|\d+\.)\s+", "", line) for line in text.splitlines() if not line.startswith(("|", "#"))]
    return [line for line in prose("\n".join(lines), 6) if is_dutch(line) and not re.search(r"\bM\d\d|include", line)]


def commands(data):
    """tldr-pages: the description of each command, without those that name a placeholder."""
    pairs = [line.split("\t") for line in read(data / "tldr-en-nl" / "tldr.en-nl.tsv").splitlines()]
    lines = [ordinary(pair[1]) for pair in pairs if len(pair) > 1 and "`" not in pair[1] and "{" not in pair[1]]
    return [line for line in ((line if line[-1] in ".!?" else line + ".") for line in lines if line) if is_sentence(line, 4) and is_dutch(line)]


def english_wiki(data):
    articles = read(data / "enwiki-sample" / "enwiki-articles.txt")
    # In this file an article's paragraphs are joined without a space: "movement.Humans lived".
    long = re.sub(r"(?<=[a-z)][.!?])(?=[A-Z][a-z]* )", "\n", read(data / "wiki-c4-sample" / "wiki_demo.txt"))
    return prose(articles, 6) + prose(long, 6)


NOVELS = ["Burnett_Garden_1911", "Doyle_Lost_1912", "Chesterton_Innocence_1911", "Burnett_Lord_1886"]


def novels(data):
    """Spoken sentences keep their marks only in pairs, so much of a dialogue stays."""
    return [line for name in NOVELS for line in prose(read(data / "english-novels" / f"{name}.txt"), 3)]


def parts(data, language, kept):
    side = {"english": 0, "dutch": 1}[language]
    yield "tatoeba", [line for line in (ordinary(pair[side]) for pair in kept) if is_sentence(line, 2)]
    yield "voice", voice(data, language)
    if language == "dutch":
        yield "wiki", dutch_wiki(data)
        yield "news", dutch_news(data)
        yield "quality", quality(data)
        yield "commands", commands(data)
    else:
        yield "wiki", english_wiki(data)
        yield "novels", novels(data)


def kept_runs(line, rules):
    """The line without the sentences that the rules refuse: the runs between them."""
    if rules.take(line):
        return [line]
    runs, run = [], []
    for sentence in split_sentences(line):
        if rules.take(sentence):
            run.append(sentence)
            continue
        runs.append(run)
        run = []
    return [" ".join(run) for run in runs + [run] if run and len(" ".join(run)) >= 20]


def gap_words(path):
    """Each gap's sentence with its first expected word, in words."""
    rows = [line.split("\t") for line in read(path).splitlines() if line and not line.startswith("#")]
    return [words_of(row[0].replace("[MASK]", re.split(r", *", row[1])[0])) for row in rows]


def held_out_sentences(data, language, held):
    side = {"english": 0, "dutch": 1}[language]
    lines = [ordinary(pair[side]) for pair in held]
    if language == "dutch":
        text = read(HERE / "dutch-alpino" / "dutch-alpino.txt")
        lines += text[int(len(text) * 0.9):].splitlines()
    else:
        lines += read(data / "wikitext2-raw" / "wiki.valid.raw").splitlines()
    return {sentence for line in lines for sentence in sentences_of(line)}


def main():
    arguments = argparse.ArgumentParser()
    for name in ("--from", "--out"):
        arguments.add_argument(name, required=True, type=pathlib.Path, dest=name.strip("-") + "_dir")
    given = arguments.parse_args()
    kept, held = tatoeba(given.from_dir)
    for language in ("dutch", "english"):
        rules = Rules(language, held_out_sentences(given.from_dir, language, held), gap_words(HERE / language / "gaps.tsv"))
        folder = given.out_dir / language
        folder.mkdir(parents=True, exist_ok=True)
        for part, lines in parts(given.from_dir, language, kept):
            runs = (run for line in lines for run in kept_runs(line, rules))
            text = "".join(run + "\n" for run in runs if rules.is_new(run))
            (folder / f"{part}.txt").write_bytes(text.encode())
            print(language, part, text.count("\n"), "lines,", len(text.encode()), "bytes", file=sys.stderr)
    print(len(held), "pairs held out,", len(kept), "kept", file=sys.stderr)
    folder = given.out_dir / "tatoeba-en-nl"
    folder.mkdir(parents=True, exist_ok=True)
    for part, pairs in pair_parts(given.from_dir):
        rows = (json.dumps({"en": english, "nl": dutch}, ensure_ascii=False, separators=(",", ":")) for english, dutch in pairs)
        text = "".join(row + "\n" for row in rows)
        (folder / f"{part}.jsonl").write_bytes(text.encode())
        print("tatoeba-en-nl", part, len(pairs), "pairs,", len(text.encode()), "bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
