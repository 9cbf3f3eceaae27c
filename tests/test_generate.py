from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wikigpt.config import DecodingConfig
from wikigpt.errors import UserError
from wikigpt.model import GPT, GPTConfig
from wikigpt.model.decoding import next_token
from wikigpt.model.generate import (
    complete,
    complete_batch,
    generate,
    generate_batch,
    window_start,
)
from wikigpt.model.twin import to_transformers
from wikigpt.tokenizers import BPETokenizer, ByteTokenizer, CharTokenizer, SentencePieceTokenizer

both = pytest.mark.parametrize("arch", ["gpt2", "modern"])


@pytest.fixture(scope="module", params=["gpt2", "modern"])
def model(request) -> GPT:
    torch.manual_seed(3)
    shape = {"n_layer": 1, "n_head": 1, "n_embd": 16, "block_size": 8, "vocab_size": 300}
    model = GPT(GPTConfig(arch=request.param, **shape))
    with torch.no_grad():
        model.token_embedding.weight.mul_(6)  # opinionated, so that choices differ
    return model


def test_greedy_takes_the_likeliest_token_each_time(model):
    ids = [1, 2, 3]
    for new in generate(model, ids, 5, temperature=0):
        context = torch.tensor([ids])
        assert new == model(context)[0, -1].argmax().item()
        ids = [*ids, new]
    assert len(ids) == 8


def randomised(arch: str, **changes) -> GPT:
    """Weights that leave nothing at 0 or 1, and choices that seven digits decide."""
    shape = {"n_layer": 2, "n_head": 4, "n_embd": 24, "block_size": 16, "vocab_size": 40}
    torch.manual_seed(1)
    grouped = {"n_kv_head": 2} if arch == "modern" else {}
    model = GPT(GPTConfig(arch=arch, **(shape | grouped | changes)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def uncached(model: GPT, ids: list[int], n: int, seed: int | None = None, **settings) -> list[int]:
    """The definition: all that the model may see is read again for every token."""
    ids, longest = list(ids), model.config.block_size
    half = max(1, longest // 2)
    config = DecodingConfig(**settings)
    generator = torch.Generator().manual_seed(seed or 0)
    for _ in range(n):
        start = 0
        while len(ids) - start > longest:
            start += half
        with torch.inference_mode():
            logits_V = model(torch.tensor([ids[start:]]))[0, -1]
        ids.append(next_token(logits_V, ids, config, generator))
    return ids[len(ids) - n :]


@both
@pytest.mark.parametrize("block_size", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 40])
def test_the_cache_changes_nothing(arch, block_size, length):
    """Below, at and beyond the block size, with prompts of any length."""
    model = randomised(arch, block_size=block_size)
    prompt = torch.randint(0, 40, (length,)).tolist()
    for how in ({"temperature": 0}, {"seed": 3, "top_p": 0.9, "repetition_penalty": 1.2}):
        assert list(generate(model, prompt, 45, **how)) == uncached(model, prompt, 45, **how)


@given(st.integers(1, 300), st.integers(1, 40))
def test_the_model_sees_at_least_half_a_block_and_never_more_than_one(n, block_size):
    seen = n - window_start(n, block_size)
    assert min(n, -(-block_size // 2)) <= seen <= min(n, block_size)
    assert window_start(n, block_size) <= window_start(n + 1, block_size)


@both
def test_gone_on_with_is_the_same_text(arch):
    model = randomised(arch)
    whole = list(generate(model, [1, 2], 60, temperature=0))
    first = list(generate(model, [1, 2], 23, temperature=0))
    assert whole == first + list(generate(model, [1, 2, *first], 37, temperature=0))


@both
@given(
    st.lists(st.lists(st.integers(0, 39), min_size=1, max_size=30), min_size=1, max_size=5),
    st.integers(0, 2**63 - 1),
    st.sampled_from([{"temperature": 0}, {}, {"min_p": 0.05, "no_repeat_ngram_size": 3}]),
)
@settings(max_examples=15)
def test_a_batch_is_each_prompt_alone(arch, prompts, seed, choice):
    model = randomised(arch)
    seeds = [(seed + i) % 2**63 for i in range(len(prompts))]
    written = [[] for _ in prompts]
    for b, new in generate_batch(model, prompts, 25, stop_id=0, seeds=seeds, **choice):
        written[b].append(new)
    assert written == [
        list(generate(model, prompt, 25, stop_id=0, seed=seed, **choice))
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]


def test_a_batch_takes_turns_until_each_has_stopped():
    model = randomised("gpt2")
    alone = [list(generate(model, [i], 20, temperature=0)) for i in range(8)]
    stop = alone[0][3]
    turns = list(generate_batch(model, [[i] for i in range(8)], 20, stop_id=stop, temperature=0))
    expected = [ids[: ids.index(stop)] if stop in ids else ids for ids in alone]
    assert len({len(ids) for ids in expected}) > 1
    assert turns == [
        (b, ids[i]) for i in range(20) for b, ids in enumerate(expected) if i < len(ids)
    ]
    assert list(generate_batch(model, [], 5)) == []


SHARED = [
    {}, {"repetition_penalty": 1.3}, {"no_repeat_ngram_size": 2}, {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 3, "repetition_penalty": 1.7},
]  # fmt: skip


@both
@pytest.mark.parametrize("shared", SHARED, ids=str)
def test_greedy_is_transformers_greedy(arch, shared):
    model = randomised(arch, block_size=64, vocab_size=90)
    twin = to_transformers(model, end_of_text_id=0)
    for seed in range(12):
        torch.manual_seed(seed)
        prompt = torch.randint(1, 90, (1 + seed,)).tolist()
        theirs = twin.generate(
            torch.tensor([prompt]), max_new_tokens=50, do_sample=False, pad_token_id=0, **shared
        )[0, len(prompt) :].tolist()
        expected = theirs[: theirs.index(0)] if 0 in theirs else theirs
        ours = list(generate(model, prompt, 50, temperature=0, stop_id=0, **shared))
        assert ours == expected


@both
def test_samples_follow_transformers_probabilities(arch):
    """The probabilities that transformers would draw from, and 2,000 draws of ours."""
    model = randomised(arch, vocab_size=10)
    twin = to_transformers(model)
    how = {"temperature": 1.5, "top_k": 7, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.2}
    prompt = [3, 1, 4, 1, 5]
    scores = twin.generate(
        torch.tensor([prompt]), max_new_tokens=1, do_sample=True, pad_token_id=0,
        return_dict_in_generate=True, output_scores=True, **how,
    ).scores[0][0]  # fmt: skip
    draws = Counter(
        new for _, new in generate_batch(model, [prompt] * 2000, 1, seeds=range(2000), **how)
    )
    for i, p in enumerate(scores.softmax(-1).tolist()):
        assert draws[i] / 2000 == pytest.approx(p, abs=0.05)
        assert (draws[i] > 0) <= (p > 0)


def test_a_seed_repeats_and_leaves_the_global_generator_alone(model):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = list(generate(model, [1], 30, seed=7))
    assert torch.equal(torch.get_rng_state(), before)
    assert list(generate(model, [1], 30, seed=7)) == first
    assert list(generate(model, [1], 30, seed=8)) != first


def test_it_stops_on_end_of_text_and_does_not_yield_it(model):
    free = list(generate(model, [1], 10, temperature=0))
    stop = free[4]
    assert list(generate(model, [1], 10, temperature=0, stop_id=stop)) == free[: free.index(stop)]


def test_the_model_is_left_in_the_mode_it_was_in(model):
    model.train()
    stream = generate(model, [1], 10)
    next(stream)
    stream.close()
    assert model.training
    model.eval()
    list(generate(model, [1], 2))
    assert not model.training


@pytest.mark.parametrize(
    ("ids", "settings", "says"),
    [
        ([], {}, "nothing to continue"),
        ([1], {"temperature": -1}, "temperature: .* not -1"),
        ([1], {"temperature": float("nan")}, "temperature: .* finite number, not nan"),
        ([1], {"top_k": 0}, "top_k: .* not 0"),
        ([1], {"top_p": 0}, "top_p: .* not 0"),
        ([1], {"top_p": 1.1}, "top_p: .* not 1.1"),
        ([1], {"min_p": -0.1}, "min_p: .* not -0.1"),
        ([1], {"repetition_penalty": 0.9}, "repetition_penalty: .* not 0.9"),
        ([1], {"repetition_penalty": "much"}, "repetition_penalty: .* not 'much'"),
        ([1], {"no_repeat_ngram_size": 1.5}, "no_repeat_ngram_size: .* not 1.5"),
        ([1], {"top_q": 0.5}, "unknown config key 'top_q'; did you mean 'sampling.top_p'"),
        ([1], {"temperature": 0, "top_k": 3, "min_p": 0.1}, "top_k and min_p can't change what"),
        ([1], {"seed": -1}, "The seed is -1"),
        ([1], {"seed": 2**63}, "The seed is 9223372036854775808"),
    ],
)
def test_wrong_settings_are_told(model, ids, settings, says):
    with pytest.raises(UserError, match=says) as error:
        list(generate(model, ids, 3, **settings))
    assert "\n" not in str(error.value)


def test_wrong_batches_are_told(model):
    with pytest.raises(UserError, match="nothing to continue"):
        list(generate_batch(model, [[1], []], 3))
    with pytest.raises(UserError, match="2 prompts and 1 seeds"):
        list(generate_batch(model, [[1], [2]], 3, seeds=[1]))
    with pytest.raises(UserError, match="max_new_tokens is 0"):
        list(generate_batch(model, [[1]], 0))


FRENCH = ["l'été à Noël, l'œuvre d'un maître est née d'un être 😀 " * 20]
TOKENIZERS = {
    "char": CharTokenizer(map(chr, range(1000, 1043))),  # 300 tokens: most are bytes
    "byte": ByteTokenizer(),
    "bpe": BPETokenizer.train(FRENCH, vocab_size=280),
    "sentencepiece": SentencePieceTokenizer.train(FRENCH, vocab_size=285, model_type="bpe"),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_pieces_of_a_completion_are_whole_characters(kind):
    """A random model writes bytes that make no sense; what is shown early is never taken back."""
    tokenizer = TOKENIZERS[kind]
    model = randomised("gpt2", vocab_size=tokenizer.vocab_size, n_layer=1)
    for seed in range(10):
        pieces = list(complete(model, tokenizer, "é", 60, seed=seed))
        prompt_ids = [0, *tokenizer.encode("é")]
        ids = list(generate(model, prompt_ids, 60, stop_id=0, seed=seed))
        assert "".join(pieces) == tokenizer.decode(ids)
        assert not any(piece.endswith("\ufffd") for piece in pieces[:-1])
    texts = complete_batch(model, tokenizer, ["é"] * 10, 60, seeds=range(10))
    assert texts[-1] == "".join(pieces)
    assert len(set(texts)) == 10


@pytest.mark.parametrize("text", ["Noël 😀, ça", "\ufffd\ufffd a", "e\u0301té"])
def test_a_character_split_over_tokens_is_shown_when_it_is_complete(monkeypatch, text):
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(text)
    assert len(ids) == len(text.encode())
    monkeypatch.setattr("wikigpt.model.generate.generate", lambda *_, **__: iter(ids))
    pieces = list(complete(None, tokenizer, "", 99))
    assert "".join(pieces) == text
    if "\ufffd" not in text:
        assert pieces == list(text)
    # Cut off in the middle of ë, it ends with what the tokenizer makes of half a character.
    monkeypatch.setattr("wikigpt.model.generate.generate", lambda *_, **__: iter([79, 196]))
    assert list(complete(None, tokenizer, "", 99)) == ["N", "\ufffd"]
