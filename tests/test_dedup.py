import random

from hypothesis import given
from hypothesis import strategies as st

from wikigpt.corpus import dedup
from wikigpt.corpus.dedup import Deduplicator, HashSet, band_hashes

WORDS = [f"mot{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(600)]


def kinds(texts, near=True):
    deduplicator = Deduplicator(near)
    return [deduplicator.kind_of(text) for text in texts]


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 40)))
def test_the_hash_set_is_a_set(values):
    ours, python = HashSet(slots=4), set()
    for value in values:
        assert ours.add(value) == ((value or 1) not in python)
        python.add(value or 1)
    assert len(ours) == len(python)


def test_the_hash_set_grows_without_forgetting():
    rng, ours = random.Random(0), HashSet()
    values = [rng.getrandbits(64) for _ in range(20_000)]
    assert all(ours.add(value) for value in values)
    assert not any(ours.add(value) for value in values)


def test_the_first_copy_is_kept():
    text = " ".join(WORDS[:50])
    assert kinds([text, "autre chose", text]) == [None, None, "exact duplicate"]
    # Case, punctuation and figures don't count.
    stub = "L’astéroïde ({}) fut découvert le {} mars 1981 à Siding Spring."
    texts = [stub.format(5021, 3), stub.format(77, 19).upper() + " !"]
    assert kinds(texts) == [None, "near duplicate"]
    assert kinds(texts, near=False) == [None, None]
    assert kinds(["…", "?", ""]) == [None, None, None]


def test_every_band_of_a_duplicate_is_remembered(monkeypatch):
    """What resembles a duplicate where that differs from the first copy is a duplicate too."""
    bands = {"A": [1, 2, 3], "B": [1, 20, 30], "C": [9, 20, 90]}
    monkeypatch.setattr(dedup, "band_hashes", bands.get)
    assert kinds("ABC") == [None, "near duplicate", "near duplicate"]


def jaccard(a, b):
    shingles = [{tuple(w[i : i + 3]) for i in range(len(w) - 2)} for w in (a, b)]
    return len(shingles[0] & shingles[1]) / len(shingles[0] | shingles[1])


def test_near_duplicates_are_found_as_often_as_the_theory_says():
    """P = 1 - (1 - J^12)^8, with J computed by hand from the sets of shingles."""
    rng = random.Random(1)
    for changes, trials in ((0, 20), (3, 200), (8, 200), (60, 200)):
        found = expected = 0.0
        for _ in range(trials):
            words = rng.choices(WORDS, k=300)
            other = list(words)
            for place in rng.sample(range(300), changes):
                other[place] = "changé"
            found += kinds([" ".join(words), " ".join(other)])[1] is not None
            expected += 1 - (1 - jaccard(words, other) ** 12) ** 8
        assert abs(found - expected) <= 0.12 * trials, (changes, found, expected)


def test_hashes_do_not_depend_on_the_process():
    # What repeats what must not change from run to run: this value is another process's.
    assert band_hashes("un deux trois quatre") == band_hashes("Un, deux; trois: quatre")
    assert band_hashes("un deux trois quatre")[0] == 15973259264616693881
