"""Make translation.json: what sacrebleu computes of translations.

Run from any folder: `python make_translation.py` (needs sacrebleu 2.6.0). All texts are made here.

- `texts`: translations, references (as many as each source has), the figures of the whole text by BLEU, chrF and chrF++, their signatures,
  and each sentence's own;
- `paired`: two systems over the same references: sacrebleu's paired bootstrap, its figures, 95 % half widths and p-value.
"""

import json
import pathlib
import random

import sacrebleu
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest

DUTCH = [
    ("De kat zit op de mat.", ["De kat zit op de mat.", "De poes ligt op het kleed."]),
    ("Hij heeft gisteren 1.234,56 euro betaald.", ["Hij betaalde gisteren € 1.234,56.", "Gisteren heeft hij 1.234,56 euro betaald."]),
    ("'s Avonds eten we om half acht.", ["'s Avonds eten wij om 7:30 uur."]),
    ("Zij zei: \"Ik kom morgen terug!\"", ["Ze zei: \u201eIk kom morgen terug!\u201d", "Zij zei: \"Morgen kom ik terug!\"", "\"Morgen ben ik er weer\", zei ze."]),
    ("", ["Wat is er aan de hand?"]),
    ("Eén, twee, drie; en dan (misschien) vier...", ["Een, twee, drie, en dan misschien vier ..."]),
    ("De trein van 12-15 uur rijdt niet/nooit.", ["De trein van 12-15 u rijdt niet.", "Tussen 12 en 15 uur rijdt er geen trein."]),
    ("Ik weet het niet", ["Dat weet ik niet.", "Geen idee."]),
]
ODD = [
    ("a.b,c 1.5 1,5 .5 5. x-1 1-x 1--2 ,, .. ", ["a.b,c 1.5 1,5 .5 5. x-1 1-x 1--2 ,, .."]),
    ("&quot;A&amp;lt;B&quot; &lt;b&gt; &amp;amp;", ["\"A<B\" <b> &amp;"]),
    ("een <skipped>twee-\ndrie\nvier", ["een tweedrie vier"]),
    ("tab\tnbsp\u00a0em\u2003lines\u2028sep\x1cend \x1f", ["tab nbsp em lines sep end"]),
    ("{a}[b]^c`d|e~f\\g_h @i #j $k %l *m +n =o <p> ?q", ["{ a } [ b ] ^ c ` d | e ~ f \\ g _ h @ i # j $ k % l * m + n = o < p > ? q"]),
    ("٣.٤ ½, ²-x 猫。犬", ["٣.٤ ½, ²-x 猫。犬"]),
    ("(hi) !x! ! \"quoted\" word's", ["(hi) x! ! 'quoted' words"]),
    ("no overlap whatsoever", ["geheel anders"]),
    ("a a a a a a", ["a a", "a a a b"]),
    ("short", ["short", ""]),
    ("", [""]),
]
SHORT = [("Ja", ["Ja"]), ("Nee hoor", ["Nee"])]
NOTHING = [("", ["iets"]), ("", ["niets"])]
ONE_MATCH = [("een geheel andere zin over een hond", ["de kat zat een uur stil voor het raam"])]
WORDS = "de het een kat hond zit loopt op onder mat tafel en niet snel , . groot klein huis 12 3,5 vandaag".split()


def made(rng, n_items, noise, n_references):
    """Sentences of random words, and translations that differ from the first reference in a share of the words."""
    items = []
    for _ in range(n_items):
        references = [[rng.choice(WORDS) for _ in range(rng.randint(3, 14))] for _ in range(rng.randint(*n_references))]
        said = [rng.choice(WORDS) if rng.random() < noise else word for word in references[0]]
        items.append((" ".join(said), [" ".join(words) for words in references]))
    return items


def streams(references):
    """References as sacrebleu takes them: one list per number of the reference, None where a source has fewer."""
    width = max(map(len, references))
    return [[of_source[k] if k < len(of_source) else None for of_source in references] for k in range(width)]


METRICS = {"bleu": BLEU, "chrf": CHRF, "chrf++": lambda **keys: CHRF(word_order=2, **keys)}


def text(items):
    said, references = [said for said, _ in items], [references for _, references in items]
    found = {"translations": said, "references": references, "score": {}, "signature": {}, "sentences": {}}
    for name, make in METRICS.items():
        metric = make()
        found["score"][name] = metric.corpus_score(said, streams(references)).score
        found["signature"][name] = str(metric.get_signature())
        alone = make(effective_order=True) if name == "bleu" else make()
        found["sentences"][name] = [alone.sentence_score(one, of_one).score for one, of_one in items]
    return found


def paired(rng):
    first = made(rng, 120, 0.35, (1, 1))
    second = [(" ".join(rng.choice(WORDS) if rng.random() < 0.28 else word for word in references[0].split()), references)
              for _, references in first]
    references = [references for _, references in first]
    systems = [("first", [said for said, _ in first]), ("second", [said for said, _ in second])]
    found = {"references": references, "first": systems[0][1], "second": systems[1][1], "figures": {}}
    for name, make in METRICS.items():
        _, scores = PairedTest(systems, {name: make()}, streams(references), test_type="bs", n_samples=4000)()
        [results] = [results for key, results in scores.items() if key != "System"]
        found["figures"][name] = {
            "score": [float(result.score) for result in results],
            "half_width": [float(result.ci) for result in results],
            "p_value": float(results[1].p_value),
        }
    return found


if __name__ == "__main__":
    rng = random.Random(7)
    texts = [DUTCH, ODD, DUTCH + ODD, SHORT, NOTHING, ONE_MATCH, made(rng, 30, 0.3, (1, 1)), made(rng, 30, 0.5, (2, 2)),
             made(rng, 40, 0.6, (1, 4))]
    expected = {"version": sacrebleu.__version__, "texts": [text(items) for items in texts], "paired": paired(rng)}
    out = pathlib.Path(__file__).parent / "translation.json"
    out.write_text(json.dumps(expected, ensure_ascii=False) + "\n", encoding="utf-8")
