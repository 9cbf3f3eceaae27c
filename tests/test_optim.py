import pytest
import torch

from wikigpt.config import TrainingConfig
from wikigpt.model import GPT, GPTConfig
from wikigpt.training.optim import learning_rate_at, make_optimizer


def test_every_parameter_is_in_exactly_one_group_and_only_matrices_decay():
    model = GPT(GPTConfig(n_layer=2, n_head=2, n_embd=16, block_size=8, vocab_size=20))
    optimizer = make_optimizer(model, TrainingConfig(weight_decay=0.3))
    decay_of = {p: g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(decay_of)
    for name, parameter in model.named_parameters():
        vector = name.endswith("bias") or "norm" in name
        assert decay_of[parameter] == (0.0 if vector else 0.3), name


def test_the_schedule_by_hand():
    config = TrainingConfig(
        max_steps=101, warmup_steps=10, learning_rate=1.0, final_learning_rate_fraction=0.2
    )
    rates = [learning_rate_at(step, config) for step in range(101)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.6)  # half way: the mean of 1.0 and 0.2
    assert rates[100] == pytest.approx(0.2)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_the_shape_of_the_schedule_is_transformers():
    from transformers import get_cosine_schedule_with_warmup

    config = TrainingConfig(max_steps=50, warmup_steps=7, final_learning_rate_fraction=0)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config.learning_rate)
    # Theirs starts at 0 and ends after the last step; ours uses neither of the two zeros.
    theirs = get_cosine_schedule_with_warmup(optimizer, 7, 50 - 1)
    decay = []
    for _ in range(50):
        decay.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    ours = [learning_rate_at(step, config) for step in range(50)]
    assert ours[7:] == pytest.approx(decay[7:])
    assert ours[:7] == pytest.approx(decay[1:8])


@pytest.mark.parametrize("warmup", [0, 5, 50])
def test_no_warmup_and_nothing_but_warmup(warmup):
    config = TrainingConfig(max_steps=5, warmup_steps=warmup)
    assert all(0 < learning_rate_at(s, config) <= config.learning_rate for s in range(5))
