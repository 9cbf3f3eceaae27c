"""The encoder that guesses masked tokens: its masks, its losses, its evaluation, its resume."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import pipeline

from conftest import tiny_config
from wikigpt.blocks.prepare import prepare
from wikigpt.blocks.sampler import indices_of_step
from wikigpt.blocks.shards import IGNORE
from wikigpt.cli import main
from wikigpt.config import save_config
from wikigpt.errors import UserError
from wikigpt.training import events, train
from wikigpt.training.logging import read_metrics
from wikigpt.training.masked import Masker, encoder, evaluate_masked, tokenizer_with_mask
from wikigpt.training.run_folder import load_run


@pytest.fixture
def masked(small_corpus, tmp_path):
    return masked_config(small_corpus, tmp_path)


def masked_config(corpus, folder, **settings):
    return tiny_config(corpus, folder, engine="trainer", objective="mlm", **settings)


def parts(config):
    data = prepare(config)
    tokenizer = tokenizer_with_mask(data.tokenizer, config.model.block_size)
    return data, tokenizer, Masker(config, tokenizer)


def losses(config, until=None):
    found = []
    for event in train(config, say=lambda _: None):
        if isinstance(event, events.MaskedStep):
            found.append(event.loss)
            if event.step == until:
                break
    return found


def test_a_mask_is_a_function_of_seed_and_step(masked):
    data, tokenizer, masker = parts(masked)
    ids_BT, _ = data.train.batch(range(100))
    ids, labels = masker(ids_BT, 3)
    guessed = labels != IGNORE
    assert torch.equal(labels[guessed], ids_BT[guessed])
    assert torch.equal(ids[~guessed], ids_BT[~guessed])
    assert guessed.float().mean() == pytest.approx(0.15, abs=0.02)
    assert (ids[guessed] == tokenizer.mask_token_id).float().mean() == pytest.approx(0.8, abs=0.06)
    end = data.tokenizer.end_of_text_id
    assert (ids_BT == end).any() and not (labels == end).any()
    again, other = masker(ids_BT, 3), masker(ids_BT, 4)
    assert torch.equal(ids, again[0]) and torch.equal(labels, again[1])
    assert not torch.equal(labels, other[1])


def test_a_few_tokens_have_a_mask_too(masked):
    """15 % of four tokens are none in every second batch, and a mean over none is no number."""
    _, tokenizer, masker = parts(masked)
    ids_BT = torch.tensor([[tokenizer.eos_token_id, 260, 261, 262]])
    for step in range(50):
        hidden_BT, labels_BT = masker(ids_BT, step)
        guessed = labels_BT != IGNORE
        assert guessed.any() and not guessed[0, 0]
        assert torch.equal(labels_BT[guessed], ids_BT[guessed])
        assert torch.equal(hidden_BT[~guessed], ids_BT[~guessed])
    nothing, none = masker(torch.full((1, 4), tokenizer.eos_token_id), 0)
    assert (none == IGNORE).all() and (nothing == tokenizer.eos_token_id).all()


def test_the_losses_are_those_of_a_plain_loop(small_corpus, tmp_path):
    """With accumulation: micro-batches hold different numbers of masks, and each mask weighs the
    same."""
    config = masked_config(small_corpus, tmp_path, grad_accumulation_steps=2, warmup_steps=0)
    data, tokenizer, masker = parts(config)
    torch.manual_seed(config.seed)
    model = encoder(config, tokenizer)
    expected = []
    ids_BT, _ = data.train.batch(indices_of_step(config, len(data.train), 0))
    ids, labels = masker(ids_BT, 0)
    loss = torch.nn.functional.cross_entropy(model(ids).logits.flatten(0, 1), labels.flatten())
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9).item()
    expected = loss.item()
    first = next(e for e in train(config, say=lambda _: None) if isinstance(e, events.MaskedStep))
    assert first.loss == pytest.approx(expected, rel=1e-5)
    assert first.grad_norm == pytest.approx(norm, rel=1e-4)


def test_the_evaluation_sees_the_whole_split_and_the_same_masks(masked):
    data, tokenizer, masker = parts(masked)
    size, wide = len(tokenizer), 20.0
    seen = []

    class Parrot(torch.nn.Linear):
        """Believes what stands there, masked or not."""

        def forward(self, ids):
            seen.append(ids)
            return SimpleNamespace(logits=wide * torch.nn.functional.one_hot(ids, size).float())

    nats, accuracy, n = evaluate_masked(Parrot(1, 1), data.validation, masker, 4)
    assert sum(len(ids) for ids in seen) == len(data.validation)
    right = total = 0
    for number, (ids_BT, _) in enumerate(data.validation.batches(1)):
        ids, labels = masker(ids_BT, 2**40 + number)
        assert torch.equal(ids, torch.cat(seen)[number : number + 1])
        right += int((ids == labels).sum())
        total += int((labels != IGNORE).sum())
    assert evaluate_masked(Parrot(1, 1), data.validation, masker, 3)[1:] == (accuracy, n)
    assert n == total and accuracy == pytest.approx(right / total) and 0.05 < accuracy < 0.2
    # ln(e^20 + size - 1) - 20 where it is right, 20 more where it is wrong.
    cost = torch.log(torch.exp(torch.tensor(wide)) + size - 1).item() - wide
    assert nats == pytest.approx(cost + wide * (1 - accuracy), rel=1e-5)


def test_it_goes_on_to_the_same_bits(small_corpus, tmp_path):
    """With dropout, and from a step without an evaluation."""
    whole, broken = (
        masked_config(small_corpus, tmp_path, name=name, dropout=0.1)
        for name in ("whole", "broken")
    )
    expected = losses(whole)
    assert losses(broken, until=6) + losses(broken) == expected and len(expected) == 12
    a, b = (load_file(c.run_path / "model.safetensors") for c in (whole, broken))
    assert all(torch.equal(a[name], b[name]) for name in a)
    records = [[r | {"seconds": 0} for r in read_metrics(c.run_path)] for c in (whole, broken)]
    assert records[0] == records[1]
    assert [r["step"] for r in records[0] if r["kind"] == "maskedevaluation"] == [4, 8, 12]


def test_the_command_trains_it_and_transformers_fills_masks(masked, tmp_path, capsys):
    save_config(masked, tmp_path / "masked.yaml")
    assert main(["pretrain", str(tmp_path / "masked.yaml")]) == 0
    assert 'pipeline("fill-mask"' in capsys.readouterr().out
    guesses = pipeline("fill-mask", str(masked.run_path))("La <|mask|> de Paris")
    assert len(guesses) == 5 and sum(g["score"] for g in guesses) < 1
    with pytest.raises(UserError, match="holds an encoder, which fills in masks"):
        load_run(masked.run_path)
    assert main(["generate", str(masked.run_path), "La ville"]) == 2


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"engine": "own"}, "objective: mlm needs engine: trainer"),
        ({"data_workers": 1}, "data_workers and fsdp are not for objective: mlm"),
        ({"blocks": "streaming"}, "objective: mlm needs blocks: shards"),
        ({"arch": "modern"}, "leave model.arch out"),
        ({"n_embd": 6, "n_head": 2}, "make model.n_embd / model.n_head even"),
    ],
)
def test_what_it_can_not_be_combined_with_is_told(small_corpus, tmp_path, wrong, sentence):
    settings = {"engine": "trainer", "objective": "mlm"} | wrong
    with pytest.raises(UserError, match=sentence):
        tiny_config(small_corpus, tmp_path, **settings)
