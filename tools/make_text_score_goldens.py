#!/usr/bin/env python3
"""Write tests/golden/text_scores.json: sets of answers with sacreBLEU's BLEU and chrF and scikit-learn's macro-F1.

  tools/make_text_score_goldens.py

Needs: pip install sacrebleu==2.5.1 scikit-learn==1.7.2. The committed file comes from these.
"""
import json
import pathlib
import random

from sacrebleu.metrics import BLEU, CHRF
from sklearn.metrics import f1_score

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/text_scores.json"
SENTENCES = """A man in a blue shirt is standing on a ladder, cleaning a window.
Zwei junge Männer sind im Freien, in der Nähe vieler Büsche.
Plusieurs hommes coiffés d'un casque utilisent un système de poulies géant.
그 영화는 정말 재미있었지만, 결말이 조금 아쉬웠다.
彼は1,234.5ドルを払って、電車に乗った。
It costs $3.50 (about 10-15% less), she said: "That's cheap!"
&quot;Tom &amp; Jerry&quot; is a well-known cartoon - isn't it?
The 3-year-old U.S.-based start-up raised 1.5 million in Jan. 2020...
She sells sea shells by the sea shore; the shells she sells are sea-shells, I'm sure.
Le prix est de 12 € ; c'est 5 % moins cher qu'à l'origine\u00a0!
a b c d e f g
Wirklich?""".splitlines()
LABELS = ["balance", "transfer", "card lost", "out of scope"]


def changed(sentence, rng):
    """The sentence after a few accidents."""
    words = sentence.split(" ")
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(words))
        match rng.randrange(5):
            case 0:
                del words[at]
                words = words or ["x"]
            case 1:
                words.insert(at, rng.choice(rng.choice(SENTENCES).split(" ")))
            case 2:
                words[at] = words[at].upper()
            case 3:
                other = rng.randrange(len(words))
                words[at], words[other] = words[other], words[at]
            case 4:
                words[at] = words[at] + rng.choice(["  ", "\t", "\n", "-\n", ".", ",5", "\u3000", "<skipped>", "&lt;", "/"])
    return " ".join(words)


def case(pairs):
    got, expected = [list(side) for side in zip(*pairs)]
    return {"pairs": pairs, "bleu": BLEU().corpus_score(got, [expected]).score, "chrf": CHRF().corpus_score(got, [expected]).score,
            "macro_f1": 100 * f1_score(expected, got, labels=sorted(set(expected)), average="macro", zero_division=0)}


def main():
    rng = random.Random(1)
    cases = [case([(changed(s, rng), s) for s in SENTENCES for _ in range(3)])]
    cases += [case([(changed(s, rng), s)]) for s in SENTENCES]
    cases += [case([(s, s) for s in SENTENCES]), case([(SENTENCES[i - 1], s) for i, s in enumerate(SENTENCES)])]
    cases += [case([("", "something"), ("something", "something else")]), case([("", "a")]), case([("a", "")]), case([("xyz", "abc")])]
    cases.append(case([(rng.choice([label] * 3 + LABELS + ["I do not know"]), label) for label in LABELS for _ in range(20)]))
    OUT.write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
