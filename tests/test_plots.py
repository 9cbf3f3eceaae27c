import pytest

from conftest import tiny_config
from wikigpt.errors import UserError
from wikigpt.evaluation.syntax import Accuracy
from wikigpt.plots import plot_board, plot_run, plot_runs, plot_syntax, whiskers
from wikigpt.training import train
from wikigpt.training.logging import read_metrics


def test_a_run_is_drawn_from_its_folder(tiny, tmp_path):
    list(train(tiny, say=lambda _: None))
    figure = plot_run(tiny.run_path, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    training, validation = figure.axes[0].lines
    records = read_metrics(tiny.run_path)
    assert list(training.get_ydata()) == [
        r["bits_per_byte"] for r in records if r["kind"] == "step"
    ]
    scores = [r["bits_per_byte"] for r in records if r["kind"] == "evaluation"]
    assert list(validation.get_ydata()) == scores
    assert list(validation.get_xdata()) == pytest.approx([4 * 128e-6, 8 * 128e-6, 12 * 128e-6])


def test_runs_are_compared(tiny, small_corpus, tmp_path):
    other = tiny_config(small_corpus, tmp_path, name="other", learning_rate=3e-2)
    for config in (tiny, other):
        list(train(config, say=lambda _: None))
    figure = plot_runs([tiny.run_path, other.run_path])
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert [label.split(":")[0] for label in labels] == ["tiny", "other"]


def test_a_folder_without_a_run_is_told(tmp_path):
    with pytest.raises(UserError, match="no metrics yet"):
        plot_run(tmp_path)


def test_a_run_of_masked_tokens_is_told(small_corpus, tmp_path):
    config = tiny_config(small_corpus, tmp_path, objective="mlm", engine="trainer", max_steps=2)
    list(train(config, say=lambda _: None))
    with pytest.raises(UserError, match="guesses masked tokens"):
        plot_run(config.run_path)


def test_whiskers_reach_from_the_value_to_the_ends():
    assert whiskers([0.5, 0.0, 1.0], [(0.25, 1.0), (1e-17, 0.5), (0.5, 1 - 1e-16)]) == [
        [0.25, 0, 0.5], [0.5, 0.5, 0]
    ]  # fmt: skip


def test_grammar_of_few_pairs_is_drawn():
    """At 0 of 3, the lower end of the interval is rounded to above 0."""
    figure = plot_syntax({"a": [Accuracy("elision", 3, 0)], "b": [Accuracy("elision", 3, 3)]})
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["elision"]


def test_a_board_is_drawn_with_holes_in_it(tmp_path):
    board = {
        "plain": {"equal text": [3.0, 3.2], "equal seconds": [4.0]},
        "better": {"equal seconds": [2.0, 2.2, 2.4]},
    }
    figure = plot_board(board, tmp_path / "board.png")
    assert (tmp_path / "board.png").read_bytes().startswith(b"\x89PNG")
    text, seconds = figure.axes
    assert [ax.get_title() for ax in figure.axes] == ["equal text", "equal seconds"]
    assert [tick.get_text() for tick in text.get_yticklabels()] == ["plain", "better"]
    assert [note.get_text() for note in text.texts] == ["3.100"]
    assert [note.get_text() for note in seconds.texts] == ["4.000", "2.200"]
    # A bar reaches one standard deviation either way; of one seed there is none.
    reach = [container.lines[2][0].get_segments()[0][:, 0] for container in seconds.containers]
    assert [pytest.approx(ends) for ends in reach] == [[4.0, 4.0], [2.0, 2.4]]
    bottom, top = text.get_ylim()
    assert bottom > top, "the first recipe is on top"


def test_an_empty_board_is_told():
    with pytest.raises(UserError, match="no runs yet"):
        plot_board({})
