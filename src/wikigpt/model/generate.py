"""Write on: choose the next token, append it, repeat; for one text or for several at once.

A model sees `block_size` tokens at most. When a text outgrows that, the model forgets the older
half of what it saw, reads the newer half again at places 0, 1, 2, … and goes on from there, so that
learned positions never overflow. Rejected: forgetting one token at a time, which moves all others
by one place and makes every cached key and value wrong, at each token.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from wikigpt.config import decoding_config
from wikigpt.errors import UserError
from wikigpt.model.decoding import next_token
from wikigpt.model.gpt import GPT
from wikigpt.model.kv_cache import KVCache


def generate(
    model: GPT,
    ids: Sequence[int],
    max_new_tokens: int,
    *,
    stop_id: int | None = None,
    seed: int | None = None,
    **settings: Any,
) -> Iterator[int]:
    """Yield up to `max_new_tokens` ids that continue `ids`; ends early on `stop_id`, not yielded.

    Args:
        seed: makes the samples repeatable without touching torch's global generator.
        settings: fields of `config.DecodingConfig`: temperature, top_k, top_p, …

    Raises:
        UserError: no ids to continue; a value is out of range.
    """
    seeds = None if seed is None else [seed]
    for _, new in generate_batch(
        model, [ids], max_new_tokens, stop_id=stop_id, seeds=seeds, **settings
    ):
        yield new


def generate_batch(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    stop_id: int | None = None,
    seeds: Sequence[int] | None = None,
    **settings: Any,
) -> Iterator[tuple[int, int]]:
    """`generate` for prompts of any lengths, all in one batch; yields (number of the prompt, id).

    Each continuation is what `generate` gives for its prompt and its seed alone (up to the rounding
    of sums, which may decide between two tokens that are equally likely to seven digits).

    Raises:
        UserError: a prompt without ids; a value is out of range.
    """
    decoding = decoding_config(**settings)
    contexts = [list(ids) for ids in prompts]
    if not all(contexts):
        raise UserError("There is nothing to continue; give at least one token.")
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens is {max_new_tokens}; it must be 1 or more.")
    if seeds is not None and len(seeds) != len(contexts):
        raise UserError(f"There are {len(contexts)} prompts and {len(seeds)} seeds; give one each.")
    seeds = [None] * len(contexts) if seeds is None else seeds
    generators = [_generator(seed) for seed in seeds]
    was_training = model.training
    model.eval()
    try:
        # Whose turn it still is; row i of the cache belongs to prompt writing[i].
        writing = list(range(len(contexts)))
        size = min(model.config.block_size, max(map(len, contexts), default=0) + max_new_tokens)
        cache = KVCache.empty(model.config, len(writing), size, model.token_embedding.weight)
        for _ in range(max_new_tokens if writing else 0):
            with torch.inference_mode():
                logits_BV = _next_logits(model, cache, [contexts[b] for b in writing])
            stopped = set()
            for b, logits_V in zip(writing, logits_BV, strict=True):
                new = next_token(logits_V, contexts[b], decoding, generators[b])
                if new == stop_id:
                    stopped.add(b)
                else:
                    contexts[b].append(new)
                    yield b, new
            if stopped:
                rows = [row for row, b in enumerate(writing) if b not in stopped]
                if not rows:
                    return
                cache, writing = cache.keep(rows), [writing[row] for row in rows]
    finally:
        model.train(was_training)


def window_start(n: int, block_size: int) -> int:
    """Where the part begins that the model sees of a text of n tokens: 0, or so many half blocks.

    A function of n alone, so that a text that is interrupted and gone on with is the same text.
    """
    half = max(1, block_size // 2)
    return -(-max(0, n - block_size) // half) * half


def _next_logits(model: GPT, cache: KVCache, contexts: list[list[int]]) -> torch.Tensor:
    """logits_BV of what follows; puts into the cache what is missing there."""
    device = model.token_embedding.weight.device
    for row, context in enumerate(contexts):
        before = context[window_start(len(context), model.config.block_size) : -1]
        if cache.lengths[row] != len(before):  # the beginning, or half of it was just forgotten
            alone = cache.row(row)
            if before:
                model(torch.tensor([before], device=device), cache=alone)
            cache.lengths[row] = alone.lengths[0]
    last_B1 = torch.tensor([context[-1:] for context in contexts], device=device)
    return model(last_B1, cache=cache)[:, -1].cpu()  # where tokens are chosen, row by row


def _generator(seed: int | None) -> torch.Generator:
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    elif 0 <= seed < 2**63:
        generator.manual_seed(seed)
    else:
        raise UserError(f"The seed is {seed}; it must be 0 or more, and less than 2 to the 63rd.")
    return generator


def complete(
    model: GPT, tokenizer: Any, prompt: str, max_new_tokens: int, **settings: Any
) -> Iterator[str]:
    """Continue a text as a new document's beginning; yields the new text piece by piece.

    `settings` are those of `generate`. The pieces joined are exactly the decoded completion: a
    character whose bytes are not all there yet waits for them.
    """
    end = tokenizer.end_of_text_id
    waiting = []
    prompt_ids = [end, *tokenizer.encode(prompt)]
    for new in generate(model, prompt_ids, max_new_tokens, stop_id=end, **settings):
        waiting.append(new)
        text = tokenizer.decode(waiting)
        if not text.endswith("\ufffd"):
            yield text
            waiting = []
    if waiting:
        yield tokenizer.decode(waiting)


def complete_batch(
    model: GPT, tokenizer: Any, prompts: Sequence[str], max_new_tokens: int, **settings: Any
) -> list[str]:
    """What `complete` writes after each prompt; `settings` are those of `generate_batch`."""
    end = tokenizer.end_of_text_id
    new_ids = [[] for _ in prompts]
    prompt_ids = [[end, *tokenizer.encode(prompt)] for prompt in prompts]
    for b, new in generate_batch(model, prompt_ids, max_new_tokens, stop_id=end, **settings):
        new_ids[b].append(new)
    return [tokenizer.decode(ids) for ids in new_ids]
