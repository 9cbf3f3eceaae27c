"""Write on: sample the next token, append it, repeat."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from wikigpt.errors import UserError
from wikigpt.model.gpt import GPT


def next_token(
    logits_V: torch.Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
) -> int:
    """Choose one id from the logits of one place; temperature 0 takes the likeliest."""
    if temperature < 1e-6:  # below, the division would overflow
        return int(logits_V.argmax())
    logits_V = logits_V.float().cpu() / temperature
    if top_k is not None:
        kth_best = logits_V.topk(min(top_k, len(logits_V))).values[-1]
        logits_V = logits_V.masked_fill(logits_V < kth_best, -torch.inf)
    return int(torch.multinomial(logits_V.softmax(dim=-1), 1, generator=generator))


def generate(
    model: GPT,
    ids: Sequence[int],
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    stop_id: int | None = None,
    seed: int | None = None,
) -> Iterator[int]:
    """Yield up to `max_new_tokens` ids that continue `ids`; ends early on `stop_id`, not yielded.

    Past `block_size` tokens the model sees the last `block_size` only, so learned positions never
    overflow.

    Args:
        seed: makes the samples repeatable without touching torch's global generator.

    Raises:
        UserError: no ids to continue.
    """
    if not ids:
        raise UserError("There is nothing to continue; give at least one token.")
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens is {max_new_tokens}; it must be 1 or more.")
    if not 0 <= temperature < math.inf:
        raise UserError(f"temperature is {temperature}; it must be 0 (likeliest token) or more.")
    if top_k is not None and top_k < 1:
        raise UserError(f"top_k is {top_k}; it must be 1 or more.")
    generator = torch.Generator()
    _ = generator.seed() if seed is None else generator.manual_seed(seed)
    device = next(model.parameters()).device
    context = list(ids)
    was_training = model.training
    model.eval()
    try:
        for _ in range(max_new_tokens):
            window_BT = torch.tensor([context[-model.config.block_size :]], device=device)
            with torch.inference_mode():
                logits_V = model(window_BT)[0, -1]
            chosen = next_token(logits_V, temperature, top_k, generator)
            if chosen == stop_id:
                return
            context.append(chosen)
            yield chosen
    finally:
        model.train(was_training)


def complete(
    model: GPT, tokenizer: Any, prompt: str, max_new_tokens: int, **settings: Any
) -> Iterator[str]:
    """Continue a text as a new document's beginning; yields the new text piece by piece.

    `settings` are those of `generate`. The pieces joined are exactly the decoded completion: a
    character whose bytes are not all there yet waits for them.
    """
    end = tokenizer.end_of_text_id
    new_ids, shown = [], ""
    prompt_ids = [end, *tokenizer.encode(prompt)]
    for i in generate(model, prompt_ids, max_new_tokens, stop_id=end, **settings):
        new_ids.append(i)
        text = tokenizer.decode(new_ids)
        if not text.endswith("\ufffd"):
            yield text[len(shown) :]
            shown = text
    rest = tokenizer.decode(new_ids)[len(shown) :]
    if rest:
        yield rest
