import math

import pytest
import torch

from conftest import write_shards
from wikigpt.blocks.shards import TokenBlocks
from wikigpt.evaluation.bits_per_byte import bits_per_byte, evaluate
from wikigpt.model import GPT, GPTConfig
from wikigpt.tokenizers import CharTokenizer

TEXTS = ["L’été à Nîmes.", "ж", "", "abc abc abc"]


@pytest.fixture
def blocks(tmp_path):
    tokenizer = CharTokenizer.train(TEXTS, min_count=2)
    write_shards(tmp_path, tokenizer, [("validation", text) for text in TEXTS])
    return TokenBlocks(tmp_path, "validation", tokenizer, 8)


def model_for(blocks, **changes) -> GPT:
    torch.manual_seed(0)
    vocab_size = 257 + len(CharTokenizer.train(TEXTS, min_count=2).characters)
    shape = {"n_layer": 1, "n_head": 1, "n_embd": 8, "block_size": 8, "vocab_size": vocab_size}
    return GPT(GPTConfig(**(shape | changes)))


def test_a_model_that_knows_nothing_by_hand(blocks):
    model = model_for(blocks)
    torch.nn.init.zeros_(model.token_embedding.weight)  # every logit is 0
    loss = evaluate(model, blocks)
    n_bytes = sum(len(text.encode()) for text in TEXTS)
    n_tokens = blocks.counts.tokens
    assert loss.nats_per_token == pytest.approx(math.log(model.config.vocab_size), rel=1e-5)
    assert loss.bits_per_byte == pytest.approx(
        n_tokens * math.log2(model.config.vocab_size) / n_bytes, rel=1e-5
    )
    assert loss.nats_per_char == pytest.approx(
        n_tokens * math.log(model.config.vocab_size) / sum(map(len, TEXTS)), rel=1e-5
    )
    assert bits_per_byte(loss.nats_per_token, blocks.counts) == pytest.approx(loss.bits_per_byte)


def test_it_is_the_sum_over_single_predictions(blocks):
    model = model_for(blocks).eval()
    stream = blocks.tokens(0, 10**6).tolist()
    nats = 0.0
    for place in range(1, len(stream)):
        start = (place - 1) // 8 * 8  # the block that this token is predicted in
        with torch.inference_mode():
            logits_V = model(torch.tensor([stream[start:place]]))[0, -1]
        nats -= logits_V.log_softmax(0)[stream[place]].item()
    assert evaluate(model, blocks).nats == pytest.approx(nats, rel=1e-5)


def test_it_depends_neither_on_the_batch_size_nor_on_dropout_and_keeps_the_mode(blocks):
    model = model_for(blocks, dropout=0.5).train()
    losses = {evaluate(model, blocks, batch_size=size).nats for size in (1, 2, 100)}
    assert max(losses) == pytest.approx(min(losses), rel=1e-6)
    assert model.training
