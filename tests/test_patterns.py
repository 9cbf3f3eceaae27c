"""Split patterns: what they cut, that nothing is lost, and that three engines cut alike."""

import functools
import itertools
import re

import numpy as np
import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from wikigpt.errors import UserError
from wikigpt.tokenizers.patterns import FRENCH, GPT2, GPT4, PATTERNS, SETTLED, named, splitter

unicode_text = st.text(st.characters(exclude_categories=["Cs"]))
# One character of each kind that some pattern treats in its own way.
KINDS = "aéLqu'’\"!-«»: \n\r\t\u00a0\u202f\u2009\u200b09٣²ªſ😀\u0301字ʼ<|>"
typographic_text = st.text(KINDS, max_size=40)


@pytest.mark.parametrize("name", PATTERNS)
@given(text=unicode_text | typographic_text)
def test_nothing_is_lost_and_no_piece_is_empty(name, text):
    pieces = splitter(named(name))(text)
    assert "".join(pieces) == text
    assert all(pieces)


@given(
    text=unicode_text | typographic_text,
    pattern=st.sampled_from([r"\w+", "a*", "(a)|(é)", r"\s", "", "(?=a)", "aé|é", "^a", r"\h"]),
)
def test_a_pattern_of_ones_own_loses_nothing(text, pattern):
    pieces = splitter(pattern)(text)
    assert "".join(pieces) == text
    assert all(pieces)


def test_a_pattern_of_ones_own_is_read_as_tokenizers_reads_it():
    """`regex` leaves ² and ½ out of \\w; in Python ^ stands at the beginning only."""
    words = splitter(r"\w+|[^\w\s]+|\s+")
    assert "|".join(words("10 km², ½ l")) == "10| |km²|,| |½| |l"
    assert splitter("^a")("aab\naa") == ["a", "ab\n", "a", "a"]
    assert splitter(r"\h+")("fade zone") == ["fade", " zon", "e"]


@functools.cache
def oniguruma(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def in_oniguruma(pattern, text):
    return [piece for piece, _ in oniguruma(pattern).pre_tokenize_str(text)]


@pytest.mark.parametrize(
    "expected",
    [
        "Aujourd’hui|,| l'|homme| qu’|elle| aime",
        "Jusqu'|à| D’|Ivoire|,| L’|ÉTÉ| QU'|IL| Lorsqu'|elle| s'|en| va",
        "quelqu'|un|,| presqu’|île|,| puisqu'|ici|,| ç'|a| été",
        "C'|est|-|à|-|dire| prud|'|hommes| O|'|Brien",
        "«\u00a0|ami|\u00a0»| dit|\u202f:| oui|\u00a0;| non|\u202f?|\u00a0",
        "«| ami| »,| «\u202f|ami",
        "10|\u00a0|000|\u202f|000| km| en| 1998|,|5| (|CO|₂)",
        "a|  |b|\n\n|c|\u2009|d|\t|e",
        "L’|été| à| Nîmes|...| ¿|Qué|?",
        "e\u0301te\u0301| Москва|,| 東京|!| 😀",
    ],
)
def test_french_by_hand(expected):
    assert "|".join(splitter(FRENCH)(expected.replace("|", ""))) == expected


def test_gpt2_and_gpt4_by_hand():
    assert splitter(GPT2)("It's  10 €!") == ["It", "'s", " ", " 10", " €!"]
    assert splitter(GPT4)("It'S (été) 12345\n\n") == [
        "It", "'S", " (", "été", ")", " ", "123", "45", "\n\n",
    ]  # fmt: skip


def cuts(pieces):
    return np.cumsum([len(piece.encode()) for piece in pieces])


def disagreements(pattern, characters, around):
    """The `characters` that, between two `around`, are cut off otherwise by another engine.

    `tiktoken` does not show its pieces, so it gets a vocabulary in which `around` and a
    neighbouring byte are one token: a border lies where they stayed two.
    """
    frame = around.encode()
    ranks = {bytes([byte]): byte for byte in range(256)}
    for byte in range(128, 256):
        ranks[frame + bytes([byte])] = len(ranks)
        ranks[bytes([byte]) + frame] = len(ranks)
    rust = tiktoken.Encoding("pairs", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    split, found = splitter(pattern), []
    for start in range(0, len(characters), 20000):
        part = characters[start : start + 20000]
        text = "".join(around + c + around for c in part)
        widths = np.array([len(c.encode()) + 2 for c in part])
        first = np.cumsum(widths) - widths
        ids = np.array(rust.encode_ordinary(text))
        borders = []
        for ends in (
            cuts(split(text)),
            cuts(in_oniguruma(pattern, text)),
            np.cumsum(np.where(ids < 256, 1, 2)),
        ):
            is_cut = np.zeros(widths.sum() + 1, bool)
            is_cut[ends] = True
            borders.append(np.stack([is_cut[first + 1], is_cut[first + widths - 1]]))
        wrong = ((borders[0] != borders[1]) | (borders[0] != borders[2])).any(axis=0)
        found += [part[i] for i in np.flatnonzero(wrong)]
    return found


BEYOND_ASCII = [chr(i) for i in range(0x80, 0x110000) if not 0xD800 <= i < 0xE000]


def test_french_is_cut_alike_by_three_engines_whatever_the_character():
    assert disagreements(FRENCH, BEYOND_ASCII, "a") == []
    # All have agreed on what a letter is; of the rest, see what is a mark.
    letter = re.compile(FRENCH).fullmatch
    rest = [c for c in BEYOND_ASCII if not letter(f"a{c}a")]
    assert 1000 < len(rest) < 20000
    assert disagreements(FRENCH, rest, "!") == []


@pytest.mark.parametrize("pattern", [GPT2, GPT4], ids=["gpt2", "gpt4"])
def test_gpt_patterns_are_cut_alike_in_settled_characters(pattern):
    settled = [c for c in BEYOND_ASCII if re.match(f"[{SETTLED}]", c)]
    assert len(settled) > 1600
    for around in "a!0":
        assert disagreements(pattern, settled, around) == []


@pytest.mark.parametrize("name", PATTERNS)
def test_all_neighbours_of_all_kinds_are_cut_alike(name):
    pattern = named(name)
    split, kinds = splitter(pattern), [c for c in KINDS if re.match(f"[{SETTLED}😀字٣]", c)]
    for triple in itertools.product(kinds, repeat=3):
        text = "".join(triple)
        assert split(text) == in_oniguruma(pattern, text), text.encode("unicode_escape")


@given(unicode_text | typographic_text)
def test_french_is_cut_alike_in_any_text(text):
    assert splitter(FRENCH)(text) == in_oniguruma(FRENCH, text)


def test_a_name_that_is_mistyped_is_told():
    with pytest.raises(UserError, match="no split pattern 'gtp2'; did you mean gpt2"):
        named("gtp2")
    for own in (r"\w+|\W", "a", "", FRENCH):
        assert named(own) == own


def test_what_is_no_pattern_is_told():
    with pytest.raises(UserError, match=r"'\(a' is not a regular expression: .*; write one, or"):
        splitter("(a")
