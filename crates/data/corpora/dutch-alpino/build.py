"""Builds dutch-alpino.txt from two public collections of Dutch sentences; see SOURCE.md.

    python3 build.py cdb.sents nlwikipedia-selection.sents basiswoorden-gekeurd.txt > dutch-alpino.txt

The sentences come tokenised (a space before every punctuation mark), mixed with headings, lists and foreign titles,
and the newspaper text has lost its diacritics. This script keeps whole Dutch sentences, sets them in ordinary type,
puts the diacritics back where a word list leaves no doubt, and joins neighbours into paragraphs. It uses no
randomness: the same files give the same bytes.
"""

import re
import sys
import unicodedata

MIN_CHARACTERS, MAX_CHARACTERS, MIN_WORDS = 30, 400, 5
PARAGRAPH_SENTENCES = 5
SECTION_PARAGRAPHS = 4
# Sentences that differ in numbers and names only ("X is een gemeente in ...") teach a small model nothing but the form.
MAX_OF_ONE_FORM = 3

ALLOWED = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,;:!?()'\"-&%/"
              "áàäâéèëêíïîóòöôúüûçñÁÉËÖÜåøãÅØ€°")
FUNCTION_WORDS = set("de het een en van in is op te dat die er zijn was wordt werd met voor aan niet ook als om door "
                     "hij zij ze ik je we wij maar bij naar uit heeft had kan dit deze worden werden".split())
# Words, names and foreign words that the rule below would give an accent they do not have here.
WITHOUT_ACCENT = set("officieren natte loss rose lance trace lame conte bohemen resume extreme francaise carre presence".split())


def deaccent(word):
    return "".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c))


def load_words(path):
    """The word list, and for each spelling without diacritics the only word that has it."""
    words, accented = set(), {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            word = line.strip()
            words.add(word)
            bare = deaccent(word)
            if bare != word:
                accented.setdefault(bare, set()).add(word)
    unique = {bare: next(iter(full)) for bare, full in accented.items() if len(full) == 1 and bare not in words}
    return words, unique


def restore_diacritics(text, words, unique):
    # The list has base words; these endings make most of their inflected forms.
    endings = ["", "n", "s", "e", "en", "ën", "'s"]

    def fix(match):
        word = match.group(0)
        lower = word.lower()
        if word in words or lower in words or lower in WITHOUT_ACCENT or deaccent(word) != word:
            return word
        for ending in endings:
            bare_ending = deaccent(ending)
            if bare_ending and not lower.endswith(bare_ending):
                continue
            stem = lower[: len(lower) - len(bare_ending)] if bare_ending else lower
            for key in (stem, stem.capitalize()):
                if len(key) > 3 and key in unique:
                    full = unique[key] + ending
                    return full[0].upper() + full[1:] if word[0].isupper() else full
        return word

    return re.sub(r"[A-Za-zÀ-ÿ]+", fix, text)


def detokenise(text, quote_is_open):
    """Ordinary typography for a tokenised sentence, and whether a quotation goes on after it."""
    text = text.replace("«", " ").replace("»", " ").replace("´", "'").replace("`", "'")
    pieces, out, glue = text.split(), "", True
    for index, piece in enumerate(pieces):
        if piece == '"':
            # At the start a mark opens; at the end or before punctuation it closes; elsewhere they alternate.
            before_mark = index + 1 == len(pieces) or re.fullmatch(r"[.,;:!?)]+", pieces[index + 1])
            closes = index > 0 and bool(quote_is_open or before_mark)
            quote_is_open = not closes
            out += '"' if closes or glue else ' "'
            glue = not closes
        elif re.fullmatch(r"[.,;:!?)%]+", piece):
            out += piece
            glue = False
        elif piece == "(":
            out += "(" if glue else " ("
            glue = True
        else:
            out += piece if glue else " " + piece
            glue = False
    return out.strip(), quote_is_open


def is_good(sentence):
    if not MIN_CHARACTERS <= len(sentence) <= MAX_CHARACTERS or not set(sentence) <= ALLOWED:
        return False
    words = re.findall(r"[^\W\d_]+", sentence)
    if len(words) < MIN_WORDS or not any(word in FUNCTION_WORDS for word in words):
        return False
    if not re.match(r"[\"(]?[A-ZÁÉËÖÜ]|'[a-z] ", sentence) or not re.search(r"[.!?][\")]?$", sentence):
        return False
    if sentence.count("(") != sentence.count(")") or re.search(r"\(\s*\)|\.\.\.|[,;:] ?[,;:.]| [.,;:!?]|--|www|http", sentence):
        return False
    # Lost hyphens ("WestDuitsland", "EEGtoporgaan") and shouted names.
    if re.search(r"[a-z][A-Z](?!dA)|[A-Z]{2,}[a-z]{3,}|[A-Z]{6,}", sentence.replace("PvdA", "")):
        return False
    letters = sum(c.isalpha() for c in sentence)
    digits = sum(c.isdigit() for c in sentence)
    capitals = sum(word[0].isupper() for word in words)
    return digits * 8 <= letters and capitals * 2 <= len(words)


def form_of(sentence):
    return re.sub(r"\b[A-ZÀ-Þ][\w'-]*(\s+[A-ZÀ-Þ][\w'-]*)*|\d[\d.,]*", "#", sentence)


def paragraphs(path, fix, seen, forms):
    """Runs of good neighbours: a line that is left out ends a paragraph."""
    result, current, quote_is_open = [], [], False

    def end():
        if current and (len(current) > 1 or len(current[0]) >= 80):
            result.append(" ".join(current))
        current.clear()

    with open(path, encoding="utf-8") as file:
        for line in file:
            sentence, quote_is_open = detokenise(line, quote_is_open)
            sentence = fix(sentence)
            form = form_of(sentence)
            if not is_good(sentence) or sentence in seen or forms.get(form, 0) >= MAX_OF_ONE_FORM:
                end()
                quote_is_open = False
                continue
            seen.add(sentence)
            forms[form] = forms.get(form, 0) + 1
            current.append(sentence)
            if len(current) == PARAGRAPH_SENTENCES and not quote_is_open or len(current) > PARAGRAPH_SENTENCES + 2:
                end()
                quote_is_open = False
    end()
    return result


def balance_quotes(paragraph):
    """A paragraph with an odd number of quotation marks has lost one; it reads better without any."""
    return paragraph if paragraph.count('"') % 2 == 0 else paragraph.replace('"', "")


def sections(items):
    return [items[i : i + SECTION_PARAGRAPHS] for i in range(0, len(items), SECTION_PARAGRAPHS)]


def interleave(first, second):
    """Both lists in their own order, spread evenly, so that the held-back end is of the same mixture."""
    keyed = [((i + 0.5) / len(first), 0, item) for i, item in enumerate(first)]
    keyed += [((i + 0.5) / len(second), 1, item) for i, item in enumerate(second)]
    return [item for _, _, item in sorted(keyed, key=lambda entry: entry[:2])]


def main():
    news_path, wiki_path, words_path = sys.argv[1:]
    words, unique = load_words(words_path)
    seen, forms = set(), {}
    news = paragraphs(news_path, lambda text: restore_diacritics(text, words, unique), seen, forms)
    wiki = paragraphs(wiki_path, lambda text: text, seen, forms)
    mixed = interleave(sections(news), sections(wiki))
    text = "\n\n".join("\n".join(balance_quotes(item) for item in section) for section in mixed)
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    sys.stdout.write(text + "\n")
    for name, items in [("news", news), ("wiki", wiki)]:
        print(name, len(items), "paragraphs,", sum(map(len, items)), "characters", file=sys.stderr)


if __name__ == "__main__":
    main()
