import math
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wikigpt.errors import UserError
from wikigpt.evaluation.ngram import END, ByteNgram


def test_by_hand():
    # Bigrams, $ for the end: $a 3, ab 2, ac 1, b$ 2, c$ 1; two seen once, two twice: D = 2/(2 + 4).
    # As endings: a after 1 byte, b after 1, c after 1, $ after 2, so D = 3/(3 + 2), 5 in all.
    model = ByteNgram.fit(["ab", "ab", "ac"], order=2)
    a = b = (1 - 0.6) / 5 + 0.6 * 4 / 5 / 256
    end = (2 - 0.6) / 5 + 0.6 * 4 / 5 / 256
    z = 0.6 * 4 / 5 / 256
    a_first = (3 - 1 / 3) / 3 + 1 / 3 * 1 / 3 * a
    b_after_a = (2 - 1 / 3) / 3 + 1 / 3 * 2 / 3 * b
    end_after_b = (2 - 1 / 3) / 2 + 1 / 3 * 1 / 2 * end
    z_after_a = 1 / 3 * 2 / 3 * z
    assert model.log_probabilities(["ab", "az", "azb"]) == pytest.approx(
        [
            math.log(a_first * b_after_a),
            math.log(a_first * z_after_a),
            math.log(a_first * z_after_a * b),  # nothing was seen after z
        ]
    )
    assert model.nats(["ab"]) == pytest.approx(-math.log(a_first * b_after_a * end_after_b))


class Slow:
    """Kneser-Ney once more, from its definition, with dictionaries."""

    def __init__(self, texts: list[str], order: int) -> None:
        self.order = order
        seen = Counter()
        for text in texts:
            data = bytes([END]) * (order - 1) + text.encode() + bytes([END])
            for i in range(order - 1, len(data)):
                if text or order == 1:
                    seen[data[i - order + 1 : i + 1]] += 1
        self.counts = {order: seen}
        for n in range(order - 1, 0, -1):
            self.counts[n] = Counter(ngram[1:] for ngram in self.counts[n + 1])
        self.after = {n: defaultdict(list) for n in self.counts}
        for n, counts in self.counts.items():
            for ngram, count in counts.items():
                self.after[n][ngram[:-1]].append(count)

    def probability(self, context: bytes, byte: int, n: int | None = None) -> float:
        n = self.order if n is None else n
        if n == 0:
            return 1 / 256
        context = context[len(context) - (n - 1) :]
        lower = self.probability(context[1:], byte, n - 1)
        counts = self.after[n][context]
        if not counts:
            return lower
        once, twice = (sum(c == k for c in self.counts[n].values()) for k in (1, 2))
        d = once / (once + 2 * twice) if once else 0.5
        kept = max(self.counts[n][context + bytes([byte])] - d, 0)
        return (kept + d * len(counts) * lower) / sum(counts)


texts = st.lists(st.text("abcé", max_size=8), min_size=1, max_size=6)


@given(texts.filter(any), texts, st.integers(2, 6))
def test_it_is_kneser_neys_definition(train, test, order):
    fast, slow = ByteNgram.fit(train, order), Slow(train, order)
    for text, found in zip(test, fast.log_probabilities(test), strict=True):
        context, wanted = bytes([END]) * (order - 1), 0.0
        for byte in text.encode():
            wanted += math.log(slow.probability(context, byte))
            context += bytes([byte])
        assert found == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("context", [b"\xff\xff\xff", b"le ", b"zzz", "été".encode()[:3]])
def test_probabilities_add_up_to_one_after_any_context(context):
    slow = Slow(["le chat est là", "l'été à Nîmes", "le chien est là"], order=4)
    assert sum(slow.probability(context, byte) for byte in range(256)) == pytest.approx(1)


def test_a_sentence_does_not_depend_on_its_neighbours():
    model = ByteNgram.fit(["le chat est là", "l'été à Nîmes"], order=4)
    sentences = ["le chat", "", "à Nîmes, l'été", "x"]
    alone = [model.log_probabilities([sentence])[0] for sentence in sentences]
    assert model.log_probabilities(sentences) == pytest.approx(alone)
    assert alone[1] == 0.0 and model.log_probabilities([]) == []


def test_what_it_refuses():
    for order in (0, 9):
        with pytest.raises(UserError, match="1 to 8"):
            ByteNgram.fit(["abc"], order)
    for nothing in ([], ["", ""]):
        with pytest.raises(UserError, match="no text"):
            ByteNgram.fit(nothing, 3)
    with pytest.raises(UserError, match="surrogate"):
        ByteNgram.fit(["\ud800"], 3)


def test_many_texts_cost_what_they_cost_one_by_one():
    model = ByteNgram.fit(["le chat est là", "l'été à Nîmes"], order=3)
    texts = [f"le {n} à Nîmes" for n in range(2500)]
    assert model.nats(texts) == pytest.approx(sum(model.nats([text]) for text in texts))
    assert model.nats(iter(texts[:1000])) == pytest.approx(model.nats(texts[:1000]))
