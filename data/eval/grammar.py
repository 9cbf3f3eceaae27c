"""What the phenomena are built with: dealt words, spelling, and pairs with their mirror.

Chance decides nothing: words are dealt like cards from decks that SHA-256 shuffles, the same on
every machine and with every Python.
"""

import hashlib
import re
from typing import Any, NamedTuple, TypeVar

import lexicon as lx
from lexicon import Noun

T = TypeVar("T")


class Pair(NamedTuple):
    good: str
    bad: str
    kind: str
    attractor: str = ""
    """`same` or `other`: the number of a noun between subject and verb, beside the subject's."""


class Dealer:
    """Deals each table's entries in turn, in an order that depends on nothing but the salt."""

    def __init__(self, salt: str) -> None:
        self.salt = salt
        self.decks: dict[str, list[Any]] = {}
        self.rounds: dict[str, int] = {}

    def __call__(self, *table: T) -> T:
        name = repr(table)
        if not self.decks.get(name):
            self.rounds[name] = self.rounds.get(name, 0) + 1
            key = f"{self.salt}/{name}/{self.rounds[name]}"
            # Of a small table several copies, or two choices in turn would always go together.
            deck = list(enumerate(table * max(1, 16 // len(table))))
            deck.sort(key=lambda card: hashlib.sha256(f"{key}/{card!r}".encode()).digest())
            self.decks[name] = [entry for _, entry in deck]
        return self.decks[name].pop()


# --- Spelling -----------------------------------------------------------------------------------


def elides(word: str) -> bool:
    """Whether le, la, de, que … lose their vowel before this word."""
    return word[0].lower() in "aeiouhéèêâîô" and word.split()[0] not in lx.ASPIRATED


def determined(kind: str, noun: Noun, plural: bool) -> str:
    """le château, l'église, cet hôtel, des ports …"""
    word = noun.pl if plural else noun.sg
    if plural:
        return {"le": "les ", "un": "des ", "ce": "ces "}[kind] + word
    if kind == "le" and elides(word):
        return "l'" + word
    if kind == "ce" and noun.gender == "m" and elides(word):
        return "cet " + word
    return DETERMINERS[kind][noun.gender == "f"] + word


DETERMINERS = {"le": ("le ", "la "), "un": ("un ", "une "), "ce": ("ce ", "cette ")}


def of(phrase: str) -> str:
    """de + phrase: du, des, de l', d'un …"""
    for full, short in (("le ", "du "), ("les ", "des ")):
        if phrase.startswith(full):
            return short + phrase.removeprefix(full)
    return ("d'" if elides(phrase) else "de ") + phrase


def sentence(text: str) -> str:
    text = re.sub(r" +", " ", text).strip()
    return text[0].upper() + text[1:] + "."


def mirrored(
    contexts: tuple[str, str], forms: tuple[str, str], kind: str, attractor: str = ""
) -> list[Pair]:
    """Two contexts with a gap `_`; the first wants the first form, the second the second."""
    made = []
    for context, right, wrong in ((contexts[0], *forms), (contexts[1], *reversed(forms))):
        good, bad = (sentence(context.replace("_", form)) for form in (right, wrong))
        made.append(Pair(good, bad, kind, attractor))
    return made


def opening(deal: Dealer, tense: str, state: bool = False) -> str:
    if tense == "present" and state:
        return deal("", "", "Aujourd'hui, ", "Selon le texte, ")
    if tense == "past" and deal(True, False):
        return f"En {deal(*lx.YEARS)}, "
    return deal(*OPENINGS[tense])


OPENINGS = {
    "present": ("", "", "Aujourd'hui, ", "Chaque année, ", "Parfois, ", "Souvent, "),
    "imperfect": ("", "À cette époque, ", "Autrefois, ", "Au siècle dernier, ", "Avant la paix, "),
    "past": ("", "Après la guerre, ", "Au printemps, ", "Cette année-là, "),
    "future": ("", "L'année prochaine, ", "Bientôt, ", "Selon le texte, "),
}
TENSES = ("present", "present", "imperfect", "past", "past", "future")
