"""Tables of words that several task families draw from; data only."""

from __future__ import annotations

from random import Random


def _table(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NOUNS = _table(
    """
    apple banana cherry grape lemon mango melon orange peach pear plum bread butter cheese cake candy
    coffee cookie honey milk onion pepper pizza potato rice salad soup sugar tea tomato water bear bee
    bird cat chicken cow deer dog dolphin donkey duck eagle elephant fish fox frog giraffe goat horse
    kangaroo lion monkey mouse owl panda parrot penguin pig rabbit shark sheep snake spider tiger turtle
    whale wolf zebra bag ball basket bed bell bicycle boat book bottle bowl box bridge brush bus camera
    candle car chair clock coat computer cup curtain desk door engine fence flag flower fork garden
    glass glove guitar hammer hat house island jacket key kitchen knife ladder lamp letter map mirror
    moon mountain needle nest notebook ocean paint paper pencil phone piano picture pillow plane plate
    pocket queen radio rain ring river road robot rocket rope sand school ship shirt shoe shovel silver
    snow sock sofa spoon star stone street summer sun table teacher tent ticket tower town toy train
    tree truck umbrella valley violin wagon wall watch wheel window winter yard
    """
)

OTHER_WORDS = _table(
    """
    about above across after again always another answer around autumn beautiful because before begin
    behind believe below between blue bright bring brown busy careful catch change clean clear climb
    cloud cold colour come dance dark deep different dinner draw dream drink early easy eight evening
    every example family fast father favour feather fifty find five forest forget forty found four
    friend full funny gentle give gold good great green grow happy hard hear heavy help holiday hungry
    hundred idea important inside jump kind king knowledge large laugh learn light listen little long
    loud love lucky machine magic make many market medicine middle minute model modern morning mother
    music narrow nature never night nine nothing number often open other outside party people perfect
    person pink place planet play please purple question quick quiet ready red remember right round
    second secret server seven silence simple sister six sleep slow small smile soft solid song sorry
    sound south special spring square start storm strange strong sweet system tall thank thirty thousand
    three thunder tired today together tomorrow travel twelve twenty two under until vegetable very
    village visit voice walk warm weather week welcome west white wind wise wonder word work world write
    yellow yesterday young zero
    """
)

WORDS = NOUNS + OTHER_WORDS

NAMES = _table(
    """
    Adam Alice Amir Anna Ben Bob Carla Carlos Clara Daniel David Diana Elena Emma Eric Eva Felix Finn
    Frank Grace Hana Hannah Henry Hugo Ida Igor Ines Irene Ivan Jack James Jane John Julia Karen Karl
    Kate Kenji Laura Leo Lena Lily Lisa Louis Lucas Lucy Maria Mark Martin Mary Max Maya Mia Michael
    Milo Mina Nadia Nina Noah Nora Oliver Olga Omar Oscar Paul Peter Priya Rachel Rita Robert Rosa Ruth
    Sam Sara Simon Sofia Sophie Stella Thomas Tim Tom Tara Vera Victor Wei Will Yuki Zoe
    """
)

TOWNS = _table(
    """
    Amsterdam Athens Barcelona Beijing Berlin Boston Bristol Cairo Chicago Dallas Delhi Denver Dublin
    Geneva Hamburg Houston Istanbul Kyoto Lagos Leeds Lima Lisbon London Lyon Madrid Milan Montreal
    Moscow Mumbai Munich Nairobi Naples Osaka Oslo Oxford Paris Porto Prague Rome Seattle Seoul Shanghai
    Stockholm Sydney Tokyo Toronto Valencia Vienna Warsaw Zurich
    """
)

PLAIN_COLOURS = (
    "red",
    "blue",
    "green",
    "yellow",
    "black",
    "white",
    "brown",
    "orange",
    "purple",
    "pink",
    "grey",
)

JOBS = (
    "a teacher", "a doctor", "a nurse", "a baker", "a farmer", "a painter", "a pilot", "a writer", "a cook",
    "a singer", "a driver", "a lawyer", "a student", "a dentist", "an engineer", "an artist",
)  # fmt: skip

_ONSETS = _table(
    "b bl br c ch cl cr d dr f fl fr g gl gr h j k l m n p pl pr qu r s sh sl sp st str t th tr v w z"
)
_NUCLEI = _table("a e i o u ai ea ee ie oa oo ou")
_CODAS = ["", "", "", "l", "m", "n", "nd", "ng", "nt", "p", "r", "rk", "s", "st", "t", "x", "ck", "mp"]


def invented_word(rng: Random) -> str:
    """A pronounceable word of one to three syllables that may or may not exist."""
    syllables = rng.choice((1, 2, 2, 3))
    return "".join(rng.choice(_ONSETS) + rng.choice(_NUCLEI) + rng.choice(_CODAS) for _ in range(syllables))


def any_name(rng: Random) -> str:
    """A first name: usually from the table, sometimes invented, so that names have to be copied."""
    return invented_word(rng).capitalize() if rng.random() < 0.3 else rng.choice(NAMES)


def any_town(rng: Random) -> str:
    """A town: usually from the table, sometimes invented."""
    return invented_word(rng).capitalize() if rng.random() < 0.25 else rng.choice(TOWNS)
