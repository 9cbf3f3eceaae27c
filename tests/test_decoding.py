"""Each setting by hand, and beside its twin in transformers."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel
from transformers.generation import (
    LogitsProcessorList,
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from wikigpt.config import DecodingConfig
from wikigpt.model.decoding import (
    adjusted,
    ban_repeated_ngrams,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    next_token,
    penalise_repetition,
)

V = 12
INF = math.inf
# Rounded, so that there are ties; few tokens, so that texts repeat themselves.
logits = st.lists(
    st.floats(-30, 30, width=32).map(lambda x: round(x, 2)), min_size=V, max_size=V
).map(torch.tensor)
texts = st.lists(st.integers(0, V - 1), min_size=1, max_size=30)
# Half the probability 1/2, then 1/4, 1/8, 1/8.
HALVES_V = torch.tensor([0.125, 0.5, 0.25, 0.125]).log()


def theirs(processor, ids: list[int], logits_V: torch.Tensor) -> torch.Tensor:
    return processor(torch.tensor([ids]), logits_V.clone()[None])[0]


def kept(logits_V: torch.Tensor) -> list[int]:
    return (logits_V > -INF).nonzero().flatten().tolist()


def test_the_cuts_by_hand():
    assert kept(keep_top_k(HALVES_V, 1)) == [1]
    assert kept(keep_top_k(HALVES_V, 2)) == [1, 2]
    assert kept(keep_top_k(HALVES_V, 3)) == [0, 1, 2, 3]  # the third is as likely as the fourth
    assert kept(keep_top_k(HALVES_V, 99)) == [0, 1, 2, 3]
    assert kept(keep_top_p(HALVES_V, 0.01)) == [1]
    assert kept(keep_top_p(HALVES_V, 0.49)) == [1]
    assert kept(keep_top_p(HALVES_V, 0.51)) == [1, 2]
    assert kept(keep_top_p(HALVES_V, 0.74)) == [1, 2]
    assert len(kept(keep_top_p(HALVES_V, 0.8))) == 3
    assert kept(keep_top_p(HALVES_V, 0.9)) == [0, 1, 2, 3]
    assert kept(keep_min_p(HALVES_V, 0.6)) == [1]
    assert kept(keep_min_p(HALVES_V, 0.4)) == [1, 2]
    assert kept(keep_min_p(HALVES_V, 0.2)) == [0, 1, 2, 3]
    for cut in (keep_top_k(HALVES_V, 2), keep_top_p(HALVES_V, 0.6), keep_min_p(HALVES_V, 0.4)):
        assert torch.equal(cut[1:3], HALVES_V[1:3])


def test_the_penalty_by_hand():
    logits_V = torch.tensor([3.0, -3.0, 0.0, 6.0])
    penalised_V = penalise_repetition(logits_V, [1, 0, 1], 1.5)
    assert penalised_V.tolist() == [2.0, -4.5, 0.0, 6.0]
    assert logits_V.tolist() == [3.0, -3.0, 0.0, 6.0]
    assert penalise_repetition(logits_V, [], 1.5).tolist() == logits_V.tolist()


@pytest.mark.parametrize(
    ("ids", "n", "banned"),
    [
        ([1, 2, 3, 1, 2], 3, [3]),
        ([1, 2, 3, 1, 2, 0, 1, 2], 3, [0, 3]),
        ([1, 2, 3, 1, 2], 2, [3]),
        ([1, 2, 3, 1, 2], 1, [1, 2, 3]),
        ([1, 1, 1], 3, [1]),
        ([1, 1], 3, []),
        ([2], 2, []),
        ([0, 1, 2, 3], 1, []),  # nothing would be left
    ],
)
def test_the_ban_by_hand(ids, n, banned):
    left = kept(ban_repeated_ngrams(torch.zeros(4), ids, n))
    assert left == [i for i in range(4) if i not in banned]
    assert kept(ban_repeated_ngrams(torch.zeros(4), tuple(ids), n)) == left


@given(logits, texts, st.floats(1, 5))
def test_the_penalty_is_transformers(logits_V, ids, penalty):
    expected = theirs(RepetitionPenaltyLogitsProcessor(penalty), ids, logits_V)
    assert torch.equal(penalise_repetition(logits_V, ids, penalty), expected)


@given(logits, texts, st.integers(1, 5))
def test_the_ban_is_transformers(logits_V, ids, n):
    expected = theirs(NoRepeatNGramLogitsProcessor(n), ids, logits_V)
    assume(expected.isfinite().any())
    assert torch.equal(ban_repeated_ngrams(logits_V, ids, n), expected)


@given(logits, st.integers(1, V + 3))
def test_top_k_is_transformers(logits_V, k):
    assert torch.equal(keep_top_k(logits_V, k), theirs(TopKLogitsWarper(k), [0], logits_V))


@given(logits, st.floats(0, 1, exclude_min=True))
def test_top_p_is_transformers(logits_V, p):
    assert torch.equal(keep_top_p(logits_V, p), theirs(TopPLogitsWarper(p), [0], logits_V))


@given(logits, st.floats(0, 1))
def test_min_p_is_transformers(logits_V, p):
    assert torch.equal(keep_min_p(logits_V, p), theirs(MinPLogitsWarper(p), [0], logits_V))


@pytest.fixture(scope="module")
def their_processors():
    """The list that transformers' `generate` makes of its settings, in its order."""
    model = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_embd=4, n_layer=1, n_head=1, n_positions=4))

    def processors(**settings) -> LogitsProcessorList:
        settings = {"do_sample": True, "top_k": 0} | settings
        config = GenerationConfig(**{k: v for k, v in settings.items() if v is not None})
        return model._get_logits_processor(config, input_ids_seq_length=1)

    return processors


@given(
    logits,
    texts,
    st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.floats(0.01, 5),
            "top_k": st.integers(1, V),
            "top_p": st.floats(0.01, 1),
            "min_p": st.floats(0, 1),
            "repetition_penalty": st.floats(1, 3),
            "no_repeat_ngram_size": st.integers(0, 4),
        },
    ),
)
def test_all_together_are_transformers(their_processors, logits_V, ids, settings):
    """With any of the settings, in any combination."""
    expected = theirs(their_processors(**settings), ids, logits_V)
    assume(expected.isfinite().any())
    torch.testing.assert_close(
        adjusted(logits_V, ids, DecodingConfig(**settings)), expected, rtol=0, atol=0
    )


def test_sampling_follows_the_softmax_at_that_temperature():
    logits_V = torch.tensor([2.0, 1.0, 0.0, -50.0])
    generator = torch.Generator().manual_seed(0)
    warm = DecodingConfig(temperature=2.0)
    draws = Counter(next_token(logits_V, [0], warm, generator) for _ in range(20_000))
    for i, p in enumerate((logits_V / 2).softmax(0).tolist()):
        assert draws[i] / 20_000 == pytest.approx(p, abs=0.02)


def test_draws_come_from_what_is_left():
    generator = torch.Generator().manual_seed(0)

    def drawn(**settings) -> set[int]:
        config = DecodingConfig(**settings)
        return {next_token(HALVES_V, [1, 2, 1], config, generator) for _ in range(200)}

    assert drawn() == {0, 1, 2, 3}
    assert drawn(top_k=2) == drawn(top_p=0.6) == drawn(min_p=0.4) == {1, 2}
    assert drawn(no_repeat_ngram_size=2) == {0, 1, 3}
    assert drawn(no_repeat_ngram_size=1, min_p=0.9) == {0, 3}
    assert drawn(temperature=0) == drawn(temperature=1e-9) == {1}
    assert drawn(temperature=0, no_repeat_ngram_size=1) <= {0, 3}


def test_half_precision_logits_are_decided_in_single():
    logits_V = torch.tensor([1.0, 2.0], dtype=torch.bfloat16)
    assert adjusted(logits_V, [0], DecodingConfig(temperature=3.0)).dtype == torch.float32
