import json
import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wikigpt.config import DecodingConfig
from wikigpt.errors import UserError
from wikigpt.evaluation.any_model import our_model
from wikigpt.evaluation.bits_per_byte import evaluate_texts
from wikigpt.evaluation.copies import words_of
from wikigpt.evaluation.decoding_grid import (
    GRID,
    bits_per_byte_of,
    chance_level,
    cliffs_delta,
    compare_settings,
    prompts,
    settings_table,
)
from wikigpt.evaluation.syntax import log_probabilities
from wikigpt.model import GPT, GPTConfig
from wikigpt.tokenizers import BPETokenizer, ByteTokenizer

ARTICLES = [
    f"La ville numéro {i} est une ville de France, et la ville {i} a un pont sur la Loire." + end
    for i in range(12)
    for end in ("", " Elle est née en l'an 1200.")
]
TRAINING = ["La ville de France a un pont. La Loire est née.", *ARTICLES[:4]]


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return BPETokenizer.train(ARTICLES, vocab_size=300)


@pytest.fixture(scope="module")
def model(tokenizer) -> GPT:
    torch.manual_seed(3)
    shape = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 96}
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, **shape))
    with torch.no_grad():
        model.token_embedding.weight.mul_(4)
    return model.eval()


@given(st.lists(st.integers(0, 4)), st.lists(st.integers(0, 4)))
def test_cliffs_delta_by_ranks(a, b):
    """By Mann and Whitney's sum of ranks, ties sharing theirs."""
    delta = cliffs_delta(a, b)
    assert delta == -cliffs_delta(b, a)
    if not a or not b:
        assert delta == 0
        return
    both = sorted([*a, *b])
    rank = {x: both.index(x) + (both.count(x) + 1) / 2 for x in both}
    u = sum(rank[x] for x in a) - len(a) * (len(a) + 1) / 2
    assert delta == pytest.approx(2 * u / (len(a) * len(b)) - 1)


def test_two_sets_by_the_same_writer_come_to_the_chance_level():
    dice = random.Random(5)
    n = 30
    found = [
        abs(cliffs_delta([dice.random() for _ in range(n)], [dice.random() for _ in range(n)]))
        for _ in range(400)
    ]
    assert sum(found) / len(found) == pytest.approx(chance_level(n), rel=0.15)


def test_prompts_are_spread_over_the_articles_that_are_long_enough():
    found = prompts(ARTICLES, 4, 20)  # every second article is
    assert [beginning + rest for beginning, rest in found] == ARTICLES[1::6]
    assert [words_of(beginning) for beginning, _ in found] == [
        ["La", "ville", "numéro", str(i)] for i in (0, 3, 6, 9)
    ]
    with pytest.raises(UserError, match="Only 12 validation articles go on for 20 words"):
        prompts(ARTICLES, 13, 20)
    with pytest.raises(UserError, match="samples is 0"):
        prompts(ARTICLES, 0, 5)


def test_bits_per_byte_of_the_rest_are_those_of_the_whole_less_the_prompt(model, tokenizer):
    prompt, text = "La ville numéro 3", " est une ville de France"
    whole, before = log_probabilities(model, tokenizer, [prompt + text, prompt])
    expected = (before - whole) / math.log(2) / len(text.encode())
    assert bits_per_byte_of(model, tokenizer, prompt, text) == pytest.approx(expected, rel=1e-5)
    # As far as the context reaches: what stands beyond it changes nothing.
    long = text * 40
    seen = tokenizer.encode(long)[: 97 - 1 - len(tokenizer.encode(prompt))]
    assert bits_per_byte_of(model, tokenizer, prompt, long) == pytest.approx(
        bits_per_byte_of(model, tokenizer, prompt, tokenizer.decode(seen)), rel=1e-5
    )
    with pytest.raises(UserError, match="fills the model's context"):
        bits_per_byte_of(model, tokenizer, "12 34 56 78 90 " * 20, text)


def test_a_character_that_the_context_cuts_is_not_charged():
    torch.manual_seed(3)
    shape = {"n_layer": 1, "n_head": 1, "n_embd": 8, "vocab_size": 257}
    model = GPT(GPTConfig(block_size=4, **shape)).eval()
    whole = bits_per_byte_of(model, ByteTokenizer(), "a", "bcé")  # é needs two places of one
    assert whole == pytest.approx(bits_per_byte_of(model, ByteTokenizer(), "a", "bc"))
    with pytest.raises(UserError, match="fills the model's context"):
        bits_per_byte_of(model, ByteTokenizer(), "abc", "é")


def test_settings_are_judged_beside_the_same_articles(model, tokenizer):
    grid = {name: GRID[name] for name in ("greedy", "temperature 1")}
    judged = compare_settings(
        model, tokenizer, ARTICLES, TRAINING, grid, samples=6, new_tokens=60, words=12, seed=1
    )
    assert [j.name for j in judged] == list(grid)
    rests = [rest for _, rest in prompts(ARTICLES, 6, 12)]
    for j in judged:
        assert len(j.samples.texts) == len(j.human.texts) == 6
        for sample, human, rest in zip(j.samples.words, j.human.words, rests, strict=True):
            assert len(sample) == len(human) <= 12
            assert human == words_of(rest)[: len(human)]
        for values in j.figures.values():
            assert all(math.isfinite(x) for side in values for x in side)
        assert 0 <= j.told_apart <= 1
    greedy, drawn = judged
    # What takes the likeliest token each time surprises the model least.
    assert sum(greedy.bits[0]) < sum(drawn.bits[0])
    again = compare_settings(
        model, tokenizer, ARTICLES, TRAINING, grid, samples=6, new_tokens=60, words=12, seed=1
    )
    assert [j.record() for j in again] == [j.record() for j in judged]
    assert json.loads(json.dumps(judged[0].record()))["settings"] == {"temperature": 0}
    lines = settings_table(judged).splitlines()
    assert lines[1].startswith("greedy ") and lines[2].startswith("temperature 1 ")
    assert f"{chance_level(6):.2f}" in lines[-1]


def test_human_text_as_its_own_sample_is_not_told_apart(model, tokenizer):
    judged = compare_settings(
        model, tokenizer, ARTICLES, TRAINING, {"greedy": {"temperature": 0}},
        samples=4, new_tokens=20, words=12,
    )[0]  # fmt: skip
    same = type(judged)("human", {}, judged.human, judged.human, 1.0, (judged.bits[1],) * 2)
    assert same.told_apart == 0


def test_every_setting_of_the_grid_is_one(model):
    for name, settings in GRID.items():
        assert DecodingConfig(**settings).temperature == settings["temperature"], name


def test_the_charge_agrees_with_evaluate_texts(model, tokenizer):
    """A whole text, its end left out of ours: the same nats by two ways."""
    text = ARTICLES[0]
    loss = evaluate_texts(our_model(model, tokenizer), [text])
    ids = [tokenizer.end_of_text_id, *tokenizer.encode(text)]
    with torch.inference_mode():
        end = -model(torch.tensor([ids]))[0, -1].log_softmax(-1)[tokenizer.end_of_text_id].item()
    ours = bits_per_byte_of(model, tokenizer, "", text) * math.log(2) * len(text.encode())
    assert ours + end == pytest.approx(loss.nats, rel=1e-5)
