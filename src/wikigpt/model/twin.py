"""Our GPT and its industrial twin, transformers' GPT2LMHeadModel: the same weights, both ways.

The two differ in names only, and in one habit of the original TensorFlow code that transformers
keeps: its linear layers ("Conv1D") store their weight transposed.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from wikigpt.config import GPTConfig
from wikigpt.errors import UserError
from wikigpt.model.gpt import GPT

# Ours -> theirs. "{}" stands for the block's number, and for .weight and .bias in turn.
OUTER = {
    "token_embedding.weight": "transformer.wte.weight",
    "position_embedding.weight": "transformer.wpe.weight",
    "final_norm.weight": "transformer.ln_f.weight",
    "final_norm.bias": "transformer.ln_f.bias",
}
IN_A_BLOCK = {
    "attention_norm": "ln_1",
    "attention.query_key_value": "attn.c_attn",
    "attention.output": "attn.c_proj",
    "mlp_norm": "ln_2",
    "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
}


def _names(n_layer: int) -> dict[str, str]:
    inner = {
        f"blocks.{i}.{ours}.{kind}": f"transformer.h.{i}.{theirs}.{kind}"
        for i in range(n_layer)
        for ours, theirs in IN_A_BLOCK.items()
        for kind in ("weight", "bias")
    }
    return OUTER | inner


def _transposed(theirs: str) -> bool:
    return ".c_" in theirs and theirs.endswith(".weight")


@torch.no_grad()
def to_transformers(model: GPT, end_of_text_id: int | None = None) -> GPT2LMHeadModel:
    """A transformers model with the same weights, on the CPU, in evaluation mode."""
    c = model.config
    hub_config = GPT2Config(
        vocab_size=c.vocab_size, n_positions=c.block_size, n_embd=c.n_embd,
        n_layer=c.n_layer, n_head=c.n_head, activation_function="gelu_new",
        resid_pdrop=c.dropout, embd_pdrop=c.dropout, attn_pdrop=c.dropout,
        bos_token_id=end_of_text_id, eos_token_id=end_of_text_id,
    )  # fmt: skip
    twin = GPT2LMHeadModel(hub_config)
    weights = twin.state_dict()
    for ours, theirs in _names(c.n_layer).items():
        parameter = model.get_parameter(ours)
        weights[theirs].copy_(parameter.T if _transposed(theirs) else parameter)
    return twin.eval()


@torch.no_grad()
def from_transformers(twin: GPT2LMHeadModel) -> GPT:
    """Our model with the weights of a GPT2LMHeadModel, on the CPU, in evaluation mode.

    Raises:
        UserError: not a GPT-2, or one with settings that our GPT does not have.
    """
    hub = twin.config
    if hub.model_type != "gpt2":
        raise UserError(f"Only a gpt2 can become our GPT, not a {hub.model_type!r} model.")
    dropouts = {hub.resid_pdrop, hub.embd_pdrop, hub.attn_pdrop}
    expected = {
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "n_inner": None,
        "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False, "tie_word_embeddings": True,
    }  # fmt: skip
    odd = [f"{k}={getattr(hub, k)}" for k, v in expected.items() if getattr(hub, k) != v]
    odd += [f"different dropouts {sorted(dropouts)}"] if len(dropouts) > 1 else []
    # GPT-2 XL and others write out the default.
    odd = [o for o in odd if o != f"n_inner={4 * hub.n_embd}"]
    if odd:
        raise UserError(f"Our GPT has no place for these settings of the model: {', '.join(odd)}.")
    config = GPTConfig(
        arch="gpt2", n_layer=hub.n_layer, n_head=hub.n_head, n_embd=hub.n_embd,
        block_size=hub.n_positions, vocab_size=hub.vocab_size, dropout=dropouts.pop(),
    )  # fmt: skip
    model = GPT(config)
    weights = twin.state_dict()
    for ours, theirs in _names(hub.n_layer).items():
        weight = weights[theirs]
        model.get_parameter(ours).copy_(weight.T if _transposed(theirs) else weight)
    return model.eval()


class TwinAsGPT(nn.Module):
    """A GPT2LMHeadModel that answers like our GPT, for all that is written for ours: evaluation,
    completion, the preflight. The weights stay the twin's."""

    def __init__(self, twin: GPT2LMHeadModel, config: GPTConfig) -> None:
        super().__init__()
        self.twin, self.config = twin, config

    def forward(
        self, ids_BT: torch.Tensor, targets_BT: torch.Tensor | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        logits_BTV = self.twin(ids_BT, use_cache=False).logits
        if targets_BT is None:
            return logits_BTV
        return logits_BTV, F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten())

    @property
    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())
