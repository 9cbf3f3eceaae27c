"""Determiners, adjectives and participles: gender and number."""

import re

import lexicon as lx
from grammar import TENSES, Dealer, Pair, determined, elides, mirrored, of, opening
from lexicon import Inflected, Noun


def determiner_noun_gender(deal: Dealer) -> list[Pair]:
    """la ville / *le ville"""
    if deal(True, True, False):
        nouns = deal(*lx.MASCULINE_PLACES), deal(*lx.FEMININE_PLACES)
        frames = PLACE_FRAMES
    else:
        nouns = deal(*lx.MASCULINE_WORKS), deal(*lx.FEMININE_WORKS)
        frames = WORK_FRAMES
    if any(elides(noun.sg) for noun in nouns):
        return []  # « l'article » hides its gender
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
    "place": ["on visite NP _ dans la région", "NP _ [se trouve|se trouvent] près du fleuve",
              "en YEAR, le roi découvre NP _"],
    "work": ["l'auteur publie NP _ en YEAR", "le musée conserve NP _",
             "NP _ [porte|portent] la date de YEAR"],
    "person": ["le roi rencontre NP _ en YEAR", "NP _ [quitte|quittent] la ville",
               "ce livre décrit NP _"],
}  # fmt: skip
# « une petite maison », but « une maison ancienne »: these don't follow the noun.
BEFORE_THE_NOUN = {"petit", "grand", "long", "content", "savant"}


def adjective(deal: Dealer, gender: bool) -> list[Pair]:
    masculine, feminine, adjectives, what = thing_and_adjectives(deal)
    chosen = deal(*adjectives)
    # « des films brillant dans la nuit » is good French: a present participle.
    not_beside_a_noun = chosen.ms in BEFORE_THE_NOUN or chosen.ms.endswith("ant")
    predicative = not_beside_a_noun or deal(True, False, False)
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
            text = re.sub(r"\[(.*)\|(.*)\]", lambda verbs, n=many: verbs[1 + n], frame)
            contexts.append(text.replace("NP", determined("un", noun, many)))
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
        nouns, participle = (deal(*lx.MASCULINE_TEXTS), deal(*lx.FEMININE_TEXTS)), deal(*lx.WRITTEN)
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
