"""What a user's mistake looks like in a notebook; the command line's is in test_cli.py."""

from IPython.core.interactiveshell import InteractiveShell

ONE_LINE = """
from wikigpt.config import load_config
load_config(learning_rat=1)
"""


def test_a_notebook_shows_the_sentence_and_no_traceback(capsys):
    shell = InteractiveShell()
    assert not shell.run_cell(ONE_LINE).success
    shown = "".join(capsys.readouterr())
    assert shown.startswith("UserError: ") and "learning_rate" in shown
    assert shown.count("\n") == 1
    assert not shell.run_cell("1 / 0").success
    assert "Traceback" in "".join(capsys.readouterr()), "a defect still has one"
