"""Clitics, negation, elision, mood and reflexives: which form, and in which order."""

import re

import lexicon as lx
from gender_and_number import as_nouns
from grammar import Dealer, Pair, determined, elides, mirrored, sentence


def clitic_order(deal: Dealer) -> list[Pair]:
    """Le roi le lui donne. / *Le roi lui le donne."""
    subject = determined(deal("le", "ce"), deal(*lx.ANYONE), False)
    present, past, infinitive = deal(*lx.GIVING)
    # « nous l'offre »: le and la would lose their vowel, and with it the pair its minimality.
    accusative = "les" if elides(present) else deal("le", "la", "les")
    thing = deal(*(lx.FEMININE_TEXTS if accusative == "la" else lx.MASCULINE_TEXTS))
    named = determined("ce", thing, accusative == "les")
    to_them, to_us = deal("lui", "leur"), deal("me", "nous", "vous", "te")
    frames = [
        f"{subject} _ {present}",
        f"en {deal(*lx.YEARS)}, {subject} _ {past}",
        f"{named}, {subject} _ {present}",
        f"{subject} ne _ {present} pas",
        f"{subject} accepte de _ {infinitive}",
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
        if kind == "ne" and re.match(r"d'|de l'|une? ", rest):
            return []  # « pas de »
        if kind == "ne":
            contexts.append(f"{subject} _{verb.present[0]} pas {rest}")
        else:
            contexts.append(f"_{verb.future[0].removesuffix('a')}ai {rest}")
    return mirrored(tuple(contexts), ("n'", "ne ") if kind == "ne" else ("j'", "je "), kind)


ELIDED_M = [n.sg for n in lx.MASCULINE_VOWEL_PLACES] + ["homme", "arbre", "animal", "héritier",
            "oiseau", "océan", "empire", "éléphant"]  # fmt: skip
ELIDED_F = [n.sg for n in lx.FEMININE_VOWEL_PLACES] + ["herbe", "horloge", "armée", "étoile",
            "araignée", "oasis", "abeille", "héroïne"]  # fmt: skip
PLAIN_M = [n.sg for n in lx.MASCULINE_PLACES] + ["héros", "hameau", "hibou", "héron", "hangar"] * 2
PLAIN_F = [n.sg for n in lx.FEMININE_PLACES] + ["harpe", "haie", "hutte", "hache", "halte"] * 2


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
