"""Our GPT and its industrial twin in transformers: the same weights, both ways.

arch="gpt2" is GPT2LMHeadModel, arch="modern" is Qwen3ForCausalLM. Ours and theirs differ in names
only, and in one habit of GPT-2's original TensorFlow code that transformers keeps: its linear
layers ("Conv1D") store their weight transposed.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedConfig,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from wikigpt.config import GPTConfig
from wikigpt.errors import UserError
from wikigpt.model.gpt import GPT

Twin = GPT2LMHeadModel | Qwen3ForCausalLM

# Ours -> theirs. "{}" stands for the block's number.
GPT2_OUTER = {
    "token_embedding.weight": "transformer.wte.weight",
    "position_embedding.weight": "transformer.wpe.weight",
    "final_norm.weight": "transformer.ln_f.weight",
    "final_norm.bias": "transformer.ln_f.bias",
}
# Each has a .weight and a .bias.
GPT2_IN_A_BLOCK = {
    "attention_norm": "ln_1",
    "attention.query_key_value": "attn.c_attn",
    "attention.output": "attn.c_proj",
    "mlp_norm": "ln_2",
    "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
}
MODERN_OUTER = {
    "token_embedding.weight": "model.embed_tokens.weight",
    "final_norm.weight": "model.norm.weight",
}
# Each has a .weight.
MODERN_IN_A_BLOCK = {
    "attention_norm": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm",
    "attention.output": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
}


@torch.no_grad()
def to_transformers(model: GPT, end_of_text_id: int | None = None) -> Twin:
    """A transformers model with the same weights, on the CPU, in evaluation mode."""
    c = model.config
    if c.arch == "gpt2":
        hub_config = GPT2Config(
            vocab_size=c.vocab_size, n_positions=c.block_size, n_embd=c.n_embd,
            n_layer=c.n_layer, n_head=c.n_head, activation_function="gelu_new",
            resid_pdrop=c.dropout, embd_pdrop=c.dropout, attn_pdrop=c.dropout,
            bos_token_id=end_of_text_id, eos_token_id=end_of_text_id,
        )  # fmt: skip
    else:
        hub_config = Qwen3Config(
            vocab_size=c.vocab_size, max_position_embeddings=c.block_size, hidden_size=c.n_embd,
            num_hidden_layers=c.n_layer, num_attention_heads=c.n_head,
            num_key_value_heads=c.n_kv_head, head_dim=c.head_dim,
            intermediate_size=c.intermediate_size, hidden_act=c.activation,
            rope_parameters={"rope_type": "default", "rope_theta": c.rope_theta},
            rms_norm_eps=1e-6, tie_word_embeddings=True,
            bos_token_id=end_of_text_id, eos_token_id=end_of_text_id,
        )  # fmt: skip
    # The weights that it draws are replaced, so the caller's random numbers stay where they were.
    with torch.random.fork_rng(devices=[]):
        twin = (GPT2LMHeadModel if c.arch == "gpt2" else Qwen3ForCausalLM)(hub_config)
    weights = twin.state_dict()
    for ours, theirs in _names(c).items():
        parameter = model.get_parameter(ours)
        weights[theirs].copy_(parameter.T if _transposed(theirs) else parameter)
    return twin.eval()


@torch.no_grad()
def from_transformers(twin: Twin) -> GPT:
    """Our model with the weights of a GPT2LMHeadModel or a Qwen3ForCausalLM, on the CPU, in
    evaluation mode.

    Raises:
        UserError: neither of the two, or one with settings that our GPT does not have.
    """
    configs = {"gpt2": _config_of_gpt2, "qwen3": _config_of_qwen3}
    if not isinstance(twin, Twin):
        raise UserError(
            "Only a GPT2LMHeadModel or a Qwen3ForCausalLM can become our GPT, not a "
            f"{type(twin).__name__}."
        )
    config = configs[twin.config.model_type](twin.config)
    with torch.random.fork_rng(devices=[]):
        model = GPT(config)
    weights = twin.state_dict()
    names = _names(config)
    # The config's word is not enough: two matrices that differ are loaded as two all the same.
    if not torch.equal(weights["lm_head.weight"], weights[names["token_embedding.weight"]]):
        raise UserError(
            "The model's output layer has weights of its own; our GPT has one matrix for it and "
            "the embeddings."
        )
    for ours, theirs in names.items():
        weight = weights[theirs]
        model.get_parameter(ours).copy_(weight.T if _transposed(theirs) else weight)
    return model.eval()


def _names(config: GPTConfig) -> dict[str, str]:
    if config.arch == "gpt2":
        outer, layers, kinds = GPT2_OUTER, "transformer.h", ("weight", "bias")
        inner = GPT2_IN_A_BLOCK
    else:
        outer, layers, kinds = MODERN_OUTER, "model.layers", ("weight",)
        inner = MODERN_IN_A_BLOCK
    return outer | {
        f"blocks.{i}.{ours}.{kind}": f"{layers}.{i}.{theirs}.{kind}"
        for i in range(config.n_layer)
        for ours, theirs in inner.items()
        for kind in kinds
    }


def _transposed(theirs: str) -> bool:
    return ".c_" in theirs and theirs.endswith(".weight")


def _config_of_gpt2(hub: PreTrainedConfig) -> GPTConfig:
    dropouts = {hub.resid_pdrop, hub.embd_pdrop, hub.attn_pdrop}
    expected = {
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "n_inner": None,
        "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False, "tie_word_embeddings": True,
    }  # fmt: skip
    odd = _odd(hub, expected)
    odd += [f"different dropouts {sorted(dropouts)}"] if len(dropouts) > 1 else []
    # GPT-2 XL and others write out the default.
    _refuse([o for o in odd if o != f"n_inner={4 * hub.n_embd}"])
    return GPTConfig(
        arch="gpt2", n_layer=hub.n_layer, n_head=hub.n_head, n_embd=hub.n_embd,
        block_size=hub.n_positions, vocab_size=hub.vocab_size, dropout=dropouts.pop(),
    )  # fmt: skip


def _config_of_qwen3(hub: PreTrainedConfig) -> GPTConfig:
    expected = {
        "rms_norm_eps": 1e-6, "attention_bias": False, "attention_dropout": 0.0,
        "sliding_window": None, "tie_word_embeddings": True,
    }  # fmt: skip
    odd = _odd(hub, expected)
    odd += [] if hub.hidden_act in ("silu", "relu2") else [f"hidden_act={hub.hidden_act}"]
    rope = hub.rope_parameters
    plain = {"rope_type": "default", "rope_theta": rope["rope_theta"]}
    odd += [] if rope == plain else [f"rope_parameters={rope}"]
    _refuse(odd)
    return GPTConfig(
        arch="modern", n_layer=hub.num_hidden_layers, n_head=hub.num_attention_heads,
        n_embd=hub.hidden_size, block_size=hub.max_position_embeddings, vocab_size=hub.vocab_size,
        n_kv_head=hub.num_key_value_heads, head_dim=hub.head_dim,
        intermediate_size=hub.intermediate_size, activation=hub.hidden_act,
        rope_theta=rope["rope_theta"],
    )  # fmt: skip


def _odd(hub: PreTrainedConfig, expected: dict[str, object]) -> list[str]:
    return [f"{k}={getattr(hub, k)}" for k, v in expected.items() if getattr(hub, k) != v]


def _refuse(odd: list[str]) -> None:
    if odd:
        raise UserError(f"Our GPT has no place for these settings of the model: {', '.join(odd)}.")


class TwinAsGPT(nn.Module):
    """A twin that answers like our GPT, for what is written for ours: evaluation and preflight.

    The weights stay the twin's.
    """

    def __init__(self, twin: Twin, config: GPTConfig) -> None:
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
