import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from conftest import write_shards
from wikigpt.blocks.shards import IGNORE, TokenBlocks
from wikigpt.errors import UserError
from wikigpt.evaluation.any_model import AnyModel, hub_model, our_model
from wikigpt.evaluation.bits_per_byte import _windows, bits_per_byte, evaluate, evaluate_texts
from wikigpt.model import GPT, GPTConfig
from wikigpt.model.twin import to_transformers
from wikigpt.tokenizers import BPETokenizer, CharTokenizer

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


def test_a_stride_of_a_block_is_the_figure_of_the_training_loop_to_the_bit(blocks):
    model = model_for(blocks)
    for batch_size in (1, 3, 16):
        expected = evaluate(model, blocks, batch_size)
        assert evaluate(model, blocks, batch_size, stride=8) == expected
        ours = our_model(model, CharTokenizer.train(TEXTS, min_count=2))
        assert evaluate_texts(ours, TEXTS, batch_size=batch_size) == expected


@pytest.mark.parametrize("stride", [1, 3, 7])
def test_overlapping_windows_are_the_sum_over_single_predictions(blocks, stride):
    model = model_for(blocks).eval()
    stream = blocks.tokens(0, 10**6).tolist()
    nats = 0.0
    for place in range(1, len(stream)):
        # Windows begin at 0, stride, 2 stride, …; the first that holds a token predicts it.
        start = max(0, math.ceil((place - 8) / stride) * stride)
        with torch.inference_mode():
            logits_V = model(torch.tensor([stream[start:place]]))[0, -1]
        nats -= logits_V.log_softmax(0)[stream[place]].item()
    loss = evaluate(model, blocks, stride=stride)
    assert loss.nats == pytest.approx(nats, rel=1e-5)
    assert loss.tokens == blocks.counts.tokens


@given(st.integers(1, 60), st.integers(1, 12), st.data(), st.integers(1, 5))
def test_every_token_is_a_target_once_after_all_the_context_there_is(n, block_size, data, size):
    stride = data.draw(st.integers(1, block_size))
    charged = np.array(data.draw(st.lists(st.booleans(), min_size=n + 1, max_size=n + 1)))
    stream = np.arange(100, 101 + n)
    met = []
    for ids_BT, targets_BT in _windows(
        lambda a, b: stream[a:b], n, block_size, stride, size, charged
    ):
        assert ids_BT.shape == targets_BT.shape and len(ids_BT) <= size
        for ids, targets in zip(ids_BT.tolist(), targets_BT.tolist(), strict=True):
            for i, target in enumerate(targets):
                if target != IGNORE:
                    place = target - 100
                    met.append(place)
                    # The window up to here is the stream up to here, and long enough.
                    assert ids[: i + 1] == list(range(target - i - 1, target))
                    assert i + 1 > min(block_size - stride, place - 1)
    assert met == [place for place in range(1, n + 1) if charged[place]]


class Clock(torch.nn.Module):
    """Knows nothing but how many tokens it has read: after i of them, token 1 has chance 1/(i+1),
    and four others share the rest."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, ids_BT):
        i = torch.arange(1, ids_BT.shape[1] + 1) + self.weight
        rest = (i / (i + 1) / 4).log()[:, None].expand(-1, 5)
        logits_TV = rest.clone()
        logits_TV[:, 1] = (1 / (i + 1)).log()
        return logits_TV.expand(len(ids_BT), -1, -1)


def clock(start_id: int, end_id: int) -> AnyModel:
    module = Clock()
    ids = {"a": 1, "b": 2}
    return AnyModel(
        module, module, lambda text: [ids[c] for c in text],
        lambda found: "".join("?ab??"[i] for i in found), start_id, end_id, 4, 5,
    )  # fmt: skip


def test_by_hand_with_one_token_that_ends_and_starts():
    # Stream: 0 a a b 0 b 0. In blocks of 4: [0 a a b] -> a a b 0 and [0 b] -> b 0.
    loss = evaluate_texts(clock(0, 0), ["aab", "b"])
    chances = [1 / 2, 1 / 3, 3 / 16, 4 / 20, 1 / 8, 2 / 12]
    assert loss.nats == pytest.approx(-sum(map(math.log, chances)), rel=1e-6)
    assert (loss.tokens, loss.bytes, loss.characters) == (6, 4, 4)
    # With a stride of 3 the second window is [b 0 b], and its last two tokens are paid for.
    loss = evaluate_texts(clock(0, 0), ["aab", "b"], stride=3)
    chances = [1 / 2, 1 / 3, 3 / 16, 4 / 20, 2 / 12, 3 / 16]
    assert loss.nats == pytest.approx(-sum(map(math.log, chances)), rel=1e-6)


def test_by_hand_with_a_token_that_starts_and_another_that_ends():
    # Stream: 3 a 4 3 b 4. The second 3 is given, as the first is: [3 a 4 3] -> a 4 . b, [b] -> 4.
    loss = evaluate_texts(clock(3, 4), ["a", "b"])
    chances = [1 / 2, 2 / 12, 4 / 20, 1 / 8]
    assert loss.nats == pytest.approx(-sum(map(math.log, chances)), rel=1e-6)
    assert (loss.tokens, loss.bytes) == (4, 2)


def test_documents_that_a_tokenizer_changes_are_counted():
    model = clock(0, 0)
    lossy = AnyModel(**(vars(model) | {"encode": lambda text: [1] * len(text)}))
    assert evaluate_texts(lossy, ["aa", "ab", "b"]).changed_documents == 2
    assert evaluate_texts(model, ["aa", "ab", "b"]).changed_documents == 0


FRENCH = ["L’été à Nîmes.", "un <|endoftext|> écrit dans le texte, et 日本", "", "abc abc abc"] * 3


@pytest.mark.parametrize("arch", ["gpt2", "modern"])
@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_an_exported_model_has_the_figure_of_its_run(tmp_path, arch, kind):
    tokenizer = (
        CharTokenizer.train(FRENCH, min_count=4)
        if kind == "char"
        else BPETokenizer.train(FRENCH, vocab_size=300)
    )
    write_shards(tmp_path, tokenizer, [("validation", text) for text in FRENCH])
    blocks = TokenBlocks(tmp_path, "validation", tokenizer, 16)
    torch.manual_seed(0)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 8, "block_size": 16}
    model = GPT(GPTConfig(arch=arch, vocab_size=tokenizer.vocab_size, **shape))
    folder = tmp_path / "exported"
    to_transformers(model, tokenizer.end_of_text_id).save_pretrained(folder)
    tokenizer.to_hub(16).save_pretrained(folder)
    theirs = hub_model(folder)
    for stride in (16, 5):
        expected = evaluate(model, blocks, stride=stride)
        loss = evaluate_texts(theirs, FRENCH, stride=stride)
        assert loss.nats == pytest.approx(expected.nats, rel=1e-5)
        assert (loss.tokens, loss.bytes) == (expected.tokens, expected.bytes)
        assert loss.changed_documents == 0
    # Shorter windows are another figure, and the same one for both.
    assert_close(
        evaluate_texts(theirs, FRENCH, block_size=7).nats,
        evaluate_texts(our_model(model, tokenizer), FRENCH, block_size=7).nats,
        rtol=1e-5, atol=0.0,
    )  # fmt: skip


def test_windows_that_make_no_sense_are_errors(blocks):
    model = model_for(blocks)
    for stride in (0, 9, -1):
        with pytest.raises(UserError, match="stride is"):
            evaluate(model, blocks, stride=stride)
    with pytest.raises(UserError, match="context is 1 to 4 tokens"):
        evaluate_texts(clock(0, 0), ["a"], block_size=5)
    with pytest.raises(UserError, match="block_size is 0"):
        evaluate_texts(clock(0, 0), ["a"], block_size=0)
    for batch_size in (0, -1):
        with pytest.raises(UserError, match=f"batch_size is {batch_size}"):
            evaluate_texts(clock(0, 0), ["a"], batch_size=batch_size)
    for texts in ([], [""]):
        with pytest.raises(UserError, match="no text"):
            evaluate_texts(clock(0, 0), texts)


@pytest.fixture
def exported(tmp_path):
    tokenizer = CharTokenizer.train(FRENCH)
    shape = {"n_layer": 1, "n_head": 1, "n_embd": 8, "block_size": 8}
    model = GPT(GPTConfig(arch="modern", vocab_size=tokenizer.vocab_size, **shape))
    to_transformers(model, tokenizer.end_of_text_id).save_pretrained(tmp_path / "model")
    tokenizer.to_hub(8).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def edit(path, **changes):
    values = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(values), encoding="utf-8")


def test_a_folder_that_holds_no_model_is_an_error(tmp_path):
    with pytest.raises(UserError, match="can't be loaded"):
        hub_model(tmp_path)


def test_a_damaged_file_of_weights_is_an_error(exported):
    weights = exported / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match="can't be loaded"):
        hub_model(exported)


def test_a_config_of_nonsense_is_an_error(exported):
    edit(exported / "config.json", hidden_size="x")
    with pytest.raises(UserError, match="can't be loaded"):
        hub_model(exported)


def test_a_folder_without_a_tokenizer_is_an_error(exported):
    """transformers makes an empty one, with which every text costs nothing."""
    for path in exported.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(UserError, match="no tokenizer in"):
        hub_model(exported)


def test_a_context_shorter_than_the_models_can_be_asked_for(exported):
    assert hub_model(exported).block_size == 8
    assert hub_model(exported, block_size=5).block_size == 5
    for wrong in (9, 0):
        with pytest.raises(UserError, match="is 1 to 8 tokens"):
            hub_model(exported, block_size=wrong)


def test_weights_of_another_shape_are_an_error(exported):
    edit(exported / "config.json", hidden_size=16)
    with pytest.raises(UserError, match="can't be loaded"):
        hub_model(exported)


def test_weights_that_are_not_there_are_not_invented(exported):
    edit(exported / "config.json", num_hidden_layers=2, layer_types=None)
    with pytest.raises(UserError, match="lacks the weights"):
        hub_model(exported)


def test_a_tokenizer_of_another_model_is_an_error(exported):
    larger = CharTokenizer.train(["abcdefghijklmnopqrstuvwxyzé", *FRENCH])
    larger.to_hub().save_pretrained(exported)
    with pytest.raises(UserError, match="don't belong together"):
        evaluate_texts(hub_model(exported), FRENCH)


def test_a_context_that_no_config_says_can_be_given(tmp_path):
    from transformers import BloomConfig, BloomForCausalLM

    tokenizer = CharTokenizer.train(FRENCH)
    shape = {"hidden_size": 8, "n_layer": 1, "n_head": 1}
    BloomForCausalLM(BloomConfig(vocab_size=tokenizer.vocab_size, **shape)).save_pretrained(
        tmp_path
    )
    tokenizer.to_hub().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="give a block_size"):
        hub_model(tmp_path)
    loss = evaluate_texts(hub_model(tmp_path, block_size=10), FRENCH)
    assert loss.nats_per_token == pytest.approx(math.log(tokenizer.vocab_size), rel=0.05)


def test_a_tokenizer_without_an_end_is_an_error(exported):
    edit(exported / "tokenizer_config.json", bos_token=None, eos_token=None)
    with pytest.raises(UserError, match="starts or ends"):
        hub_model(exported)


def test_a_model_that_sees_what_it_should_predict_is_an_error(exported):
    from transformers import BertConfig, BertLMHeadModel

    torch.manual_seed(0)
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    bert = BertLMHeadModel(BertConfig(vocab_size=400, intermediate_size=8, **shape))
    bert.save_pretrained(exported)
    with pytest.raises(UserError, match="no causal model"):
        hub_model(exported)
