"""Errors that are meant for people."""


class UserError(Exception):
    """Something a user can put right: one sentence saying what is wrong and what to do.

    The command line prints the sentence without a traceback; a notebook shows it as the last line.
    """
