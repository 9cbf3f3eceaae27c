"""Law 1: our GPT and transformers' GPT2LMHeadModel agree, both ways."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from wikigpt.errors import UserError
from wikigpt.model import GPT, GPTConfig
from wikigpt.model.generate import generate
from wikigpt.model.twin import from_transformers, to_transformers

SHAPES = [
    {"n_layer": 1, "n_head": 1, "n_embd": 8, "block_size": 4, "vocab_size": 11},
    {"n_layer": 2, "n_head": 2, "n_embd": 128, "block_size": 256, "vocab_size": 360},
    {"n_layer": 5, "n_head": 4, "n_embd": 64, "block_size": 32, "vocab_size": 1000, "dropout": 0.1},
]


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """Weights that leave no bias at zero and no gain at one, so that a mix-up would show."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def largest_difference(ours: GPT, theirs: GPT2LMHeadModel) -> float:
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


def test_from_transformers_to_ours():
    config = GPT2Config(vocab_size=77, n_positions=20, n_embd=24, n_layer=3, n_head=3)
    theirs = randomised(GPT2LMHeadModel(config))
    assert largest_difference(from_transformers(theirs), theirs) <= 1e-5


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_greedy_generation_gives_the_same_tokens(shape):
    ours = randomised(GPT(GPTConfig(**shape)))
    theirs = to_transformers(ours, end_of_text_id=0)
    room = shape["block_size"] - 4
    for prompt in ([1, 2, 3, 4], [9, 8, 7, 6]):
        new = theirs.generate(
            torch.tensor([prompt]), max_new_tokens=room, do_sample=False, pad_token_id=0
        )[0, 4:].tolist()
        expected = new[: new.index(0)] if 0 in new else new
        assert list(generate(ours, prompt, room, temperature=0, stop_id=0)) == expected


def test_a_saved_twin_is_loaded_by_transformers_alone(tmp_path):
    from transformers import AutoModelForCausalLM

    ours = randomised(GPT(GPTConfig(**SHAPES[1])))
    to_transformers(ours).save_pretrained(tmp_path)
    assert largest_difference(ours, AutoModelForCausalLM.from_pretrained(tmp_path)) <= 1e-5


def test_what_our_gpt_has_no_place_for_is_refused():
    small = {"vocab_size": 11, "n_positions": 4, "n_embd": 8, "n_layer": 1, "n_head": 1}
    for odd in ({"activation_function": "relu"}, {"scale_attn_by_inverse_layer_idx": True},
                {"attn_pdrop": 0.5}, {"n_inner": 9}):  # fmt: skip
        with pytest.raises(UserError, match="no place for these settings"):
            from_transformers(GPT2LMHeadModel(GPT2Config(**(small | odd))))
    assert from_transformers(GPT2LMHeadModel(GPT2Config(**small, n_inner=32)))
    llama = LlamaConfig(vocab_size=11, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                        num_attention_heads=1)  # fmt: skip
    with pytest.raises(UserError, match="not a 'llama' model"):
        from_transformers(LlamaForCausalLM(llama))
