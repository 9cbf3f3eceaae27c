"""From the logits of one place to the next token: penalties, temperature, cuts, a draw.

Each setting is a small function of the logits, with the meaning and in the order that transformers'
`generate` gives it: first what depends on the text so far (repetition penalty, repeated n-grams),
then, where tokens are drawn, temperature, top-k, top-p, min-p. Its logits processors are the twins
of these functions (tests/test_decoding.py). Rejected: beam search (it finds likelier text, and
likelier open-ended text is duller and loops more), and settings without a twin to be tested
against, such as DRY.

Where all tokens have become impossible (n-grams of size 1 do that sooner or later), transformers
fails, or greedily takes token 0. Here the ban on n-grams is left out at that place.
"""

from collections.abc import Sequence

import torch

from wikigpt.config import DecodingConfig


def penalise_repetition(logits_V: torch.Tensor, ids: Sequence[int], penalty: float) -> torch.Tensor:
    """Every token that is in the text so far becomes less likely (Keskar et al., 2019).

    Positive logits are divided by the penalty, negative ones multiplied. End-of-text, which stands
    before a prompt, counts as a token of the text too, as it does in transformers.
    """
    seen = torch.tensor(sorted(set(ids)), dtype=torch.long, device=logits_V.device)
    old = logits_V[seen]
    return logits_V.index_copy(0, seen, torch.where(old < 0, old * penalty, old / penalty))


def ban_repeated_ngrams(logits_V: torch.Tensor, ids: Sequence[int], n: int) -> torch.Tensor:
    """No n tokens in a row come twice (Paulus et al., 2017)."""
    ids = list(ids)  # a slice of a tuple equals no list
    last = ids[len(ids) - n + 1 :]  # the n - 1 tokens that the next one would complete
    banned = {ids[i + n - 1] for i in range(len(ids) - n + 1) if ids[i : i + n - 1] == last}
    allowed_V = logits_V.index_fill(
        0, torch.tensor(sorted(banned), dtype=torch.long, device=logits_V.device), -torch.inf
    )
    return allowed_V if allowed_V.isfinite().any() else logits_V


def keep_top_k(logits_V: torch.Tensor, k: int) -> torch.Tensor:
    """Keep the k likeliest tokens, and those as likely as the k-th (Fan et al., 2018)."""
    kth_best = logits_V.topk(min(k, len(logits_V))).values[-1]
    return logits_V.masked_fill(logits_V < kth_best, -torch.inf)


def keep_top_p(logits_V: torch.Tensor, p: float) -> torch.Tensor:
    """Keep the fewest likely tokens that together reach probability p (Holtzman et al., 2020)."""
    sorted_V, order_V = logits_V.sort()
    # From the unlikeliest up, what adds up to 1 - p or less is left out; the likeliest never.
    removed_V = sorted_V.softmax(dim=-1).cumsum(dim=-1) <= 1 - p
    removed_V[-1] = False
    return logits_V.masked_fill(
        torch.zeros_like(removed_V).scatter(0, order_V, removed_V), -torch.inf
    )


def keep_min_p(logits_V: torch.Tensor, p: float) -> torch.Tensor:
    """Keep tokens at least p times as likely as the likeliest one (Nguyen et al., 2024)."""
    p_V = logits_V.softmax(dim=-1)
    return logits_V.masked_fill(p_V < p * p_V.max(), -torch.inf)


def next_token(
    logits_V: torch.Tensor,
    ids: Sequence[int],
    settings: DecodingConfig,
    generator: torch.Generator | None = None,
) -> int:
    """Choose the token that comes after `ids`; temperature 0 takes the likeliest."""
    logits_V = adjusted(logits_V, ids, settings)
    if settings.is_greedy:
        return int(logits_V.argmax())
    return int(torch.multinomial(logits_V.softmax(dim=-1), 1, generator=generator))


def adjusted(logits_V: torch.Tensor, ids: Sequence[int], settings: DecodingConfig) -> torch.Tensor:
    """All settings, one after the other; float32 on the CPU, where the draws are made."""
    s, logits_V = settings, logits_V.float().cpu()
    if s.repetition_penalty != 1:
        logits_V = penalise_repetition(logits_V, ids, s.repetition_penalty)
    if s.no_repeat_ngram_size:
        logits_V = ban_repeated_ngrams(logits_V, ids, s.no_repeat_ngram_size)
    if s.is_greedy:
        return logits_V
    logits_V = logits_V / s.temperature
    if s.top_k is not None:
        logits_V = keep_top_k(logits_V, s.top_k)
    if s.top_p < 1:
        logits_V = keep_top_p(logits_V, s.top_p)
    if s.min_p > 0:
        logits_V = keep_min_p(logits_V, s.min_p)
    return logits_V
