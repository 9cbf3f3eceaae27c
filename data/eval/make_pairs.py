"""Writes french_minimal_pairs.jsonl: `python data/eval/make_pairs.py`.

A minimal pair is a sentence and its nearest neighbour that breaks one rule of French. Every pair
here has a mirror: two contexts that want two different forms, each context once with the form it
wants and once with the other's. So whatever is good in one pair is bad in its mirror, and a model
that merely likes one form, or short strings, or frequent words, gets exactly half of them right.
Where the rule is an order (clitics, ne … pas), both sentences are made of the same words. Across a
phrase or a clause every subject comes with a noun of its own number and with one of the other, so a
verb that agrees with the nearest noun is right half of the time too.

lexicon.py has the words, grammar.py what a pair is, and each phenomenon is a function that is dealt
words and makes one set of mirrored pairs. What is wrong must be wrong in every reading: the words
and frames that a review found a way out for are named where they would stand.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from gender_and_number import (
    adjective_gender,
    adjective_number,
    determiner_noun_gender,
    determiner_noun_number,
    participle_avoir,
    participle_etre,
)
from grammar import Dealer, Pair
from order_and_form import clitic_order, elision, ne_pas, reflexive, subjunctive
from subject_and_verb import (
    agreement_across_object_relative,
    agreement_across_prepositional_phrase,
    agreement_across_subject_relative,
    subject_verb_number,
    subject_verb_person,
)

FILE = Path(__file__).parent / "french_minimal_pairs.jsonl"
PAIRS = 160
"""For each phenomenon."""

PHENOMENA: tuple[Callable[[Dealer], list[Pair]], ...] = (
    subject_verb_number, subject_verb_person, agreement_across_prepositional_phrase,
    agreement_across_subject_relative, agreement_across_object_relative, determiner_noun_gender,
    determiner_noun_number, adjective_gender, adjective_number, participle_etre, participle_avoir,
    clitic_order, ne_pas, elision, subjunctive, reflexive,
)  # fmt: skip


def make_pairs() -> Iterator[dict[str, str]]:
    for phenomenon in PHENOMENA:
        name, seen = phenomenon.__name__, set()
        deal = Dealer(name)
        n_pairs = 0
        while n_pairs < PAIRS:
            pairs = phenomenon(deal)
            sentences = [text for pair in pairs for text in (pair.good, pair.bad)]
            if not pairs or len(set(sentences)) < len(sentences) or seen & set(sentences):
                continue  # a set that makes no sense, or repeats a sentence
            seen.update(sentences)
            for pair in pairs:
                n_pairs += 1
                row = {"id": f"{name}-{n_pairs:03d}", "phenomenon": name, "kind": pair.kind,
                       "good": pair.good, "bad": pair.bad}  # fmt: skip
                yield row | ({"attractor": pair.attractor} if pair.attractor else {})


def as_jsonl() -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in make_pairs())


if __name__ == "__main__":
    text = as_jsonl()
    FILE.write_bytes(text.encode())
    print(f"{len(text.splitlines())} pairs in {FILE}")
