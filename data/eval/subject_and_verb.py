"""Verbs that agree with their subject: next to it, and across what comes between."""

from collections.abc import Callable

import lexicon as lx
from grammar import TENSES, Dealer, Pair, determined, elides, mirrored, of, opening
from lexicon import Noun


def subject_and_verb(deal: Dealer) -> tuple[Noun, str, tuple[str, str], str]:
    """A person and what people do, or a place and what places do: noun, opening, forms, rest."""
    person = deal(True, False)
    noun = deal(*(lx.ANYONE if person else lx.PLACES))
    verb = deal(*(lx.ACTIONS + lx.STATES if person else lx.STANDING))
    tense = deal(*TENSES)
    start = opening(deal, tense, state=not person)
    return noun, start, getattr(verb, tense), deal(*verb.complements)


def subject_verb_number(deal: Dealer) -> list[Pair]:
    """Le roi chante. / *Le roi chantent."""
    noun, start, forms, rest = subject_and_verb(deal)
    determiner = deal("le", "un", "ce")
    contexts = tuple(f"{start}{determined(determiner, noun, n)} _ {rest}" for n in (False, True))
    return mirrored(contexts, forms, "noun")


def person_forms(verb: lx.Verb) -> dict[str, dict[str, str]]:
    """Present and future by pronoun, for regular verbs and those of ACTIONS."""
    stem = verb.imperfect[0].removesuffix("ait")
    future = verb.future[0].removesuffix("a")
    return {
        "present": {"nous": stem + "ons", "vous": stem + "ez", "ils": verb.present[1]}
        | ({"je": stem + "e", "tu": stem + "es", "il": stem + "e"}
           if verb.present[0] == stem + "e" else {}),
        "future": {"je": future + "ai", "tu": future + "as", "il": future + "a",
                   "nous": future + "ons", "vous": future + "ez", "ils": future + "ont"},
    }  # fmt: skip


def subject_verb_person(deal: Dealer) -> list[Pair]:
    """Nous chantons. / *Nous chantez."""
    verb = deal(*lx.ACTIONS)
    tense = deal("present", "present", "future")
    forms = person_forms(verb)[tense]
    couples = [("nous", "ils"), ("vous", "ils"), ("nous", "vous"), ("je", "il"), ("tu", "il"),
               ("je", "tu")]  # fmt: skip
    fitting = [(a, b) for a, b in couples if a in forms and b in forms and forms[a] != forms[b]]
    pronouns = deal(*fitting)
    start, rest = opening(deal, tense), deal(*verb.complements)
    feminine = deal(True, False)
    contexts = []
    for pronoun in pronouns:
        shown = {"il": "elle", "ils": "elles"}.get(pronoun, pronoun) if feminine else pronoun
        gap = "j'_" if pronoun == "je" and elides(forms["je"]) else f"{shown} _"
        contexts.append(f"{start}{gap} {rest}")
    pair_of_forms = forms[pronouns[0]], forms[pronouns[1]]
    if "je" in pronouns and elides(pair_of_forms[0]) != elides(pair_of_forms[1]):
        return []
    return mirrored(tuple(contexts), pair_of_forms, "-".join(pronouns))


def across(deal: Dealer, between: Callable[[bool, bool], tuple[str, str]], kind: str,
           forms: tuple[str, str], start: str, rest: str) -> list[Pair]:  # fmt: skip
    """Subject singular and plural, with an attractor of the same number and of the other."""
    made = []
    for same in (True, False):
        contexts = []
        for plural in (False, True):
            subject, middle = between(plural, plural == same)
            contexts.append(f"{start}{subject} {middle} _ {rest}")
        made += mirrored(tuple(contexts), forms, kind, "same" if same else "other")
    return made


def agreement_across_prepositional_phrase(deal: Dealer) -> list[Pair]:
    """Le pont devant les jardins domine la vallée. / *Le pont devant les jardins dominent …"""
    tense, determiner = deal(*TENSES), deal("le", "le", "ce")
    if deal(True, False):
        noun, other, verb = deal(*lx.KIN), deal(*lx.ANYONE), deal(*lx.ACTIONS + lx.STATES)
        kind, link = "person", of
    else:
        noun, other, verb = deal(*lx.PLACES), deal(*lx.PLACES), deal(*lx.STANDING)
        preposition = deal("devant", "derrière", "près de", "à côté de", "en face de", "de")
        kind, link = "place", lambda phrase: linked(preposition, phrase)
        if preposition == "de":
            noun = deal(*[n for n in lx.PLACES if n.sg in PARTS])
            other = deal(*[n for n in lx.PLACES if n.sg in WHOLES])
    if noun == other:
        return []

    def between(plural: bool, other_plural: bool) -> tuple[str, str]:
        return determined(determiner, noun, plural), link(determined("le", other, other_plural))

    return across(deal, between, kind, getattr(verb, tense),
                  opening(deal, tense, state=kind == "place"), deal(*verb.complements))  # fmt: skip


PARTS = {"jardin", "rue", "chapelle", "salle", "bibliothèque", "statue", "escalier", "rempart",
         "bâtiment", "port", "boutique", "fontaine", "cimetière", "pavillon"}  # fmt: skip
WHOLES = {"village", "ville", "château", "monastère", "abbaye", "université", "hôpital", "musée",
          "forteresse", "quartier", "couvent", "île", "église", "école"}  # fmt: skip


def linked(preposition: str, phrase: str) -> str:
    if preposition == "de":
        return of(phrase)
    if preposition.endswith(" de"):
        return preposition.removesuffix("de") + of(phrase)
    return f"{preposition} {phrase}"


def agreement_across_relative(deal: Dealer, subject_relative: bool) -> list[Pair]:
    tense, determiner = deal(*TENSES), deal("le", "le", "ce")
    noun, other, verb = deal(*lx.ANYONE), deal(*lx.ANYONE), deal(*lx.ACTIONS + lx.STATES)
    knowing = deal(*lx.KNOWING)
    if noun.gender == other.gender and noun.sg == other.sg:
        return []

    def between(plural: bool, other_plural: bool) -> tuple[str, str]:
        object_or_subject = determined("le", other, other_plural)
        inside = (
            f"qui {knowing[plural]} {object_or_subject}"
            if subject_relative
            else f"que {object_or_subject} {knowing[other_plural]}"
        )
        return determined(determiner, noun, plural), inside

    kind = "subject" if subject_relative else "object"
    return across(deal, between, kind, getattr(verb, tense), opening(deal, tense),
                  deal(*verb.complements))  # fmt: skip


def agreement_across_subject_relative(deal: Dealer) -> list[Pair]:
    """Le roi qui craint les ducs part pour l'Italie. / *Le roi qui craint les ducs partent …"""
    return agreement_across_relative(deal, subject_relative=True)


def agreement_across_object_relative(deal: Dealer) -> list[Pair]:
    """Le roi que les ducs craignent part pour l'Italie. / *Le roi que les ducs craignent partent"""
    return agreement_across_relative(deal, subject_relative=False)
