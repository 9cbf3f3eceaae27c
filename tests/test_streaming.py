"""Blocks made on the fly: the same as from shards, endless, and resumed to the very token."""

import gzip
import json
import pickle
import subprocess
import sys
from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import tiny_config, write_jsonl, write_shards
from wikigpt.blocks.parts import write_part
from wikigpt.blocks.prepare import prepare
from wikigpt.blocks.shards import TokenBlocks
from wikigpt.blocks.streaming import StreamedBlocks
from wikigpt.corpus.choose import part_of
from wikigpt.corpus.reading import Reading, find_duplicates, read_articles, split_of
from wikigpt.corpus.stream import Order, Source, article_stream
from wikigpt.errors import UserError
from wikigpt.tokenizers import CharTokenizer
from wikigpt.training import checkpoint, events, train

TOKENIZER = CharTokenizer.train(["abcdeéT x0123456789"])
# Texts of one character, of about a block, and of many blocks; one with characters to be spelled.
SIZES = [1, 3, 700, 40, 1, 1, 25, 8, 300, 2, 60, 5]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dumps")
    made = []
    for k in range(3):
        records = [
            {"id": 100 * k + i, "title": "T", "text": f"é{k} œ{i} {'abc de' * n}"[: n + 5]}
            for i, n in enumerate(SIZES[k:])
        ]
        made.append(write_jsonl(folder / f"frwiki_{k}.jsonl", records))
    packed = folder / "frwiki_2.jsonl.gz"
    packed.write_bytes(gzip.compress(made[2].read_bytes()))
    return [*made[:2], packed]


ORDERS = {
    "in order": Order(),
    "shuffled": Order(seed=5, window=7),
    "train": Order(seed=5, window=7, split="train", validation_fraction=0.3),
}


def blocks_of(files, order=ORDERS["shuffled"], block_size=16, tokenizer=TOKENIZER):
    return StreamedBlocks([Source("fr", files)], order, tokenizer, block_size)


def windows(blocks, n):
    """The next n blocks, each as its inputs and the last target."""
    return [[*ids.tolist(), int(targets[-1])] for ids, targets in islice(blocks, n)]


def stream_by_hand(files, order, epochs):
    """The tokens that must come, joined by hand."""
    tokens = []
    for epoch in range(epochs):
        settings = {**vars(order), "epoch": epoch}
        for article in article_stream([Source("fr", files)], Order(**settings)):
            tokens += [0, *TOKENIZER.encode(article["text"])]
    return tokens


@pytest.mark.parametrize("block_size", [1, 16, 64])
def test_in_order_they_are_the_blocks_of_the_shards(files, tmp_path, block_size):
    articles = list(read_articles(files))
    documents = [(split_of(article.id, 0.3), article.text) for article in articles]
    assert {split for split, _ in documents} == {"train", "validation"}
    write_shards(tmp_path, TOKENIZER, documents[:9], documents[9:])
    shards = TokenBlocks(tmp_path, "train", TOKENIZER, block_size)
    whole = shards.counts.tokens // block_size
    blocks = blocks_of(files, Order(split="train", validation_fraction=0.3), block_size)
    ids_BT, targets_BT = blocks.batch(whole)
    expected_ids_BT, expected_targets_BT = shards.batch(range(whole))
    assert ids_BT.dtype == targets_BT.dtype == torch.int64
    assert torch.equal(ids_BT, expected_ids_BT) and torch.equal(targets_BT, expected_targets_BT)


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("block_size", [1, 16, 2000])
def test_the_epochs_are_one_stream_without_a_seam(files, name, block_size):
    tokens = stream_by_hand(files, ORDERS[name], epochs=4)
    n = (len(tokens) - 1) // block_size
    inputs, targets = [], []
    for ids, after in islice(blocks_of(files, ORDERS[name], block_size), n):
        assert len(ids) == len(after) == block_size
        inputs += ids.tolist()
        targets += after.tolist()
    assert inputs == tokens[: n * block_size]
    assert targets == tokens[1 : n * block_size + 1]


def test_another_epoch_is_another_order_of_the_same_documents(files):
    first, second = (
        [row["text"] for row in article_stream([Source("fr", files)], Order(5, epoch, 7))]
        for epoch in (0, 1)
    )
    assert first != second and sorted(first) == sorted(second)
    n = sum(len(TOKENIZER.encode(text)) + 1 for text in first)
    ids, _ = next(blocks_of(files, block_size=2 * n))
    documents = TOKENIZER.decode(ids.tolist()).split("<|endoftext|>")[1:]
    assert documents == first + second


@settings(max_examples=40)
@given(
    name=st.sampled_from(sorted(ORDERS)),
    block_size=st.sampled_from([1, 7, 16, 90, 5000]),
    stops=st.lists(st.integers(0, 150), min_size=1, max_size=4),
    ahead=st.booleans(),
)
def test_stopped_anywhere_it_goes_on_with_exactly_the_next_block(
    files, name, block_size, stops, ahead
):
    # At most about three epochs, so that a stop lies before, in and behind an epoch's end.
    stops = [stop * 16 // block_size if block_size > 16 else stop for stop in stops]
    whole = windows(blocks_of(files, ORDERS[name], block_size), sum(stops) + 20)
    collected, state = [], None
    for stop in [*stops, 20]:
        blocks = blocks_of(files, ORDERS[name], block_size)
        if state is not None:
            blocks.load_state_dict(json.loads(state))
        collected += windows(blocks, stop)
        state = json.dumps(blocks.state_dict())
        assert len(state) < 600
        if ahead:  # what the old object does afterwards does not reach the state
            windows(blocks, 3)
    assert collected == whole


def test_one_object_goes_back_and_forth(files):
    blocks = blocks_of(files)
    whole = windows(blocks, 300)
    blocks = blocks_of(files)
    states = []
    for _ in range(300):
        states.append(blocks.state_dict())
        next(blocks)
    for k in (0, 299, 5, 5, 140):
        blocks.load_state_dict(states[k])
        assert blocks.state_dict() == states[k]
        assert windows(blocks, 1) == whole[k : k + 1]


def test_resumed_in_another_process_mixed_and_without_duplicates(files, tmp_path):
    more = [{"id": i, "title": "E", "text": f"bcd {i - i % 2} {'ab' * i}"} for i in range(90)]
    english = write_jsonl(tmp_path / "en.jsonl", more)
    code = """
import json, sys
from wikigpt.blocks.streaming import StreamedBlocks
from wikigpt.corpus.reading import Reading, find_duplicates
from wikigpt.corpus.stream import Order, Source
from wikigpt.tokenizers import CharTokenizer
files, english, state = json.load(sys.stdin)
sources = [
    Source("fr", files, 0.7),
    Source("en", [english], 0.3, Reading("en", 8, find_duplicates([english], near=False))),
]
tokenizer = CharTokenizer.train(["abcdeéT x0123456789"])
blocks = StreamedBlocks(sources, Order(seed=3, window=9), tokenizer, 32)
blocks.load_state_dict(state)
ids_BT, _ = blocks.batch(250)
print(json.dumps([ids_BT.tolist(), blocks.state_dict()]))
"""

    sources = [
        Source("fr", files, 0.7),
        Source("en", [english], 0.3, Reading("en", 8, find_duplicates([english], near=False))),
    ]
    blocks = StreamedBlocks(sources, Order(seed=3, window=9), TOKENIZER, 32)
    blocks.batch(150)
    arguments = json.dumps([[str(file) for file in files], str(english), blocks.state_dict()])
    process = subprocess.run(
        [sys.executable, "-c", code], input=arguments, capture_output=True, encoding="utf-8",
        check=True,
    )  # fmt: skip
    ids_BT, state = json.loads(process.stdout)
    assert ids_BT == blocks.batch(250)[0].tolist()
    assert state == blocks.state_dict() and state["epoch"] > 0


def test_to_look_ahead_takes_nothing(files):
    blocks, plain = blocks_of(files), blocks_of(files)
    for size in (1, 40, 3):
        state = blocks.state_dict()
        ahead = blocks.peek(size)
        taken, expected = blocks.batch(size), plain.batch(size)
        for a, b, c in zip(ahead, taken, expected, strict=True):
            assert torch.equal(a, c) and torch.equal(b, c)
        again = blocks_of(files)
        again.load_state_dict(state)
        assert torch.equal(again.batch(size)[1], expected[1])


def test_before_its_first_block_it_can_be_sent_to_another_process(files):
    blocks = pickle.loads(pickle.dumps(blocks_of(files)))
    assert windows(blocks, 20) == windows(blocks_of(files), 20)


def test_no_more_than_a_document_and_a_block_wait(files):
    longest = 1 + max(len(TOKENIZER.encode(a.text)) for a in read_articles(files))
    blocks = blocks_of(files)
    for _ in range(500):
        next(blocks)
        assert sum(len(document.ids) for document in blocks._waiting) <= longest + 16 + 1


def test_any_tokenizer_will_do_with_a_bulk_encoder_or_without(files):
    class Plain:
        """Nothing but what is promised of every tokenizer."""

        end_of_text_id, vocab_size = 0, TOKENIZER.vocab_size
        fingerprint, encode = TOKENIZER.fingerprint, TOKENIZER.encode

    class Bulk(Plain):
        encode = None

        def bulk_encoder(self):
            return TOKENIZER.encode

    expected = windows(blocks_of(files), 50)
    assert windows(blocks_of(files, tokenizer=Plain()), 50) == expected
    assert windows(blocks_of(files, tokenizer=Bulk()), 50) == expected


def test_an_error_costs_no_block(files):
    """A notebook's stop button, say, while an article is being tokenised."""
    calls = []

    class Interrupted(CharTokenizer):
        def bulk_encoder(self):
            def encode(text):
                calls.append(text)
                if len(calls) in (4, 11):
                    raise KeyboardInterrupt
                return self.encode(text)

            return encode

    blocks = blocks_of(files, tokenizer=Interrupted(TOKENIZER.characters))
    collected, interrupts = [], 0
    while len(collected) < 100:
        try:
            collected += windows(blocks, 1)
        except KeyboardInterrupt:
            interrupts += 1
    assert interrupts == 2 and collected == windows(blocks_of(files), 100)


@pytest.mark.parametrize("reading", [Reading(), Reading(min_characters=10_000)])
def test_without_an_article_it_says_so_and_does_not_go_round_for_ever(files, tmp_path, reading):
    empty = tmp_path / "rien.jsonl"
    empty.write_bytes(b"")
    paths = [empty] if reading == Reading() else files
    blocks = StreamedBlocks([Source("fr", paths, None, reading)], Order(seed=1), TOKENIZER, 8)
    for _ in range(2):
        with pytest.raises(UserError, match=f"no article to train on in .*{paths[0].name}"):
            next(blocks)


def test_a_corpus_that_is_all_validation_is_told(files):
    order = Order(split="train", validation_fraction=1.0)
    with pytest.raises(UserError, match=r"lower .* corpus\.validation_fraction"):
        blocks_of(files, order).batch(2)


def test_missing_files_are_told_before_the_first_block(tmp_path):
    with pytest.raises(UserError, match="There is no corpus file"):
        blocks_of([tmp_path / "gone.jsonl"])


def test_a_corpus_that_is_bad_as_a_whole_stops(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"title": "A"}] * 10)
    with pytest.raises(UserError, match="10 of 10 records are bad"):
        next(blocks_of([path]))


def test_a_position_in_another_stream_is_refused(files, tmp_path):
    blocks = blocks_of(files)
    windows(blocks, 20)
    state = blocks.state_dict()
    others = {
        "corpus": blocks_of(files[:2]),
        "corpus ": blocks_of(files, ORDERS["train"]),
        "tokenizer": blocks_of(files, tokenizer=CharTokenizer.train(["abc"])),
        "block size": blocks_of(files, block_size=17),
        "corpus and block size": blocks_of(files[:2], block_size=17),
    }
    for what, other in others.items():
        with pytest.raises(UserError, match=f"belongs to another {what.strip()}, where"):
            other.load_state_dict(state)
        assert len(windows(other, 1)) == 1, "what is refused does no harm"
    with pytest.raises(UserError, match="another corpus and tokenizer and block size"):
        blocks.load_state_dict({})
    # The same files elsewhere are the same corpus.
    copies = [tmp_path / file.name for file in files]
    for copy, file in zip(copies, files, strict=True):
        copy.write_bytes(file.read_bytes())
    moved = blocks_of(copies)
    moved.load_state_dict(state)
    assert windows(moved, 5) == windows(blocks, 5)


def test_a_text_that_changed_under_the_same_name_and_size_is_found_out(tmp_path):
    def corpus(letter):
        return write_jsonl(tmp_path / "a.jsonl", [{"title": "A", "text": letter * 100}] * 9)

    blocks = blocks_of([corpus("a")], Order())
    windows(blocks, 10)
    state = blocks.state_dict()
    changed = blocks_of([corpus("b")], Order())
    changed.load_state_dict(state)
    for _ in range(2):
        with pytest.raises(UserError, match="not what it was"):
            next(changed)


def test_the_part_that_is_read_is_part_of_what_a_position_belongs_to(files):
    blocks = [
        StreamedBlocks(
            [Source("fr", files, None, Reading(part=part_of(files, n)))], Order(), TOKENIZER, 16
        )
        for n in (20, 20, 10)
    ]
    blocks[1].load_state_dict(blocks[0].state_dict())
    with pytest.raises(UserError, match="another corpus"):
        blocks[2].load_state_dict(blocks[0].state_dict())


def test_duplicates_are_part_of_what_a_position_belongs_to(files):
    found = find_duplicates(files, near=False)
    source = Source("fr", files, None, Reading(duplicates=found))
    state = StreamedBlocks([source], ORDERS["shuffled"], TOKENIZER, 16).state_dict()
    assert next(iter(found.files.values())) == {"exact duplicate": [], "near duplicate": []}
    same = StreamedBlocks([source], ORDERS["shuffled"], TOKENIZER, 16)
    same.load_state_dict(state)
    found.files[str(files[0])]["exact duplicate"].append(3)
    other = StreamedBlocks([source], ORDERS["shuffled"], TOKENIZER, 16)
    with pytest.raises(UserError, match="another corpus"):
        other.load_state_dict(state)


def quiet(_):
    pass


def streaming_config(corpus, folder, **overrides):
    return tiny_config(corpus, folder, blocks="streaming", **overrides)


def test_prepare_writes_no_training_tokens_and_counts_them_all_the_same(small_corpus, tmp_path):
    sharded = prepare(tiny_config(small_corpus, tmp_path), quiet)
    told = []
    data = prepare(streaming_config(small_corpus, tmp_path), told.append)
    assert "Tokenising the validation split" in told[0]
    assert data.folder != sharded.folder
    assert data.tokenizer.fingerprint == sharded.tokenizer.fingerprint
    assert data.train_counts == sharded.train_counts == sharded.train.counts
    assert data.manifest["splits"]["train"]["files"] == []
    assert torch.equal(*(d.validation.batch(range(9))[1] for d in (data, sharded)))
    on_disk = sum(file.stat().st_size for file in data.folder.rglob("*.bin"))
    assert on_disk == 2 * data.validation.counts.tokens > 0
    # One epoch of the stream: as many tokens, of the same documents.
    ids_BT, _ = data.train.batch(-(-data.train_counts.tokens // 32))
    stream = data.tokenizer.decode(ids_BT.flatten().tolist()[: data.train_counts.tokens])
    shards = data.tokenizer.decode(sharded.train.tokens(1, 10**9))
    stream, shards = (text.split("<|endoftext|>") for text in (stream, shards))
    assert sorted(stream) == sorted(shards) and stream[1:] != shards[:-1]
    other = prepare(streaming_config(small_corpus, tmp_path, seed=7), quiet)
    assert not torch.equal(other.train.batch(4)[0], ids_BT[:4])
    again = prepare(streaming_config(small_corpus, tmp_path), told.append)
    assert len(told) == 1 and again.folder == data.folder
    with pytest.raises(UserError, match="does not hold the train tokens"):
        TokenBlocks(data.folder, "train", data.tokenizer, 32)


def test_an_interrupted_preparation_goes_on_with_the_next_file(small_corpus, tmp_path, monkeypatch):
    lines = small_corpus.read_bytes().splitlines(keepends=True)
    paths = [tmp_path / f"{k}.jsonl" for k in range(2)]
    for k, path in enumerate(paths):
        path.write_bytes(b"".join(lines[k::2]))
    config = streaming_config(paths[0], tmp_path, files=list(map(str, paths)))

    def one_then_none(jobs, workers):
        write_part(jobs[0])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("wikigpt.blocks.prepare.write_parts", one_then_none)
        with pytest.raises(KeyboardInterrupt):
            prepare(config, quiet)
    told = []
    data = prepare(config, told.append)
    assert "1 of 2 files are tokenised" in told[0]
    assert data.train_counts.documents + data.validation.counts.documents == len(lines)


def test_a_part_of_the_articles_is_streamed(small_corpus, tmp_path):
    data, sharded = (
        prepare(tiny_config(small_corpus, tmp_path, max_articles=200, blocks=blocks), quiet)
        for blocks in ("streaming", "shards")
    )
    assert data.train_counts == sharded.train_counts
    ids_BT, _ = data.train.batch(-(-data.train_counts.tokens // 32))
    ends = int((ids_BT.flatten()[: data.train_counts.tokens] == 0).sum())
    assert ends == data.train_counts.documents < 200


def test_duplicates_are_dropped_from_the_stream_and_looked_for_once(tmp_path, monkeypatch):
    records = [{"name": f"A{i}", "abstract": f"Le texte {i % 150}. " * 3} for i in range(300)]
    corpus = write_jsonl(tmp_path / "c.jsonl", records)
    config = streaming_config(corpus, tmp_path, duplicates="drop_exact", validation_fraction=0.2)
    data = prepare(config, quiet)
    assert data.train_counts.documents + data.validation.counts.documents == 150
    monkeypatch.setattr("wikigpt.blocks.prepare.find_duplicates", None)
    data = prepare(config, quiet)
    ids_BT, _ = data.train.batch(-(-data.train_counts.tokens // 32))
    assert int((ids_BT.flatten()[: data.train_counts.tokens] == 0).sum()) == (
        data.train_counts.documents
    )


def steps_of(config):
    return [event for event in train(config, say=quiet) if isinstance(event, events.Step)]


def test_training_takes_the_stream_in_order(small_corpus, tmp_path):
    """The first loss is that of the first blocks, whatever preflight looked at before."""
    config = streaming_config(small_corpus, tmp_path, grad_accumulation_steps=2, dropout=0.0)
    whole = list(train(config, say=quiet))
    preflight, first = (
        next(event for event in whole if isinstance(event, kind))
        for kind in (events.Preflight, events.Step)
    )
    data = prepare(config, quiet)
    assert preflight.train_tokens == data.train_counts.tokens
    other = streaming_config(small_corpus, tmp_path, micro_batch_size=8, name="whole-batches")
    at_once = list(train(other, say=quiet))
    losses = [
        [event.loss for event in run if isinstance(event, events.Step)] for run in (whole, at_once)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5), "micro-batches are one batch, in order"
    micro = next(event for event in at_once if isinstance(event, events.Preflight))
    assert micro.first_loss == pytest.approx(first.loss, rel=1e-5)
    # After n steps of 8 blocks the stream stands at block 8n.
    data.train.batch(8 * 12)
    state = checkpoint.load_state(config.run_path / "checkpoints" / "last")
    assert state["blocks"] == data.train.state_dict()


def test_a_run_that_was_left_goes_on_with_the_same_losses(small_corpus, tmp_path):
    expected = [event.loss for event in steps_of(streaming_config(small_corpus, tmp_path))]
    config, losses = streaming_config(small_corpus, tmp_path, name="left"), []
    for stop in (5, 4, 99):
        run = train(config, say=quiet)
        for event in run:
            if isinstance(event, events.Step):
                losses.append(event.loss)
                stop -= 1
                if not stop:
                    run.close()
    assert losses == expected


def test_a_run_does_not_change_from_shards_to_streaming(small_corpus, tmp_path):
    steps_of(tiny_config(small_corpus, tmp_path, max_steps=1))
    with pytest.raises(UserError, match=r"other settings .*blocks: shards -> streaming"):
        steps_of(streaming_config(small_corpus, tmp_path, max_steps=1))
