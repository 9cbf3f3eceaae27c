"""A GPT, read from top to bottom: attention, MLP, block, model.

Names carry their shape: B sequences in a batch, T tokens in a sequence, C channels (n_embd),
H heads, D channels a head (C / H), V tokens in the vocabulary. `x_BTC` is therefore a tensor of
shape (B, T, C); a comment about shapes can go stale, a name can't.

arch="gpt2" is the model of Radford et al. (2019), "Language Models are Unsupervised Multitask
Learners": pre-norm LayerNorm, learned positions, GELU (tanh form), biases, input and output
embedding tied. Its twin is transformers' GPT2LMHeadModel; see twin.py.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from wikigpt.config import GPTConfig
from wikigpt.errors import UserError


class CausalSelfAttention(nn.Module):
    """Every token looks at itself and the tokens before it (Vaswani et al., 2017)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.dropout = config.dropout
        self.query_key_value = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.output = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x_BTC: torch.Tensor) -> torch.Tensor:
        B, T, C = x_BTC.shape
        heads = (B, T, self.n_head, C // self.n_head)
        q_BTC, k_BTC, v_BTC = self.query_key_value(x_BTC).split(C, dim=-1)
        q_BHTD = q_BTC.view(heads).transpose(1, 2)
        k_BHTD = k_BTC.view(heads).transpose(1, 2)
        v_BHTD = v_BTC.view(heads).transpose(1, 2)
        # softmax(q kᵀ / √D, future masked) v, without ever storing the T x T matrix.
        y_BHTD = F.scaled_dot_product_attention(
            q_BHTD, k_BHTD, v_BHTD, is_causal=True, dropout_p=self.dropout if self.training else 0.0
        )
        return self.output(y_BHTD.transpose(1, 2).reshape(B, T, C))


class MLP(nn.Module):
    """Each token by itself: widen four times, bend, narrow again."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.down = nn.Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x_BTC: torch.Tensor) -> torch.Tensor:
        return self.down(F.gelu(self.up(x_BTC), approximate="tanh"))


class Block(nn.Module):
    """Attention gathers, the MLP digests; both add to the residual stream."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.n_embd)
        self.attention = CausalSelfAttention(config)
        self.mlp_norm = nn.LayerNorm(config.n_embd)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTC: torch.Tensor) -> torch.Tensor:
        x_BTC = x_BTC + self.dropout(self.attention(self.attention_norm(x_BTC)))
        return x_BTC + self.dropout(self.mlp(self.mlp_norm(x_BTC)))


class GPT(nn.Module):
    """Token ids in, a distribution over the next token out, at every place at once."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        if not config.vocab_size:
            raise ValueError("GPTConfig.vocab_size must be set before a GPT can be built.")
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.position_embedding = nn.Embedding(config.block_size, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.final_norm = nn.LayerNorm(config.n_embd)
        self._initialise()

    def _initialise(self) -> None:
        """GPT-2's initial weights, and smaller ones where 2 n_layer branches add up.

        GPT-2 draws from N(0, 0.02) at a width of 768. A narrower model sums over fewer channels and
        needs larger weights for the same effect: with 0.02 at width 128, attention stays blind for
        hundreds of steps (EXPERIMENTS.md, 1).
        """
        std = 0.02 * math.sqrt(768 / self.config.n_embd)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name.endswith(("attention.output.weight", "mlp.down.weight")):
                nn.init.normal_(parameter, std=std / math.sqrt(2 * self.config.n_layer))
            elif "norm" not in name:
                nn.init.normal_(parameter, std=std)

    def forward(
        self, ids_BT: torch.Tensor, targets_BT: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """ids_BT (int64) -> logits_BTV; with targets_BT also the mean loss in nats per token.

        A target of -100 is left out of the loss.

        Raises:
            UserError: the context is longer than block_size.
        """
        T, longest = ids_BT.shape[1], self.config.block_size
        if T > longest:
            raise UserError(
                f"A context of {T} tokens is longer than the model's {longest}; "
                "shorten it, or train with a larger block_size."
            )
        positions_T = torch.arange(T, device=ids_BT.device)
        x_BTC = self.dropout(self.token_embedding(ids_BT) + self.position_embedding(positions_T))
        for block in self.blocks:
            x_BTC = block(x_BTC)
        # The output layer is the input embedding, transposed (Press & Wolf, 2017).
        logits_BTV = F.linear(self.final_norm(x_BTC), self.token_embedding.weight)
        if targets_BT is None:
            return logits_BTV
        return logits_BTV, F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten())

    @property
    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def flops_per_token(self) -> int:
        """Forward and backward, as PaLM's appendix B counts them: 6 N + 12 L C T."""
        n = self.n_parameters - self.position_embedding.weight.numel()
        return 6 * n + 12 * self.config.n_layer * self.config.n_embd * self.config.block_size
