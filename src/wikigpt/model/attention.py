"""softmax(q kᵀ / √D) v, every token seeing itself and those before it, by the faster of two ways.

PyTorch's own kernel (`scaled_dot_product_attention`) never stores the T x T matrix of weights
(FlashAttention; Dao et al., 2022). On a CPU in bf16 plain matrix products take half as long
(EXPERIMENTS.md, 13), but they keep 6 bytes for each pair of tokens in each head for the way back,
so they are for short contexts. In float32 they are no faster. Names of shapes are those of gpt.py.
"""

import math

import torch
import torch.nn.functional as F

from wikigpt.model.kv_cache import LayerCache

# Rows that are computed together: of 256, blocks of 128 leave out half of the future.
ROWS = 128
# The longest context that is computed in rows.
SHORT = 512


def attend(
    q_BHTD: torch.Tensor,
    k_BKTD: torch.Tensor,
    v_BKTD: torch.Tensor,
    cache: LayerCache | None,
    dropout: float = 0.0,
) -> torch.Tensor:
    """softmax(q kᵀ / √D, future masked) v: y_BHTD.

    With a cache, the T new tokens see those that it holds too.
    """
    shared = q_BHTD.shape[1] != k_BKTD.shape[1]
    if cache is None:
        on_cpu, T = q_BHTD.device.type == "cpu", q_BHTD.shape[2]
        if on_cpu and q_BHTD.dtype == torch.bfloat16 and T <= SHORT:
            return attend_in_rows(q_BHTD, k_BKTD, v_BKTD, dropout)
        return F.scaled_dot_product_attention(
            q_BHTD, k_BKTD, v_BKTD, is_causal=True, dropout_p=dropout, enable_gqa=shared
        )
    k_BKSD, v_BKSD, visible_B1TS = cache.extend(k_BKTD, v_BKTD)
    return F.scaled_dot_product_attention(
        q_BHTD, k_BKSD, v_BKSD, attn_mask=visible_B1TS, enable_gqa=shared
    )


def attend_in_rows(
    q_BHTD: torch.Tensor, k_BKTD: torch.Tensor, v_BKTD: torch.Tensor, dropout: float = 0.0
) -> torch.Tensor:
    """The same in plain matrix products, for some rows of the T x T matrix at a time: y_BHTD."""
    H, T, D = q_BHTD.shape[1:]
    k_BHTD, v_BHTD = k_BKTD, v_BKTD
    if (K := k_BKTD.shape[1]) != H:
        k_BHTD, v_BHTD = (x.repeat_interleave(H // K, dim=1) for x in (k_BKTD, v_BKTD))
    y_BHRD = []
    for start in range(0, T, ROWS):
        end = min(start + ROWS, T)
        scores_BHRS = (q_BHTD[:, :, start:end] / math.sqrt(D)) @ k_BHTD[:, :, :end].mT
        future_RS = torch.full_like(scores_BHRS[0, 0], -math.inf).triu(start + 1)
        weights_BHRS = (scores_BHRS + future_RS).softmax(-1, dtype=torch.float32)
        weights_BHRS = F.dropout(weights_BHRS.type_as(v_BKTD), dropout)
        y_BHRD.append(weights_BHRS @ v_BHTD[:, :, :end])
    return torch.cat(y_BHRD, dim=2)
