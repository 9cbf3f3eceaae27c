"""Law 1: our GPT and transformers' GPT2LMHeadModel or Qwen3ForCausalLM agree, both ways."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
)
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

from wikigpt.errors import UserError
from wikigpt.model import GPT, GPTConfig
from wikigpt.model.generate import generate
from wikigpt.model.gpt import rotary_angles
from wikigpt.model.twin import Twin, from_transformers, to_transformers

QWEN3 = {
    "vocab_size": 77, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "max_position_embeddings": 20, "tie_word_embeddings": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}  # fmt: skip
SHAPES = [
    {"n_layer": 1, "n_head": 1, "n_embd": 8, "block_size": 4, "vocab_size": 11},
    {"n_layer": 2, "n_head": 2, "n_embd": 128, "block_size": 256, "vocab_size": 360},
    {"n_layer": 5, "n_head": 4, "n_embd": 64, "block_size": 32, "vocab_size": 1000, "dropout": 0.1},
    {"arch": "modern", "n_layer": 2, "n_head": 2, "n_embd": 128, "vocab_size": 360},
    {"arch": "modern", "n_layer": 3, "n_head": 6, "n_kv_head": 2, "head_dim": 10, "n_embd": 40,
     "intermediate_size": 56, "block_size": 48, "vocab_size": 500, "activation": "relu2",
     "rope_theta": 1e6},
]  # fmt: skip


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """Weights that leave no bias at zero and no gain at one, so that a mix-up would show."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def largest_difference(ours: GPT, theirs: Twin) -> float:
    shape = (3, ours.config.block_size)
    ids_BT = torch.randint(0, ours.config.vocab_size, shape)
    with torch.inference_mode():
        return (ours(ids_BT) - theirs(ids_BT).logits).abs().max().item()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_logits_are_equal_and_the_way_back_is_exact(shape):
    ours = randomised(GPT(GPTConfig(**shape)))
    theirs = to_transformers(ours)
    assert largest_difference(ours, theirs) <= 1e-5
    back = from_transformers(theirs)
    assert back.config == ours.config
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), back.parameters(), strict=True))


@st.composite
def modern_shapes(draw) -> GPTConfig:
    n_kv_head = draw(st.integers(1, 3))
    return GPTConfig(
        arch="modern",
        n_layer=draw(st.integers(1, 3)),
        n_kv_head=n_kv_head,
        n_head=n_kv_head * draw(st.integers(1, 3)),
        head_dim=2 * draw(st.integers(2, 12)),
        n_embd=draw(st.integers(8, 48)),
        intermediate_size=draw(st.integers(1, 70)),
        block_size=draw(st.integers(1, 40)),
        vocab_size=draw(st.integers(2, 120)),
        activation=draw(st.sampled_from(["silu", "relu2"])),
        rope_theta=draw(st.sampled_from([100.0, 10_000.0, 1e6])),
    )


@settings(max_examples=40)
@given(modern_shapes())
def test_any_shape_of_modern_is_qwen3(config):
    ours = randomised(GPT(config))
    theirs = to_transformers(ours)
    assert theirs.num_parameters() == ours.n_parameters
    # A narrow model's logits are large (its last gain begins at 40 / n_embd): 1e-5 of them.
    with torch.inference_mode():
        scale = ours(torch.arange(config.vocab_size)[None, : config.block_size]).abs().max().item()
    assert largest_difference(ours, theirs) <= 1e-5 * max(1, scale)
    back = from_transformers(theirs)
    assert back.config == config
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), back.parameters(), strict=True))


def test_from_qwen3_to_ours():
    """One that transformers made, with the settings of Qwen3's own small models."""
    theirs = randomised(Qwen3ForCausalLM(Qwen3Config(**QWEN3)))
    assert largest_difference(from_transformers(theirs), theirs) <= 1e-5


@pytest.mark.parametrize(("theta", "head_dim"), [(1e4, 64), (5e5, 128), (1e6, 128), (1e6, 10)])
def test_the_angles_are_qwen3s_to_the_bit(theta, head_dim):
    """A last digit that is turned thousands of times costs 1e-5 of the logits."""
    rope = {"rope_type": "default", "rope_theta": theta}
    theirs = Qwen3RotaryEmbedding(Qwen3Config(head_dim=head_dim, rope_parameters=rope))
    places_T = torch.arange(4096)
    for ours, hub in zip(
        rotary_angles(places_T, head_dim, theta),
        theirs(torch.zeros(1), places_T[None]),
        strict=True,
    ):
        assert torch.equal(ours, hub[0, :, : head_dim // 2])


def test_the_gradients_are_the_twins():
    ours = randomised(GPT(GPTConfig(**SHAPES[-1])))
    theirs = to_transformers(ours)
    ids_BT = torch.randint(0, 500, (2, 48))
    ours(ids_BT[:, :-1], ids_BT[:, 1:])[1].backward()
    theirs(ids_BT, labels=ids_BT).loss.backward()
    for mine, hub in (
        ("token_embedding", "embed_tokens"), ("final_norm", "norm"),
        ("blocks.0.attention.key", "layers.0.self_attn.k_proj"),
        ("blocks.0.attention.query_norm", "layers.0.self_attn.q_norm"),
        ("blocks.2.mlp.gate", "layers.2.mlp.gate_proj"),
    ):  # fmt: skip
        expected = theirs.get_parameter(f"model.{hub}.weight").grad
        torch.testing.assert_close(
            ours.get_parameter(f"{mine}.weight").grad, expected, atol=1e-5, rtol=1e-3
        )


def test_from_transformers_to_ours():
    config = GPT2Config(vocab_size=77, n_positions=20, n_embd=24, n_layer=3, n_head=3)
    theirs = randomised(GPT2LMHeadModel(config))
    assert largest_difference(from_transformers(theirs), theirs) <= 1e-5


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_greedy_generation_gives_the_same_tokens(shape):
    ours = randomised(GPT(GPTConfig(**shape)))
    theirs = to_transformers(ours, end_of_text_id=0)
    room = min(ours.config.block_size - 4, 100)
    for prompt in ([1, 2, 3, 4], [9, 8, 7, 6]):
        new = theirs.generate(
            torch.tensor([prompt]), max_new_tokens=room, do_sample=False, pad_token_id=0
        )[0, 4:].tolist()
        expected = new[: new.index(0)] if 0 in new else new
        assert list(generate(ours, prompt, room, temperature=0, stop_id=0)) == expected


@pytest.mark.parametrize("shape", [SHAPES[1], SHAPES[-1]], ids=str)
def test_a_saved_twin_is_loaded_by_transformers_alone(tmp_path, shape):
    from transformers import AutoModelForCausalLM

    ours = randomised(GPT(GPTConfig(**shape)))
    to_transformers(ours).save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert largest_difference(ours, loaded) <= 1e-5
    assert from_transformers(loaded).config == ours.config


def test_what_our_gpt_has_no_place_for_is_refused():
    small = {"vocab_size": 11, "n_positions": 4, "n_embd": 8, "n_layer": 1, "n_head": 1}
    for odd in ({"activation_function": "relu"}, {"scale_attn_by_inverse_layer_idx": True},
                {"attn_pdrop": 0.5}, {"n_inner": 9}):  # fmt: skip
        with pytest.raises(UserError, match="no place for these settings"):
            from_transformers(GPT2LMHeadModel(GPT2Config(**(small | odd))))
    assert from_transformers(GPT2LMHeadModel(GPT2Config(**small, n_inner=32)))
    for odd in ({"hidden_act": "gelu"}, {"tie_word_embeddings": False}, {"rms_norm_eps": 1e-5},
                {"attention_bias": True}, {"attention_dropout": 0.1},
                {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
                {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
                {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4,
                                     "partial_rotary_factor": 0.5}}):  # fmt: skip
        with pytest.raises(UserError, match="no place for these settings"):
            from_transformers(Qwen3ForCausalLM(Qwen3Config(**(QWEN3 | odd))))
    llama = LlamaConfig(vocab_size=11, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                        num_attention_heads=1)  # fmt: skip
    for other in (LlamaForCausalLM(llama), Qwen3Model(Qwen3Config(**QWEN3)), torch.nn.Linear(1, 1)):
        with pytest.raises(UserError, match=f"become our GPT, not a {type(other).__name__}"):
            from_transformers(other)


@pytest.mark.parametrize("arch", ["gpt2", "modern"])
def test_an_output_layer_of_its_own_is_refused_whatever_the_config_says(tmp_path, arch):
    theirs = to_transformers(GPT(GPTConfig(**(SHAPES[0] | {"arch": arch, "n_embd": 16}))))
    theirs.config.tie_word_embeddings = False
    theirs.lm_head.weight = torch.nn.Parameter(2 * theirs.lm_head.weight)
    theirs.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    said = config.read_text(encoding="utf-8")
    assert '"tie_word_embeddings": false' in said
    config.write_text(said.replace('embeddings": false', 'embeddings": true'), encoding="utf-8")
    loaded = type(theirs).from_pretrained(tmp_path)
    assert loaded.config.tie_word_embeddings
    assert not torch.equal(loaded.lm_head.weight, loaded.get_input_embeddings().weight)
    with pytest.raises(UserError, match="output layer has weights of its own"):
        from_transformers(loaded)


def test_the_ways_there_and_back_draw_no_random_numbers():
    ours = GPT(GPTConfig(**SHAPES[0]))
    before = torch.get_rng_state()
    from_transformers(to_transformers(ours))
    assert torch.equal(torch.get_rng_state(), before)
