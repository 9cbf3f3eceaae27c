"""A GPT, read from top to bottom: attention, MLP, block, model; each in the way of 2019 and of now.

Names carry their shape: B sequences in a batch, T tokens in a sequence, C channels (n_embd),
H heads, K heads of keys and values, D channels a head, P pairs of them (D / 2), V tokens in the
vocabulary, S tokens that R queries can see. `x_BTC` is therefore a tensor of shape (B, T, C); a
comment about shapes can go stale, a name can't.

arch="gpt2" is the model of Radford et al. (2019), "Language Models are Unsupervised Multitask
Learners": pre-norm LayerNorm, learned positions, GELU (tanh form), biases, input and output
embedding tied. Its twin is transformers' GPT2LMHeadModel; see twin.py.

arch="modern" is what most open models have become since, and to the letter Qwen3's (Yang et al.,
2025): RMSNorm, rotary positions, normed queries and keys, grouped heads of keys and values, a gated
MLP, no biases. Its twin is Qwen3ForCausalLM. Rejected, though some help a little: anything that the
twin has no place for (value embeddings, a soft cap on the logits, learned weights on the residual
stream). Queries, keys and values, gate and up, are matrices of their own rather than slices of
one: an optimizer that treats a matrix as a whole (Muon) should see each as the map that it is.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from wikigpt.config import GPTConfig
from wikigpt.errors import UserError
from wikigpt.model.attention import attend
from wikigpt.model.kv_cache import KVCache, LayerCache


class CausalSelfAttention(nn.Module):
    """Every token looks at itself and the tokens before it (Vaswani et al., 2017)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.dropout = config.dropout
        self.query_key_value = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.output = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x_BTC: torch.Tensor, cache: LayerCache | None = None) -> torch.Tensor:
        B, T, C = x_BTC.shape
        all_BT3HD = self.query_key_value(x_BTC).view(B, T, 3, self.n_head, C // self.n_head)
        q_BHTD, k_BHTD, v_BHTD = all_BT3HD.transpose(1, 3).unbind(dim=2)
        dropout = self.dropout if self.training else 0.0
        y_BHTD = attend(q_BHTD, k_BHTD, v_BHTD, cache, dropout)
        return self.output(y_BHTD.transpose(1, 2).reshape(B, T, C))


class MLP(nn.Module):
    """Each token by itself: widen four times, bend, narrow again."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.down = nn.Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x_BTC: torch.Tensor) -> torch.Tensor:
        return self.down(F.gelu(self.up(x_BTC), approximate="tanh"))


class RMSNorm(nn.Module):
    """Bring a vector's root mean square to 1, then scale each channel (Zhang & Sennrich, 2019).

    LayerNorm without the mean and without the bias.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # In float32 under bf16 too: a sum of squares needs the digits.
        return F.rms_norm(x.float(), x.shape[-1:], self.weight, eps=1e-6).type_as(x)


def rotary_angles(
    places_T: torch.Tensor, head_dim: int, theta: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine of how far pair p of a head has turned at place t: t / theta^(p / P)."""
    pairs_P = torch.arange(0, head_dim, 2, dtype=torch.float32, device=places_T.device) / head_dim
    # As Qwen3 rounds it: a last digit of an angle is turned a thousand times at place 1,000.
    turns_P = 1.0 / theta**pairs_P
    angles_TP = places_T[..., None].float() * turns_P
    return angles_TP.cos(), angles_TP.sin()


def rotate(x_BHTD: torch.Tensor, cos_TP: torch.Tensor, sin_TP: torch.Tensor) -> torch.Tensor:
    """Turn every pair of channels by its angle (RoPE; Su et al., 2021).

    The product of a query and a key that were turned so depends on their distance only. A pair
    is made of a channel of the first half and its fellow in the second.
    """
    a_BHTP, b_BHTP = x_BHTD.chunk(2, dim=-1)
    turned = (a_BHTP * cos_TP - b_BHTP * sin_TP, b_BHTP * cos_TP + a_BHTP * sin_TP)
    return torch.cat(turned, dim=-1).type_as(x_BHTD)


class GroupedQueryAttention(nn.Module):
    """Attention in which H / K query heads share a head of keys and values (Ainslie et al., 2023).

    Normed queries and keys (Dehghani et al., 2023) keep the scores small at any learning rate.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head, self.n_kv_head, self.head_dim = (
            config.n_head,
            config.n_kv_head,
            config.head_dim,
        )
        C, HD, KD = config.n_embd, self.n_head * self.head_dim, self.n_kv_head * self.head_dim
        self.query = nn.Linear(C, HD, bias=False)
        self.key = nn.Linear(C, KD, bias=False)
        self.value = nn.Linear(C, KD, bias=False)
        self.query_norm = RMSNorm(self.head_dim)
        self.key_norm = RMSNorm(self.head_dim)
        self.output = nn.Linear(HD, C, bias=False)

    def forward(
        self,
        x_BTC: torch.Tensor,
        cos_TP: torch.Tensor,
        sin_TP: torch.Tensor,
        cache: LayerCache | None = None,
    ) -> torch.Tensor:
        B, T, _ = x_BTC.shape
        q_BTHD = self.query(x_BTC).view(B, T, self.n_head, self.head_dim)
        k_BTKD = self.key(x_BTC).view(B, T, self.n_kv_head, self.head_dim)
        v_BTKD = self.value(x_BTC).view(B, T, self.n_kv_head, self.head_dim)
        y_BHTD = attend(
            rotate(self.query_norm(q_BTHD).transpose(1, 2), cos_TP, sin_TP),
            rotate(self.key_norm(k_BTKD).transpose(1, 2), cos_TP, sin_TP),
            v_BTKD.transpose(1, 2),
            cache,
        )
        return self.output(y_BHTD.transpose(1, 2).reshape(B, T, self.n_head * self.head_dim))


class GatedMLP(nn.Module):
    """Each token by itself: widen twice, let one half open and close the other, narrow again.

    With SiLU this is SwiGLU (Shazeer, 2020); ReLU² (So et al., 2021) is the other choice.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.gate = nn.Linear(config.n_embd, config.intermediate_size, bias=False)
        self.up = nn.Linear(config.n_embd, config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, config.n_embd, bias=False)

    def forward(self, x_BTC: torch.Tensor) -> torch.Tensor:
        gate = self.gate(x_BTC)
        opened = F.silu(gate) if self.activation == "silu" else F.relu(gate).square()
        return self.down(opened * self.up(x_BTC))


class Block(nn.Module):
    """Attention gathers, the MLP digests; both add to the residual stream."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        if config.arch == "gpt2":
            norm, attention, mlp = nn.LayerNorm, CausalSelfAttention, MLP
        else:
            norm, attention, mlp = RMSNorm, GroupedQueryAttention, GatedMLP
        self.attention_norm = norm(config.n_embd)
        self.attention = attention(config)
        self.mlp_norm = norm(config.n_embd)
        self.mlp = mlp(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x_BTC: torch.Tensor, *angles_TP: torch.Tensor, cache: LayerCache | None = None
    ) -> torch.Tensor:
        normed_BTC = self.attention_norm(x_BTC)
        x_BTC = x_BTC + self.dropout(self.attention(normed_BTC, *angles_TP, cache=cache))
        return x_BTC + self.dropout(self.mlp(self.mlp_norm(x_BTC)))


class GPT(nn.Module):
    """Token ids in, a distribution over the next token out, at every place at once."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        if not config.vocab_size:
            raise ValueError("GPTConfig.vocab_size must be set before a GPT can be built.")
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
        if config.arch == "gpt2":
            self.position_embedding = nn.Embedding(config.block_size, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.final_norm = (nn.LayerNorm if config.arch == "gpt2" else RMSNorm)(config.n_embd)
        if config.arch == "gpt2":
            self._initialise_gpt2()
        else:
            self._initialise_modern()

    def _initialise_gpt2(self) -> None:
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

    def _initialise_modern(self) -> None:
        """Branches that put out 0 at first, and logits whose size doesn't depend on the width.

        A block whose last matrices are 0 begins as the identity ("Fixup", Zhang et al., 2019), so
        depth costs nothing until a block has learnt something. With tied weights, a token's logit
        for itself is then |embedding| √C times the last norm's gain: at a gain of 1 and GPT-2's
        embeddings 15 at a width of 768, a model that is sure of seeing each token twice. With a
        gain of 40 / C it is 2 at any width; that is muP's multiplier of the logits (Yang et al.,
        2022), kept in a weight that Qwen3 has anyway. 0.05 and 40: EXPERIMENTS.md, 3.
        """
        std = 0.02 * math.sqrt(768 / self.config.n_embd)
        for name, parameter in self.named_parameters():
            if name == "token_embedding.weight":
                nn.init.normal_(parameter, std=0.05)
            elif name == "final_norm.weight":
                nn.init.constant_(parameter, self.output_scale)
            elif name.endswith(("attention.output.weight", "mlp.down.weight")):
                nn.init.zeros_(parameter)
            elif "norm" not in name:
                nn.init.normal_(parameter, std=std)

    @property
    def output_scale(self) -> float:
        """The gain that the last norm begins with."""
        return 1.0 if self.config.arch == "gpt2" else 40 / self.config.n_embd

    def forward(
        self,
        ids_BT: torch.Tensor,
        targets_BT: torch.Tensor | None = None,
        cache: KVCache | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """ids_BT (int64) -> logits_BTV; with targets_BT also the mean loss in nats per token.

        A target of -100 is left out of the loss. With a cache, the ids follow on the tokens that it
        holds, and the logits are those of the last place only (T = 1).

        Raises:
            UserError: the context is longer than block_size.
        """
        T, longest = ids_BT.shape[1], self.config.block_size
        S = T + (max(cache.lengths) if cache else 0)
        if S > longest:
            raise UserError(
                f"A context of {S} tokens is longer than the model's {longest}; "
                "shorten it, or train with a larger block_size."
            )
        x_BTC, angles_1TP = self.token_embedding(ids_BT), ()
        # Without a cache the places are 0 to T - 1; with one they go on where each sequence is.
        places = cache.places(T) if cache else torch.arange(T, device=ids_BT.device)
        if self.config.arch == "gpt2":
            x_BTC = x_BTC + self.position_embedding(places)
        else:
            head_dim, theta = self.config.head_dim, self.config.rope_theta
            angles = rotary_angles(places, head_dim, theta)
            angles_1TP = [angle.unsqueeze(-3) for angle in angles]  # the same for all heads
        x_BTC = self.dropout(x_BTC)
        for i, block in enumerate(self.blocks):
            x_BTC = block(x_BTC, *angles_1TP, cache=cache.layers[i] if cache else None)
        return self.predict(x_BTC[:, -1:] if cache else x_BTC, targets_BT)

    def predict(
        self, x_BTC: torch.Tensor, targets_BT: torch.Tensor | None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """What `forward` returns, from what the last block put out."""
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
        """Forward and backward, as PaLM's appendix B counts them: 6 N + 12 L H D T.

        N is every parameter that a token is multiplied with: the token embedding once, as the
        output layer (to look up a row costs nothing), and learned positions not at all. The second
        term is the attention to all T tokens; the half that causality leaves out is counted too.
        """
        c, n = self.config, self.n_parameters
        if c.arch == "gpt2":
            n -= self.position_embedding.weight.numel()
        channels = c.n_embd if c.arch == "gpt2" else c.n_head * c.head_dim
        return 6 * n + 12 * c.n_layer * channels * c.block_size
