"""The words that make_pairs.py builds sentences from, by hand, one entry a line.

A word is left out where a form means two things that a phenomenon tells apart: nouns of two genders
(le tour, la tour), epicene nouns and adjectives where gender is tested, nouns and adjectives whose
plural is their singular where number is, adjectives that are also adverbs (haut, cher, fort).
"""

from typing import NamedTuple

ASPIRATED = {"hameau", "hameaux", "héros", "hibou", "hiboux", "héron", "hérons", "harpe", "hache",
             "haie", "hutte", "halle", "halte", "harem", "hangar"}  # fmt: skip
YEARS = [1623, 1687, 1715, 1742, 1768, 1789, 1804, 1815, 1830, 1848, 1859, 1871, 1889, 1898, 1905,
         1912, 1921, 1934, 1947, 1953, 1962, 1975]  # fmt: skip


class Noun(NamedTuple):
    gender: str
    """m or f."""
    sg: str
    pl: str


class Inflected(NamedTuple):
    """An adjective, a participle, or a person who can be of either gender."""

    ms: str
    fs: str
    mp: str
    fp: str


class Verb(NamedTuple):
    """Third person singular and plural of four tenses, and what follows the verb."""

    present: tuple[str, str]
    imperfect: tuple[str, str]
    past: tuple[str, str]
    future: tuple[str, str]
    complements: tuple[str, ...]


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.strip().splitlines()]


def with_s(*words: str) -> list[tuple[str, str]]:
    return [(word, word + "s") for word in words]


# --- People -------------------------------------------------------------------------------------

# masculine singular, feminine singular; both take -s in the plural
PEOPLE = [Inflected(m, f, m + "s", f + "s") for m, f in rows("""
    roi            reine
    prince         princesse
    duc            duchesse
    comte          comtesse
    empereur       impératrice
    musicien       musicienne
    acteur         actrice
    écrivain       écrivaine
    chanteur       chanteuse
    danseur        danseuse
    marchand       marchande
    paysan         paysanne
    étudiant       étudiante
    avocat         avocate
    voisin         voisine
    historien      historienne
    mathématicien  mathématicienne
    physicien      physicienne
    chercheur      chercheuse
    compositeur    compositrice
    romancier      romancière
    ouvrier        ouvrière
    voyageur       voyageuse
    explorateur    exploratrice
    fondateur      fondatrice
    directeur      directrice
    prisonnier     prisonnière
    joueur         joueuse
    infirmier      infirmière
    jardinier      jardinière
    berger         bergère
    inventeur      inventrice
    député         députée
    navigateur     navigatrice
    traducteur     traductrice
    habitant       habitante
    ami            amie
    cousin         cousine
""")]  # fmt: skip

# Where gender is not tested, these too.
MEN = with_s("peintre", "maire", "philosophe", "médecin", "architecte", "poète", "ministre",
             "journaliste", "soldat", "chevalier", "évêque", "savant", "professeur", "élève",
             "moine", "capitaine")  # fmt: skip
ANYONE = [Noun("m", p.ms, p.mp) for p in PEOPLE] + [Noun("m", *man) for man in MEN]
ANYONE += [Noun("f", p.fs, p.fp) for p in PEOPLE]
# Whose? « le cousin du roi »
KIN = [Noun(gender, word, word + "s") for gender, word in rows("""
    m frère
    f sœur
    m cousin
    f cousine
    m ami
    f amie
    m médecin
    m serviteur
    f servante
    m voisin
    f voisine
    m secrétaire
    m professeur
    m avocat
    f nièce
    m ennemi
    m allié
    m disciple
""")] + [Noun("m", "neveu", "neveux")]  # fmt: skip

# --- Places and works ---------------------------------------------------------------------------

MASCULINE_PLACES = [Noun("m", *pair) for pair in with_s(
    "village", "pont", "musée", "temple", "théâtre", "monument", "jardin", "parc", "port",
    "quartier", "marché", "monastère", "couvent", "cimetière", "volcan", "bâtiment", "pavillon",
    "moulin", "phare", "stade", "lycée", "barrage", "sanctuaire", "rempart", "site", "collège",
)] + [Noun("m", "château", "châteaux"), Noun("m", "tombeau", "tombeaux")]  # fmt: skip
FEMININE_PLACES = [Noun("f", *pair) for pair in with_s(
    "ville", "maison", "rue", "cathédrale", "chapelle", "bibliothèque", "forteresse", "vallée",
    "montagne", "rivière", "gare", "plage", "colline", "villa", "fontaine", "caserne", "prison",
    "citadelle", "mosquée", "cascade", "muraille", "statue", "grotte", "salle", "forêt", "route",
    "boutique", "banque",
)]  # fmt: skip
MASCULINE_VOWEL_PLACES = [Noun("m", *pair) for pair in with_s(
    "hôtel", "aéroport", "observatoire", "institut", "opéra", "atelier", "amphithéâtre",
    "aqueduc", "édifice", "escalier", "ermitage",
)] + [Noun("m", "hôpital", "hôpitaux")]  # fmt: skip
FEMININE_VOWEL_PLACES = [Noun("f", *pair) for pair in with_s(
    "église", "école", "île", "abbaye", "université", "ambassade", "usine", "académie", "auberge",
    "avenue", "arène",
)]  # fmt: skip
NATURE = {"volcan", "site", "vallée", "montagne", "rivière", "plage", "colline", "cascade",
          "grotte", "forêt"}  # fmt: skip
PLACES = MASCULINE_PLACES + FEMININE_PLACES + MASCULINE_VOWEL_PLACES + FEMININE_VOWEL_PLACES
MASCULINE_BUILDINGS = [noun for noun in MASCULINE_PLACES if noun.sg not in NATURE]
FEMININE_BUILDINGS = [noun for noun in FEMININE_PLACES if noun.sg not in NATURE]

MASCULINE_WORKS = [Noun("m", *pair) for pair in with_s(
    "roman", "poème", "conte", "manuscrit", "dictionnaire", "portrait", "récit", "recueil",
    "document", "texte", "catalogue", "dessin", "film", "article",
)] + [Noun("m", "tableau", "tableaux"), Noun("m", "journal", "journaux")]  # fmt: skip
FEMININE_WORKS = [Noun("f", *pair) for pair in with_s(
    "lettre", "chanson", "légende", "pièce", "revue", "biographie", "symphonie", "fresque",
    "comédie", "tragédie", "chronique", "carte", "gravure", "photographie", "fable", "traduction",
)]  # fmt: skip

# What can be written, read and translated.
PICTURES = {"portrait", "dessin", "film", "tableau", "fresque", "carte", "gravure", "photographie"}
MASCULINE_TEXTS = [noun for noun in MASCULINE_WORKS if noun.sg not in PICTURES]
FEMININE_TEXTS = [noun for noun in FEMININE_WORKS if noun.sg not in PICTURES]

# --- Adjectives and participles: masculine, feminine; plurals with -s unless written out ----------


def inflected(table: str) -> list[Inflected]:
    found = []
    for m, f, *plural in rows(table):
        found.append(Inflected(m, f, plural[0] if plural else m + "s", f + "s"))
    return found


PLACE_ADJECTIVES = inflected("""
    ancien          ancienne
    important       importante
    charmant        charmante
    impressionnant  impressionnante
    élégant         élégante
    étonnant        étonnante
    petit           petite
    grand           grande
    discret         discrète
    accueillant     accueillante
    mystérieux      mystérieuse      mystérieux
    somptueux       somptueuse       somptueux
    spacieux        spacieuse        spacieux
    bruyant         bruyante
    récent          récente
    isolé           isolée
    connu           connue
    fréquenté       fréquentée
    lointain        lointaine
    coûteux         coûteuse         coûteux
""")
WORK_ADJECTIVES = inflected("""
    ancien          ancienne
    important       importante
    intéressant     intéressante
    amusant         amusante
    élégant         élégante
    étonnant        étonnante
    long            longue
    complet         complète
    mystérieux      mystérieuse      mystérieux
    précieux        précieuse        précieux
    ennuyeux        ennuyeuse        ennuyeux
    émouvant        émouvante
    récent          récente
    connu           connue
    influent        influente
    brillant        brillante
    passionnant     passionnante
    savant          savante
""")
PERSON_ADJECTIVES = inflected("""
    intelligent     intelligente
    prudent         prudente
    patient         patiente
    puissant        puissante
    méfiant         méfiante
    généreux        généreuse        généreux
    courageux       courageuse       courageux
    heureux         heureuse         heureux
    ambitieux       ambitieuse       ambitieux
    connu           connue
    respecté        respectée
    bavard          bavarde
    élégant         élégante
    brillant        brillante
    âgé             âgée
    inquiet         inquiète
    discret         discrète
    content         contente
    souriant        souriante
    indépendant     indépendante
""")

# Compound tenses with être: participle | what follows
MOVED = [(Inflected(p, p + "e", p + "s", p + "es"), tails.split("/")) for p, tails in (
    line.strip().split("|") for line in """
    né|à Lyon/à Rome/en Bretagne/dans un village de montagne
    mort|en exil/à Paris/pendant le voyage
    arrivé|au port/à Marseille/avant la nuit
    parti|pour l'Italie/avant l'hiver/vers le nord
    revenu|d'Espagne/au village/après la guerre
    venu|de Bordeaux/en bateau
    entré|dans la ville/au couvent
    resté|au palais/à Genève
    sorti|de la maison/du théâtre
    retourné|au village/en Allemagne
    descendu|dans la vallée/au bord du lac
    monté|sur la colline/à Paris
    allé|à Rome/au marché
    parvenu|au sommet/dans la capitale
    tombé|dans la rivière/du toit
    """.strip().splitlines())]  # fmt: skip
BUILT = inflected("""
    construit   construite
    détruit     détruite
    fondé       fondée
    restauré    restaurée
    abandonné   abandonnée
    découvert   découverte
    décrit      décrite
    inauguré    inaugurée
    bâti        bâtie
    agrandi     agrandie
    occupé      occupée
    visité      visitée
    vendu       vendue
    défendu     défendue
    rénové      rénovée
    dessiné     dessinée
""")
WRITTEN = inflected("""
    écrit       écrite
    publié      publiée
    traduit     traduite
    vendu       vendue
    perdu       perdue
    lu          lue
    reçu        reçue
    étudié      étudiée
    présenté    présentée
    offert      offerte
    retrouvé    retrouvée
    commencé    commencée
""")

# --- Verbs --------------------------------------------------------------------------------------


def first_group(stem: str, complements: str) -> Verb:
    """chant- -> chante, chantent, chantait, chantaient, chanta, chantèrent, chantera, chanteront"""
    endings = [("e", "ent"), ("ait", "aient"), ("a", "èrent"), ("era", "eront")]
    forms = [(stem + sg, stem + pl) for sg, pl in endings]
    return Verb(*forms, tuple(complements.split("/")))


def irregular(line: str) -> Verb:
    words, complements = line.split("|")
    sg, pl, imperfect, past_sg, past_pl, future = words.split()
    return Verb((sg, pl), (imperfect, imperfect[:-1] + "ent"), (past_sg, past_pl),
                (future, future[:-1] + "ont"), tuple(complements.split("/")))  # fmt: skip


# What people do. A complement of a verb that takes an object is singular and has no possessive.
ACTIONS = [first_group(*line.strip().split("|")) for line in """
    travaill|dans un atelier/près de la gare/avec passion
    habit|près du port/dans la capitale
    chant|pendant la cérémonie/dans une église
    enseign|à l'université/la géométrie
    jou|dans le jardin/du piano
    march|vers la montagne/le long du fleuve
    étudi|la médecine/le droit
    quitt|la ville/le village
    visit|le musée/un temple
    travers|le désert/la forêt
    observ|la planète/le ciel
    dessin|une carte/un portrait
    prépar|un repas/une expédition
    présent|un projet/une théorie nouvelle
    publi|un roman/un traité de botanique
    fond|une école/un journal
    cherch|un trésor/une solution
    trouv|un manuscrit/une preuve
    gard|la frontière/le silence
    racont|une légende/le voyage
    port|un manteau/une couronne
    demand|la paix/de l'aide
    admir|le paysage/la cathédrale
    explor|la région/une grotte
    arriv|à Paris/avant la nuit
    rest|dans la vallée/à Londres
    retourn|au village/en Espagne
    particip|à la bataille/au concours
    assist|à la réunion/au concert
    refus|le traité/la proposition
    sign|le traité/un accord
    rencontr|un savant/une actrice
    parl|d'une découverte/avec un témoin
    """.strip().splitlines()] + [
    irregular(line.strip()) for line in """
    écrit écrivent écrivait écrivit écrivirent écrira|une lettre/un poème
    lit lisent lisait lut lurent lira|un journal/la lettre
    vit vivent vivait vécut vécurent vivra|à la campagne/en Provence
    part partent partait partit partirent partira|pour l'Italie/avant l'aube
    dort dorment dormait dormit dormirent dormira|dans une grotte/sous un arbre
    prend prennent prenait prit prirent prendra|un bateau/la fuite
    vient viennent venait vint vinrent viendra|de la campagne/de Belgique
    tient tiennent tenait tint tinrent tiendra|une boutique/un discours
    connaît connaissent connaissait connut connurent connaîtra|la vérité/le succès
    construit construisent construisait construisit construisirent construira|un pont/une maison
    reçoit reçoivent recevait reçut reçurent recevra|un prix/une récompense
    perd perdent perdait perdit perdirent perdra|la bataille/le procès
    attend attendent attendait attendit attendirent attendra|la fin de la guerre/une réponse
    choisit choisissent choisissait choisit choisirent choisira|un nouveau chef/une autre route
    suit suivent suivait suivit suivirent suivra|la rivière/le même chemin
    découvre découvrent découvrait découvrit découvrirent découvrira|une île/une comète
    défend défendent défendait défendit défendirent défendra|la ville/une idée
    ouvre ouvrent ouvrait ouvrit ouvrirent ouvrira|une école/le débat
    apprend apprennent apprenait apprit apprirent apprendra|le latin/la musique
    sort sortent sortait sortit sortirent sortira|de la maison/du palais
    obtient obtiennent obtenait obtint obtinrent obtiendra|un poste/la victoire
    répond répondent répondait répondit répondirent répondra|à la question/au discours
    va vont allait alla allèrent ira|au marché/à Rome
    """.strip().splitlines()]  # fmt: skip
# The same, but not with « nous » and « vous ».
STATES = [irregular(line.strip()) for line in """
    est sont était fut furent sera|à Rome/au service de la ville
    a ont avait eut eurent aura|une grande influence/un rôle important
    fait font faisait fit firent fera|un long voyage/une découverte
    """.strip().splitlines()]  # fmt: skip

# What places do.
STANDING = [first_group(*line.strip().split("|")) for line in """
    domin|la vallée/le paysage
    attir|le public/l'attention
    occup|le centre de la région/un vaste terrain
    abrit|une collection d'art/un ancien trésor
    exist|à cet endroit/dans cette région
    port|le nom d'un saint/une inscription
    """.strip().splitlines()] + [
    irregular(line.strip()) for line in """
    appartient appartiennent appartenait appartint appartinrent appartiendra|à la couronne/à l'État
    sert servent servait servit servirent servira|de refuge/de décor au film
    disparaît disparaissent disparaissait disparut disparurent disparaîtra|peu à peu/sous la neige
    fait font faisait fit firent fera|partie du domaine royal/l'objet d'une étude
    est sont était fut furent sera|au bord de la mer/au cœur de la région
    """.strip().splitlines()]  # fmt: skip

# In a relative clause, between people: singular, plural.
KNOWING = [
    tuple(row)
    for row in rows("""
    admire      admirent
    connaît     connaissent
    rencontre   rencontrent
    protège     protègent
    accompagne  accompagnent
    craint      craignent
    cherche     cherchent
    observe     observent
    défend      défendent
    écoute      écoutent
    respecte    respectent
    suit        suivent
    attend      attendent
    soutient    soutiennent
    imite       imitent
    combat      combattent
    aide        aident
    déteste     détestent
""")
]

# Someone gives it to someone: present singular, past simple singular, infinitive.
GIVING = [
    tuple(row)
    for row in rows("""
    donne     donna     donner
    montre    montra    montrer
    demande   demanda   demander
    vend      vendit    vendre
    rend      rendit    rendre
    offre     offrit    offrir
    raconte   raconta   raconter
    présente  présenta  présenter
    apporte   apporta   apporter
    prête     prêta     prêter
    confie    confia    confier
    refuse    refusa    refuser
    explique  expliqua  expliquer
    promet    promit    promettre
    lit       lut       lire
""")
]

# present singular, past simple singular, participle with avoir, infinitive | object and its pronoun
DOING = [(*words.split(), *rest.split("/")) for words, rest in (
    line.strip().split("|") for line in """
    quitte quitta quitté quitter|la ville/la
    rejoint rejoignit rejoint rejoindre|le roi/le
    accepte accepta accepté accepter|les conditions/les
    signe signa signé signer|le traité/le
    lit lut lu lire|la lettre/la
    vend vendit vendu vendre|les terres/les
    reçoit reçut reçu recevoir|le messager/le
    oublie oublia oublié oublier|la bataille/la
    comprend comprit compris comprendre|le texte/le
    publie publia publié publier|les poèmes/les
    traverse traversa traversé traverser|la rivière/la
    attaque attaqua attaqué attaquer|le village/le
    suit suivit suivi suivre|la route/la
    trouve trouva trouvé trouver|le trésor/le
    détruit détruisit détruit détruire|les archives/les
    visite visita visité visiter|la région/la
    défend défendit défendu défendre|le château/le
    termine termina terminé terminer|la symphonie/la
    utilise utilisa utilisé utiliser|la machine/la
    explique expliqua expliqué expliquer|le phénomène/le
    abandonne abandonna abandonné abandonner|la forteresse/la
    occupe occupa occupé occuper|le palais/le
    """.strip().splitlines())]  # fmt: skip

# Only the reflexive exists, so « nous » can't be an object: the present of je, tu, il, nous, vous,
# ils | what follows. Left out: verbs of which some dictionary has a rare transitive use (blottir,
# extasier, insurger, obstiner, rebeller), and « se souvenir » for « il nous souvient ».
REFLEXIVE = [(*words.split(), rest.split("/")) for words, rest in (
    line.strip().split("|") for line in """
    méfie méfies méfie méfions méfiez méfient|du pouvoir/de la presse
    prélasse prélasses prélasse prélassons prélassez prélassent|au soleil/dans le jardin
    ravise ravises ravise ravisons ravisez ravisent|au dernier moment/avant le vote
    réfugie réfugies réfugie réfugions réfugiez réfugient|dans une église/en Suisse
    repens repens repent repentons repentez repentent|de cette erreur/du mensonge
    démène démènes démène démenons démenez démènent|pour la victoire/pendant toute la bataille
    désiste désistes désiste désistons désistez désistent|avant le vote/au second tour
    empare empares empare emparons emparez emparent|de la ville/du trésor
    évanouis évanouis évanouit évanouissons évanouissez évanouissent|de fatigue/pendant la messe
    enfuis enfuis enfuit enfuyons enfuyez enfuient|vers la montagne/avant la nuit
    efforce efforces efforce efforçons efforcez efforcent|de comprendre le texte/de garder le calme
    absente absentes absente absentons absentez absentent|pendant l'été/avant la fin du procès
    évade évades évade évadons évadez évadent|de la prison/par le toit
    abstiens abstiens abstient abstenons abstenez abstiennent|de voter/de tout commentaire
    gausse gausses gausse gaussons gaussez gaussent|de la défaite/du danger
    targue targues targue targuons targuez targuent|de cette victoire/du succès
    adonne adonnes adonne adonnons adonnez adonnent|à la musique/au commerce
    éprends éprends éprend éprenons éprenez éprennent|de musique/de la mer
    enquiers enquiers enquiert enquérons enquérez enquièrent|du prix/de la santé du roi
    évertue évertues évertue évertuons évertuez évertuent|à trouver une preuve/à convaincre le roi
    ingénie ingénies ingénie ingénions ingéniez ingénient|à construire un pont/à trouver une preuve
    """.strip().splitlines())]  # fmt: skip
# With « elle-même » beside the reflexive, which nobody but the subject can be: singular, plural |
# preposition, if any
ONESELF = [(*words.split("/"), tail.strip()) for words, tail in (
    line.strip().split("|") for line in """
    se critique/se critiquent|
    se défend/se défendent|
    se juge/se jugent|
    se présente/se présentent|
    se décrit/se décrivent|
    se protège/se protègent|
    se trompe/se trompent|
    se trahit/se trahissent|
    se soigne/se soignent|
    s'interroge/s'interrogent|
    s'accuse/s'accusent|
    s'admire/s'admirent|
    se mentait/se mentaient|à
    se parlait/se parlaient|à
    se posait la question/se posaient la question|à
    se promettait le pouvoir/se promettaient le pouvoir|à
    se reproche cette erreur/se reprochent cette erreur|à
    se répète cette phrase/se répètent cette phrase|à
    """.strip().splitlines())]  # fmt: skip

# After « il faut que » and after « on sait que »: subjunctive, indicative | what follows.
# Left out: every form that is both (chante, chantent, prennent, partions).
SUBJUNCTIVE_SINGULAR = [(*words.split(), rest.split("/")) for words, rest in (
    line.strip().split("|") for line in """
    fasse fait|un long voyage/une pause
    soit est|au courant de l'affaire/à Paris
    ait a|une bonne mémoire/de la patience
    aille va|à Rome/au marché
    vienne vient|de loin/à la cérémonie
    revienne revient|au village/sur cette décision
    prenne prend|la parole/une décision
    apprenne apprend|le grec/la musique
    comprenne comprend|la situation/le latin
    puisse peut|répondre à la question/partir avant l'hiver
    sache sait|lire/la vérité
    finisse finit|le travail/la traduction
    choisisse choisit|un nouveau chef/la paix
    réussisse réussit|cette expérience/le concours
    parte part|avant la nuit/pour l'Italie
    sorte sort|de la ville/du palais
    dorme dort|dans la forêt/près du feu
    écrive écrit|une lettre/un rapport
    lise lit|le journal/ce livre
    dise dit|la vérité/adieu
    mette met|une couronne/fin au conflit
    rende rend|le trésor/la justice
    réponde répond|à la lettre/au juge
    attende attend|une réponse/le printemps
    défende défend|la frontière/la liberté
    vende vend|la maison/une partie du domaine
    perde perd|du temps/le procès
    suive suit|le fleuve/le même chemin
    vive vit|à la campagne/dans la capitale
    connaisse connaît|la loi/cette histoire
    construise construit|un pont/une école
    conduise conduit|la voiture/une expédition
    produise produit|du vin/un film
    reçoive reçoit|un prix/le messager
    tienne tient|une promesse/un discours
    obtienne obtient|un poste/la victoire
    """.strip().splitlines())]  # fmt: skip
SUBJUNCTIVE_PLURAL = [(*words.split(), rest.split("/")) for words, rest in (
    line.strip().split("|") for line in """
    fassent font|un long voyage/la paix
    soient sont|au courant de l'affaire/à Paris
    aient ont|une bonne mémoire/de la patience
    aillent vont|à Rome/au marché
    puissent peuvent|répondre à la question/partir avant l'hiver
    sachent savent|lire/la vérité
    """.strip().splitlines())]  # fmt: skip

VOWEL_CITIES = ["Avignon", "Amiens", "Arles", "Angers", "Orléans", "Annecy", "Agen", "Alger",
                "Athènes", "Oslo", "Amsterdam", "Istanbul"]  # fmt: skip
CITIES = ["Paris", "Lyon", "Rome", "Nantes", "Lille", "Marseille", "Toulouse", "Bordeaux", "Genève",
          "Dijon", "Reims", "Naples"]  # fmt: skip
