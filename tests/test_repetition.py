import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikigpt.errors import UserError
from wikigpt.evaluation.copies import Origin, SuffixAutomaton, cut, origins, words_of
from wikigpt.evaluation.interval import half_width, wilson
from wikigpt.evaluation.repetition import (
    beside_human,
    distinct,
    longest_repeat,
    loops,
    repetition_table,
    same_lengths,
    seq_rep,
)

few_words = st.lists(st.sampled_from("abc"), max_size=14)
short_texts = st.text("ab ,1’", max_size=20)


def stretches(words, longest=None):
    """Every stretch with its place, by brute force."""
    for start in range(len(words)):
        for stop in range(start + 1, len(words) + 1):
            if longest is None or stop - start <= longest:
                yield tuple(words[start:stop]), start


def test_words_by_hand():
    assert words_of("L’été 1905,\n« Çà et là… »") == [
        "L", "’", "été", "1905", ",", "«", "Çà", "et", "là", "…", "»"
    ]  # fmt: skip
    assert words_of("e\u0301te\u0301 日本語\u00a0\ufffd") == ["e\u0301te\u0301", "日本語", "\ufffd"]
    assert words_of(" \n\u202f") == []


@given(st.text(max_size=40), st.integers(0, 10))
def test_a_cut_text_is_its_beginning_with_so_many_words(text, count):
    words, short = words_of(text), cut(text, count)
    assert text.startswith(short)
    assert words_of(short) == words[:count]
    assert count >= len(words) or not short or words_of(short[-1])


def test_distinct_and_seq_rep_by_hand():
    words = words_of("a b a b a b a")
    assert distinct([words], 1) == 2 / 7
    assert distinct([words], 2) == 2 / 6
    assert seq_rep(words) == 1 - 2 / 4  # a b a b, b a b a, then both again
    # Over two texts together, and never from one into the other.
    assert distinct([["a", "b"], ["a", "b"], ["b", "c"]], 2) == 2 / 3
    assert seq_rep(["a", "b", "c"]) == 0
    assert distinct([[]], 1) == 1


@given(few_words, st.integers(1, 4))
def test_seq_rep_counts_what_came_before(words, n):
    grams = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    again = sum(count - 1 for count in grams.values())
    assert seq_rep(words, n) == pytest.approx(again / max(1, grams.total()))


def test_longest_repeat_by_hand():
    assert longest_repeat(words_of("le chat dort et le chat mange")) == 2
    assert longest_repeat(words_of("a a a a a")) == 2  # the four that overlap don't count
    assert longest_repeat(words_of("a b c")) == 0
    assert longest_repeat([]) == 0


@given(few_words)
def test_longest_repeat_is_that_of_brute_force(words):
    places = {}
    for stretch, start in stretches(words):
        places.setdefault(stretch, []).append(start)
    best = max((len(s) for s, p in places.items() if max(p) - min(p) >= len(s)), default=0)
    assert longest_repeat(words) == best


def test_what_loops_and_what_does_not():
    assert loops(words_of("x y z") + words_of("de la ville") * 4)
    assert loops(["non"] * 12)
    assert loops(words_of("un deux trois quatre") * 3)
    assert not loops((words_of("un deux trois quatre") * 3)[:-1])  # the third time is cut short
    assert not loops(["."] * 11)  # too short
    assert not loops(words_of("un deux trois quatre cinq six sept huit") * 2)  # twice
    assert loops(words_of("a b c d e") * 3 + ["a", "b"])
    assert not loops(words_of("a b c a b c x a b c a b c"))  # not in a row
    assert not loops([])


@given(st.lists(st.sampled_from("ab"), max_size=20))
def test_loops_are_those_of_brute_force(words):
    expected = False
    for stretch, start in stretches(words):
        place = start
        while place < len(words) and words[place] == stretch[(place - start) % len(stretch)]:
            place += 1
        again = place - start
        expected |= again >= 3 * len(stretch) and again >= 12
    assert loops(words) == expected


def test_origins_by_hand():
    training = ["Le chat noir dort. La nuit", "est calme, dit-il", "LE SOIR"]
    text = "le chat noir dort.\nLa nuit est calme ; le soir zxqj, Zxqj"
    [found] = origins([text], training)
    # « le » is in no training text next to « chat », but « Le » is; articles end a copy.
    assert found == Origin(
        words=13 - 1, unknown=("zxqj", "Zxqj"), copied=6, copy="chat noir dort.\nLa nuit"
    )
    assert origins(["", "?"], training) == [Origin(0, (), 0, ""), Origin(0, (), 0, "")]
    assert origins([], training) == []


@given(st.lists(short_texts, max_size=4), st.lists(short_texts, max_size=4))
def test_origins_are_those_of_brute_force(texts, training):
    known = {w.lower() for document in training for w in words_of(document)}
    met = {s for document in training for s, _ in stretches(words_of(document))}
    for text, found in zip(texts, origins(texts, iter(training)), strict=True):
        words = words_of(text)
        letters = [w for w in words if w[0].isalpha()]
        assert found.words == len(letters)
        assert found.unknown == tuple(w for w in letters if w.lower() not in known)
        copied = max((len(s) for s, _ in stretches(words) if s in met), default=0)
        assert found.copied == copied
        assert found.copy in text and words_of(found.copy) in [
            list(s) for s, _ in stretches(words) if s in met and len(s) == copied
        ] + [[]] * (copied == 0)


@given(few_words)
def test_the_automaton_knows_every_stretch_and_no_other(words):
    automaton = SuffixAutomaton(words)
    count, todo = 0, [0]
    while todo:  # each way through it is one stretch
        state = todo.pop()
        count += 1
        todo += automaton.edges[state].values()
    assert count - 1 == len({s for s, _ in stretches(words)})
    assert len(automaton) <= max(2, 2 * len(words))


def test_copies_are_found_in_a_training_text_that_passes_once_and_is_not_held():
    passed = 0

    def training():
        nonlocal passed
        for number in range(300):
            passed += 1
            yield f"article {number} de la ville"

    assert origins(["x article 299 de la mer"], training())[0].copy == "article 299 de la"
    assert passed == 300


def test_twins_have_the_lengths_of_their_samples():
    articles = ["un deux", "un deux trois quatre cinq", "trop court", "a b c d e f"]
    samples = ["x y z", "x", "x, y z !"]
    # « un deux » is too short for all but the second; the longest sample comes first.
    assert same_lengths(samples, iter(articles)) == ["a b c", "un", "un deux trois quatre cinq"]
    with pytest.raises(UserError, match=r"1 of 2 samples have no human text.*7 words"):
        same_lengths(["a b c d e f g", "a"], articles)
    with pytest.raises(UserError, match="no samples"):
        same_lengths([], articles)


@given(st.lists(short_texts, min_size=1, max_size=5), st.lists(short_texts, max_size=9))
def test_every_twin_is_the_beginning_of_an_article_of_its_own(samples, articles):
    articles = [*articles, *("ab " * 30 for _ in samples)]
    twins = same_lengths(samples, articles)
    assert [len(words_of(t)) for t in twins] == [len(words_of(s)) for s in samples]
    for twin, times in Counter(twins).items():
        assert times <= sum(article.startswith(twin) for article in articles)


def test_intervals_by_hand():
    # 1, 2, 3, 4, 5: deviation √2.5, so 1.96 · √2.5 / √5.
    assert half_width([1, 2, 3, 4, 5]) == pytest.approx(1.959964 * math.sqrt(0.5))
    assert math.isnan(half_width([1]))
    # Wilson (1927) in Newcombe (1998), table I: 81 of 263, and 0 of 20.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_the_table_by_hand():
    samples = ["la la la la la la la la la la la la", "un mot zxqj"]
    human = ["le chat noir dort sur la chaise, et la nuit est calme", "un mot de plus"]
    training = ["un mot de plus, le chat noir et la nuit", "dort sur la chaise est calme"]
    table = repetition_table(*beside_human(samples, human, training))
    rows = {line[:22].strip(): line[22:].split() for line in table.splitlines()}
    assert rows["texts"] == ["2", "2"]
    assert rows["words a text"] == ["7.5", "7.5"]
    assert rows["distinct-1"] == [f"{4 / 15:.3f}", f"{14 / 15:.3f}"]
    half = 1.96 * (8 / 9) / math.sqrt(2) / math.sqrt(2)  # 8/9 and 0: deviation 8/9/√2
    assert rows["seq-rep-4"] == [f"{4 / 9:.3f}", "±", f"{half:.3f}", "0.000", "±", "0.000"]
    assert rows["texts that loop"][:1] == ["50.0%"]
    assert rows["words that exist, %"][0] == f"{(100 + 200 / 3) / 2:.1f}"
    assert rows["longest copy, words"][0] == "1.5"
    assert rows["the longest of all"] == ["2", "4"]


def test_one_sample_has_no_interval_and_no_words_no_share():
    table = repetition_table(*beside_human(["1 2 3 4"], ["5 6 7 8"], []))
    rows = {line[:22].strip(): line[22:].split() for line in table.splitlines()}
    assert rows["words that exist, %"] == ["-", "-"]
    assert rows["seq-rep-4"] == ["0.000", "±", "nan"] * 2
