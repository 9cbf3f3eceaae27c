"""Errors that are meant for people."""


class UserError(Exception):
    """Something a user can put right: one sentence saying what is wrong and what to do.

    The command line and a notebook show the sentence, without a traceback.
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in the place of a traceback."""
        return [f"{type(self).__name__}: {self}"]
