"""Writes french_minimal_pairs.jsonl: `python data/eval/make_pairs.py`.

A minimal pair is a sentence and its nearest neighbour that breaks one rule of French. Every pair
here has a mirror: two contexts that want two different forms, each context once with the form it
wants and once with the other's. So whatever is good in one pair is bad in its mirror, and a model
that merely likes one form, or short strings, or frequent words, gets exactly half of them right.
Where the rule is an order (clitics, ne … pas), both sentences are made of the same words.

Chance decides nothing: words are dealt like cards from decks that SHA-256 shuffles, the same on
every machine and with every Python.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import lexicon as lx
from lexicon import Inflected, Noun

FILE = Path(__file__).parent / "french_minimal_pairs.jsonl"
SETS = 80
"""Sets of mirrored pairs for each phenomenon: 160 pairs."""
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
            self.decks[name] = sorted(
                table, key=lambda entry: hashlib.sha256(f"{key}/{entry!r}".encode()).digest()
            )
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


# --- The phenomena: each deals one set of mirrored pairs ------------------------------------------


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
           if verb.present[0] == stem + "e" and verb.present[0] != "découvre" else {}),
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


def determiner_noun_gender(deal: Dealer) -> list[Pair]:
    """la ville / *le ville"""
    if deal(True, True, False):
        nouns = deal(*lx.MASCULINE_PLACES), deal(*lx.FEMININE_PLACES)
        frames = PLACE_FRAMES
    else:
        nouns = deal(*lx.MASCULINE_WORKS), deal(*[n for n in lx.FEMININE_WORKS])
        frames = WORK_FRAMES
    nouns = tuple(n for n in nouns if not elides(n.sg))
    if len(nouns) < 2:
        return []
    kind = deal(*frames)
    frame = deal(*frames[kind]).replace("YEAR", str(deal(*lx.YEARS)))
    contexts = tuple(frame.replace("NOUN", noun.sg) for noun in nouns)
    return mirrored(contexts, tuple(kind.split("/")), kind)


PLACE_FRAMES = {
    "le/la": ["en YEAR, le roi visite _ NOUN", "_ NOUN se trouve près de la mer",
              "_ NOUN existe depuis le Moyen Âge"],
    "un/une": ["on trouve _ NOUN dans cette région", "_ NOUN porte le nom du roi",
               "le texte décrit _ NOUN"],
    "ce/cette": ["_ NOUN domine le paysage", "en YEAR, les soldats quittent _ NOUN"],
    "du/de la": ["l'histoire _ NOUN reste mystérieuse", "le nom _ NOUN vient du latin",
                 "les soldats arrivent près _ NOUN"],
    "au/à la": ["ce chemin mène _ NOUN", "en YEAR, le roi revient _ NOUN"],
    "son/sa": ["la région doit beaucoup à _ NOUN", "l'empereur admire _ NOUN"],
    "aucun/aucune": ["_ NOUN ne date de cette époque", "en YEAR, il ne reste _ NOUN"],
}  # fmt: skip
WORK_FRAMES = {
    "le/la": ["en YEAR, l'auteur termine _ NOUN", "_ NOUN raconte la vie du roi"],
    "un/une": ["le musée conserve _ NOUN", "_ NOUN rend l'artiste célèbre",
               "l'auteur prépare _ NOUN sur ce sujet"],
    "ce/cette": ["_ NOUN date de YEAR", "le public admire _ NOUN"],
    "du/de la": ["l'auteur _ NOUN reste inconnu", "une copie _ NOUN existe depuis YEAR"],
    "son/sa": ["le poète présente _ NOUN en YEAR", "_ NOUN rend le peintre célèbre"],
    "aucun/aucune": ["_ NOUN ne date de YEAR", "l'auteur ne publie _ NOUN cette année-là"],
}  # fmt: skip


def determiner_noun_number(deal: Dealer) -> list[Pair]:
    """les ponts / *les pont"""
    place = deal(True, True, False)
    noun = deal(*(lx.PLACES if place else lx.MASCULINE_WORKS + lx.FEMININE_WORKS))
    kind = deal("le", "un", "ce", "de", "son")
    frames = {
        "de": ["l'histoire NP reste mystérieuse", "l'auteur parle NP dans ce livre"],
        "son": ["le roi admire NP", "en YEAR, l'empereur vend NP"],
    }.get(kind, ["en YEAR, le roi découvre NP", "l'auteur décrit NP dans ce livre",
                 "on remarque NP", "le public admire NP"])  # fmt: skip
    frame = deal(*frames).replace("YEAR", str(deal(*lx.YEARS)))
    contexts = []
    for plural in (False, True):
        if kind == "son":
            feminine = noun.gender == "f" and not elides(noun.sg)
            phrase = ("ses " if plural else "sa " if feminine else "son ") + noun[1 + plural]
        else:
            phrase = determined("le" if kind == "de" else kind, noun, plural)
            phrase = of(phrase) if kind == "de" else phrase
        contexts.append(frame.replace("NP", phrase.removesuffix(noun[1 + plural]) + "_"))
    return mirrored(tuple(contexts), (noun.sg, noun.pl), kind)


def thing_and_adjectives(deal: Dealer) -> tuple[list[Noun], list[Noun], list[Inflected], str]:
    kind = deal("place", "work", "person")
    if kind == "person":
        people = lx.PEOPLE
        return ([Noun("m", p.ms, p.mp) for p in people], [Noun("f", p.fs, p.fp) for p in people],
                lx.PERSON_ADJECTIVES, kind)  # fmt: skip
    if kind == "place":
        return (lx.MASCULINE_PLACES + lx.MASCULINE_VOWEL_PLACES,
                lx.FEMININE_PLACES + lx.FEMININE_VOWEL_PLACES,
                lx.PLACE_ADJECTIVES, kind)  # fmt: skip
    return lx.MASCULINE_WORKS, lx.FEMININE_WORKS, lx.WORK_ADJECTIVES, kind


COPULAS = {
    "present": [("est", "sont"), ("semble", "semblent"), ("paraît", "paraissent"),
                ("reste", "restent")],
    "imperfect": [("était", "étaient"), ("semblait", "semblaient"), ("restait", "restaient")],
    "past": [("fut", "furent"), ("parut", "parurent"), ("sembla", "semblèrent")],
    "future": [("sera", "seront"), ("restera", "resteront")],
}  # fmt: skip
ATTRIBUTIVE = {
    "place": ["on visite NP _ dans la région", "NP _ se trouve/se trouvent près du fleuve",
              "en YEAR, le roi découvre NP _"],
    "work": ["l'auteur publie NP _ en YEAR", "le musée conserve NP _",
             "NP _ porte/portent la date de YEAR"],
    "person": ["le roi rencontre NP _ en YEAR", "NP _ quitte/quittent la ville",
               "le texte parle de NP _"],
}  # fmt: skip
# « une petite maison », but « une maison ancienne »: these don't follow the noun.
BEFORE_THE_NOUN = {"petit", "grand", "long", "content", "savant"}


def adjective(deal: Dealer, gender: bool) -> list[Pair]:
    masculine, feminine, adjectives, what = thing_and_adjectives(deal)
    chosen = deal(*adjectives)
    predicative = chosen.ms in BEFORE_THE_NOUN or deal(True, False)
    tense, determiner = deal(*TENSES), deal("le", "ce")
    plural = deal(False, False, True)
    if gender:
        subjects = [(deal(*masculine), plural), (deal(*feminine), plural)]
        forms = (chosen.mp, chosen.fp) if plural else (chosen.ms, chosen.fs)
    else:
        noun = deal(*masculine) if deal(True, False) else deal(*feminine)
        subjects = [(noun, False), (noun, True)]
        forms = (chosen.ms, chosen.mp) if noun.gender == "m" else (chosen.fs, chosen.fp)
    if forms[0] == forms[1]:
        return []
    adverb = deal("", "", "très ", "assez ", "plutôt ")
    copula, start = deal(*COPULAS[tense]), opening(deal, tense, state=True)
    frame = deal(*ATTRIBUTIVE[what]).replace("YEAR", str(deal(*lx.YEARS)))
    contexts = []
    for noun, many in subjects:
        if predicative:
            np = determined(determiner, noun, many)
            contexts.append(f"{start}{np} {copula[many]} {adverb}_")
        else:
            text = re.sub(r"(\S+|se \S+)/(se \S+|\S+)", lambda m, n=many: m[1 + n], frame)
            np = determined("un", noun, many)
            if "de NP" in text:
                text = text.replace("de NP", "d'NP" if not many else "de NP")
                np = np.removeprefix("des ") if many else np
                if many and elides(np):
                    text = text.replace("de NP", "d'NP")
            contexts.append(text.replace("NP", np))
    kind = "predicative" if predicative else "attributive"
    return mirrored(tuple(contexts), forms, kind)


def adjective_gender(deal: Dealer) -> list[Pair]:
    """La maison est ancienne. / *La maison est ancien."""
    return adjective(deal, gender=True)


def adjective_number(deal: Dealer) -> list[Pair]:
    """Les maisons sont anciennes. / *Les maisons sont ancienne."""
    return adjective(deal, gender=False)


def of_two(deal: Dealer, forms: Inflected) -> tuple[tuple[int, int], str]:
    """Which two of a participle's forms are told apart, as indices: ms 0, fs 1, mp 2, fp 3."""
    couples = {"gender": ((0, 1), (0, 1), (2, 3)), "number": ((0, 2), (1, 3))}
    kind = deal("gender", "number")
    return deal(*couples[kind]), kind


def as_nouns(person: Inflected) -> tuple[Noun, Noun]:
    return Noun("m", person.ms, person.mp), Noun("f", person.fs, person.fp)


def participle_etre(deal: Dealer) -> list[Pair]:
    """La reine est née à Lyon. / *La reine est né à Lyon."""
    if deal(True, False):
        participle, tails = deal(*lx.MOVED)
        nouns, tail, what = as_nouns(deal(*lx.PEOPLE)), deal(*tails), "active"
        auxiliary, start = deal(("est", "sont"), ("était", "étaient")), ""
        if auxiliary[0] == "est":
            start = deal("", f"En {deal(*lx.YEARS)}, ")
    else:
        nouns = deal(*lx.MASCULINE_BUILDINGS), deal(*lx.FEMININE_BUILDINGS)
        participle, what = deal(*lx.BUILT), "passive"
        tail = deal(f"en {deal(*lx.YEARS)}", "pendant la guerre", "par un prince", "par l'empereur")
        auxiliary = deal(("a été", "ont été"), ("fut", "furent"), ("avait été", "avaient été"))
        start = deal("", "Selon ce livre, ")
    indices, kind = of_two(deal, participle)
    determiner = deal("le", "ce")
    contexts = []
    for i in indices:
        feminine, plural = i % 2, i // 2
        np = determined(determiner, nouns[feminine], bool(plural))
        contexts.append(f"{start}{np} {auxiliary[plural]} _ {tail}")
    forms = participle[indices[0]], participle[indices[1]]
    return mirrored(tuple(contexts), forms, f"{what}-{kind}")


def participle_avoir(deal: Dealer) -> list[Pair]:
    """La lettre que le roi a écrite … / *La lettre que le roi a écrit …"""
    if deal(True, False):
        nouns, participle = (deal(*lx.MASCULINE_WORKS), deal(*lx.FEMININE_WORKS)), deal(*lx.WRITTEN)
        predicates = [("se trouve", "se trouvent", "au musée"),
                      ("date", "datent", f"de {deal(*lx.YEARS)}"),
                      ("reste", "restent", "dans la bibliothèque"),
                      ("parle", "parlent", "de la guerre")]  # fmt: skip
    else:
        nouns = deal(*lx.MASCULINE_BUILDINGS), deal(*lx.FEMININE_BUILDINGS)
        participle = deal(*[p for p in lx.BUILT if p.ms != "dessiné"])
        predicates = [("se trouve", "se trouvent", "près du fleuve"),
                      ("date", "datent", f"de {deal(*lx.YEARS)}"),
                      ("existe", "existent", "encore aujourd'hui"),
                      ("domine", "dominent", "le port")]  # fmt: skip
    subject = determined("le", deal(*lx.ANYONE), deal(False, True))
    aux = "ont" if subject.startswith("les ") else "a"
    que = "qu'" if elides(subject) else "que "
    sg, pl, rest = deal(*predicates)
    year = deal(*lx.YEARS)
    how = deal("relative", "relative", "clitic", "order")
    if how == "order":
        # The object before the verb against the object after it; its forms are not ms.
        i = deal(1, 1, 2, 3)
        if participle[i] == participle.ms:
            return []
        np = determined("le", nouns[i % 2], i > 1)
        contexts = (f"{subject} {aux} _ {np}",
                    f"{np} {que}{subject} {aux} _ {pl if i > 1 else sg} {rest}")  # fmt: skip
        return mirrored(contexts, (participle.ms, participle[i]), how)
    indices, kind = of_two(deal, participle)
    contexts = []
    for i in indices:
        plural = i > 1
        if how == "relative":
            np = determined(deal("le", "le"), nouns[i % 2], plural)
            contexts.append(f"{np} {que}{subject} {aux} _ {pl if plural else sg} {rest}")
        else:
            np = determined("ce", nouns[i % 2], plural)
            clitic = "les " if plural else "l'"
            contexts.append(f"{np}, {subject} {clitic}{aux} _ en {year}")
    forms = participle[indices[0]], participle[indices[1]]
    return mirrored(tuple(contexts), forms, f"{how}-{kind}")


def clitic_order(deal: Dealer) -> list[Pair]:
    """Le roi le lui donne. / *Le roi lui le donne."""
    subject = determined(deal("le", "ce"), deal(*lx.ANYONE), False)
    present, past, infinitive = deal(*lx.GIVING)
    accusative = deal("le", "la", "les")
    things = {
        "le": Noun("m", *deal(*[n[1:] for n in lx.MASCULINE_WORKS])),
        "la": Noun("f", *deal(*[n[1:] for n in lx.FEMININE_WORKS])),
    }
    thing = things["la" if accusative == "la" else "le"]
    named = determined("ce", thing, accusative == "les")
    to_them, to_us = deal("lui", "leur"), deal("me", "nous", "vous", "te")
    frames = [
        f"{subject} _ {present}",
        f"en {deal(*lx.YEARS)}, {subject} _ {past}",
        f"{named}, {subject} _ {present}",
        f"{subject} ne _ {present} pas",
        f"{subject} refuse de _ {infinitive}",
        f"{subject} veut _ {infinitive}",
    ]
    frame = deal(*range(len(frames)))
    made = []
    for order in ((accusative, to_them), (to_us, accusative)):
        right, wrong = " ".join(order), " ".join(reversed(order))
        good, bad = (sentence(frames[frame].replace("_", form)) for form in (right, wrong))
        made.append(Pair(good, bad, right))
    return made


def ne_pas(deal: Dealer) -> list[Pair]:
    """Le roi ne quitte pas la ville. / *Le roi ne pas quitte la ville. And three more orders."""
    subject = determined(deal("le", "ce"), deal(*lx.ANYONE), False)
    present, past, participle, infinitive, thing, pronoun = deal(*lx.DOING)
    start, finite = deal(
        ("", present), ("Aujourd'hui, ", present), (f"En {deal(*lx.YEARS)}, ", past)
    )
    ne = "n'" if elides(present) else "ne "
    wish = deal("préfère", "choisit de", "promet de", "décide de", "demande aux soldats de")
    if deal(True, False):
        quads = [
            ("finite", f"{start}{subject} {ne}{finite} pas {thing}",
             f"{start}{subject} ne pas {finite} {thing}"),
            ("infinitive", f"{start}{subject} {wish} ne pas {infinitive} {thing}",
             f"{start}{subject} {wish} {ne}{infinitive} pas {thing}"),
        ]  # fmt: skip
    elif elides(present):
        return []  # « la n'accepte pas » would not be the letters of « ne l'accepte pas »
    else:
        quads = [
            ("compound", f"{start}{subject} n'a pas {participle} {thing}",
             f"{start}{subject} n'a {participle} pas {thing}"),
            ("clitic", f"{start}{subject} ne {pronoun} {finite} pas",
             f"{start}{subject} {pronoun} ne {finite} pas"),
        ]  # fmt: skip
    return [Pair(sentence(good), sentence(bad), kind) for kind, good, bad in quads]


def elision(deal: Dealer) -> list[Pair]:
    """L'église domine la vallée. / *La église domine la vallée."""
    kind = deal("le", "le", "la", "la", "de", "que", "ne", "je")
    if kind in ("le", "la"):
        vowel = deal(*(ELIDED_M if kind == "le" else ELIDED_F))
        plain = deal(*(PLAIN_M if kind == "le" else PLAIN_F))
        frame = deal("en YEAR, le roi découvre _NOUN", "_NOUN se trouve dans cette région",
                     "l'auteur décrit _NOUN dans ce livre", "on distingue _NOUN sur l'image",
                     "le tableau montre _NOUN")  # fmt: skip
        frame = frame.replace("YEAR", str(deal(*lx.YEARS)))
        contexts = tuple(frame.replace("NOUN", word) for word in (vowel, plain))
        return mirrored(contexts, ("l'", kind + " "), kind)
    if kind == "de":
        cities = deal(*lx.VOWEL_CITIES), deal(*lx.CITIES)
        frame = deal(
            "la ville _CITY connaît un grand succès",
            "en YEAR, le roi quitte le port _CITY",
            "l'université _CITY existe depuis YEAR",
            "le musée _CITY conserve ce tableau",
            "l'évêque _CITY fonde une école",
            "le comte _CITY perd la bataille",
        )
        frame = frame.replace("YEAR", str(deal(*lx.YEARS)))
        contexts = tuple(frame.replace("CITY", city) for city in cities)
        return mirrored(contexts, ("d'", "de "), kind)
    if kind == "que":
        start = deal("on sait", "le texte dit", "l'auteur écrit", "tout le monde croit")
        verb = deal(*lx.ACTIONS)
        rest = f"{verb.present[0]} {deal(*verb.complements)}"
        vowel, plain = deal("il", "elle", "un prince", "une reine"), deal(*lx.MEN)
        plain = f"le {plain[0]}" if not elides(plain[0]) else f"ce {deal('duc', 'roi', 'comte')}"
        return mirrored((f"{start} _{vowel} {rest}", f"{start} _{plain} {rest}"), ("qu'", "que "),
                        kind)  # fmt: skip
    verbs = [[v for v in lx.ACTIONS if elides(v.present[0]) is yes] for yes in (True, False)]
    chosen = deal(*verbs[0]), deal(*verbs[1])
    contexts = []
    subject = determined("le", deal(*lx.ANYONE), False)
    for verb in chosen:
        rest = deal(*verb.complements)
        if kind == "ne":
            contexts.append(f"{subject} _{verb.present[0]} pas {rest.replace('une ', 'cette ')}")
        else:
            contexts.append(f"_{verb.future[0].removesuffix('a')}ai {rest}")
    return mirrored(tuple(contexts), ("n'", "ne ") if kind == "ne" else ("j'", "je "), kind)


ELIDED_M = [n.sg for n in lx.MASCULINE_VOWEL_PLACES] + ["homme", "arbre", "animal", "héritier",
            "oiseau", "océan", "empire", "éléphant"]  # fmt: skip
ELIDED_F = [n.sg for n in lx.FEMININE_VOWEL_PLACES] + ["herbe", "horloge", "armée", "étoile",
            "araignée", "oasis", "abeille", "héroïne"]  # fmt: skip
PLAIN_M = [n.sg for n in lx.MASCULINE_PLACES] + ["héros", "hameau", "hibou", "héron", "hangar"] * 2
PLAIN_F = [n.sg for n in lx.FEMININE_PLACES] + ["harpe", "haie", "hutte", "hache", "hauteur"] * 2


def subjunctive(deal: Dealer) -> list[Pair]:
    """Il faut que le roi fasse … / *Il faut que le roi fait …, and « on sait que » the converse."""
    plural = deal(False, False, True)
    wanted, plain, rest = deal(*(lx.SUBJUNCTIVE_PLURAL if plural else lx.SUBJUNCTIVE_SINGULAR))
    subject = determined(deal("le", "ce"), deal(*lx.ANYONE), plural)
    if deal(True, False, False, False):
        subject = deal("elles", "ils") if plural else deal("elle", "il")
    que = "qu'" if elides(subject) else "que "
    demand = deal("il faut", "il faut", "il faut aussi", "il faudra")
    fact = deal("on sait", "on remarque", "on constate", "il est clair", "il est certain")
    tail = deal(*rest)
    contexts = f"{demand} {que}{subject} _ {tail}", f"{fact} {que}{subject} _ {tail}"
    return mirrored(contexts, (wanted, plain), "plural" if plural else "singular")


def reflexive(deal: Dealer) -> list[Pair]:
    """Nous nous méfions … / *Nous se méfions …; La reine se juge elle-même / *lui-même."""
    if deal(True, False, False):
        sg, pl, preposition = deal(*lx.ONESELF)
        nouns = as_nouns(deal(*lx.PEOPLE))
        pronouns = "lui-même", "elle-même", "eux-mêmes", "elles-mêmes"
        indices, kind = deal(
            ((0, 1), "gender"), ((2, 3), "gender"), ((0, 2), "number"), ((1, 3), "number")
        )
        determiner = deal("le", "ce")
        forms, contexts = [], []
        for i in indices:
            np = determined(determiner, nouns[i % 2], i > 1)
            contexts.append(f"{np} {pl if i > 1 else sg} {preposition} _")
            forms.append(pronouns[i])
        return mirrored(tuple(contexts), tuple(forms), f"pronoun-{kind}")
    je, tu, il, nous, vous, ils, tails = deal(*lx.REFLEXIVE)
    tail = deal(*tails)
    plural, singular = deal(*lx.ANYONE), deal(*lx.ANYONE)
    subjects = {
        "je": ("je", je, "me"), "tu": ("tu", tu, "te"),
        "nous": ("nous", nous, "nous"), "vous": ("vous", vous, "vous"),
        "il": (deal("elle", determined("le", singular, False)), il, "se"),
        "ils": (deal("ils", "elles", determined("le", plural, True)), ils, "se"),
    }  # fmt: skip
    names = deal(("nous", "ils"), ("nous", "ils"), ("vous", "ils"), ("nous", "il"), ("vous", "il"),
                 ("je", "il"), ("tu", "il"))  # fmt: skip
    forms, contexts = [], []
    for name in names:
        subject, verb, clitic = subjects[name]
        short = clitic[0] + "'" if clitic in ("me", "te", "se") and elides(je) else clitic + " "
        contexts.append(f"{subject} _{verb} {tail}")
        forms.append(short)
    return mirrored(tuple(contexts), tuple(forms), "clitic")


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
        while n_pairs < 2 * SETS:
            pairs = phenomenon(deal)
            sentences: Sequence[str] = [text for pair in pairs for text in (pair.good, pair.bad)]
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
