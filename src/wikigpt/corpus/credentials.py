"""Who is asking: credentials for Kaggle and Hugging Face, found where people keep them.

Looked for, in this order: the environment, Colab's secrets, Kaggle's secrets, the files that the
services' own tools write. If there are none the request is made without an account, which public
data sets often allow; only when that is refused is a person asked, without echo.

Only the *place* is ever shown. A value lives in a `Credentials` object, whose repr hides it; it is
in no config (configs are saved with runs), in no message, and not put into the environment, where
child processes would inherit it. Rejected: a `token=` parameter, which ends up in saved notebooks.
"""

import getpass
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from wikigpt.errors import UserError


@dataclass(frozen=True)
class Credentials:
    """A token, or a user name and a key, or what a token can be had for."""

    source: str
    """Where they were found, in words."""
    token: str = field(default="", repr=False)
    user: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    """What `kaggle auth login` leaves: good for a token that lasts some hours."""

    def __post_init__(self) -> None:
        # Checked here because an HTTP library would quote the value in its complaint.
        for value in (self.token, self.user, self.key, self.refresh_token):
            if not re.fullmatch(r"[!-~]*", value):
                raise UserError(
                    f"The credentials found in {self.source} hold a space, a line break or a "
                    "letter that no token has; copy them again."
                )


@dataclass(frozen=True)
class Service:
    """Where one service's credentials can be, and how to get new ones."""

    name: str
    token_name: str
    """The environment variable, or the secret, that holds a token."""
    pair_names: tuple[str, str] | None
    """The same for a user name and a key."""
    files: Callable[[], list[Path]]
    advice: str
    """What to do to get credentials, as the rest of a sentence."""


def _kaggle_files() -> list[Path]:
    home = Path.home()
    settings = os.environ.get("KAGGLE_CONFIG_DIR")
    return [
        home / ".kaggle" / "access_token",
        home / ".kaggle" / "access_token.txt",
        *([Path(settings) / "kaggle.json"] if settings else []),
        home / ".kaggle" / "kaggle.json",
        home / ".config" / "kaggle" / "kaggle.json",
        home / ".kaggle" / "credentials.json",
    ]


def _hugging_face_files() -> list[Path]:
    folder = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    return [Path(os.environ.get("HF_TOKEN_PATH") or Path(folder) / "token")]


KAGGLE = Service(
    "Kaggle", "KAGGLE_API_TOKEN", ("KAGGLE_USERNAME", "KAGGLE_KEY"), _kaggle_files,
    "visit https://www.kaggle.com/settings, press “Create New Token”, and save the token as the "
    "file ~/.kaggle/access_token",
)  # fmt: skip
HUGGING_FACE = Service(
    "Hugging Face", "HF_TOKEN", None, _hugging_face_files,
    "visit https://huggingface.co/settings/tokens, press “Create new token”, and save the token as "
    "the file ~/.cache/huggingface/token",
)  # fmt: skip


def find(service: Service, say: Callable[[str], None] = print) -> Credentials | None:
    """The first credentials there are; says where they were found, never what they are.

    Raises:
        UserError: a credentials file is there and can't be understood.
    """
    for credentials in _candidates(service):
        say(f"{service.name} credentials: found in {credentials.source}")
        return credentials
    say(f"{service.name} credentials: none found, trying without an account")
    return None


def ask(service: Service) -> Credentials | None:
    """Ask a person for a token, if there is one to ask: in a terminal or an open notebook."""
    if not _somebody_is_there():
        return None
    print(f"{service.name} wants an account: {service.advice}, or paste it here.", file=sys.stderr)
    try:
        token = getpass.getpass(f"{service.name} token (not shown; empty to stop): ").strip()
    except (EOFError, NotImplementedError):  # the latter: a notebook that is run by a program
        return None
    return Credentials("what you typed", token=token) if token else None


def refused(service: Service, credentials: Credentials | None, status: int) -> UserError:
    """What to tell when the service answered 401 or 403."""
    if credentials:
        what = f"{service.name} refused the credentials found in {credentials.source}"
    else:
        what = f"{service.name} does not give this without an account, and no credentials are here"
    return UserError(f"{what} (HTTP {status}); {service.advice}.")


def _candidates(service: Service) -> Iterator[Credentials]:
    places = (
        ("the environment", os.environ.get),
        ("Colab's secrets", _colab_secret),
        ("Kaggle's secrets", _kaggle_secret),
    )
    for place, look_up in places:
        if token := (look_up(service.token_name) or "").strip():
            # Kaggle's own tools take a path here too.
            if place == "the environment" and _is_file(token):
                place, token = "the file that KAGGLE_API_TOKEN names", _read(Path(token), service)
            yield Credentials(place, token=token)
        if service.pair_names:
            user, key = ((look_up(name) or "").strip() for name in service.pair_names)
            if user and key:
                yield Credentials(place, user=user, key=key)
    for path in service.files():
        if path.is_file() and (text := _read(path, service)):
            place = path.as_posix().replace(Path.home().as_posix(), "~")
            if path.suffix != ".json":
                yield Credentials(place, token=text)
            elif path.name == "credentials.json":
                (refresh_token,) = _parse(text, place, service, "refresh_token")
                yield Credentials(place, refresh_token=refresh_token)
            else:
                user, key = _parse(text, place, service, "username", "key")
                yield Credentials(place, user=user, key=key)


def _is_file(value: str) -> bool:
    try:
        return Path(value).is_file()
    except (OSError, ValueError):
        return False


def _read(path: Path, service: Service) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()  # Windows likes to mark its files
    except (OSError, UnicodeDecodeError):
        raise UserError(
            f"The {service.name} credentials in {path.name} can't be read; {service.advice}."
        ) from None


def _parse(text: str, place: str, service: Service, *keys: str) -> list[str]:
    try:
        values = json.loads(text)
        found = [values[key].strip() for key in keys]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        found = [""]
    if not all(found):
        raise UserError(
            f"{place} does not hold {' and '.join(keys)} as {service.name} writes them; delete it, "
            f"{service.advice}."
        )
    return found


def _colab_secret(name: str) -> str | None:
    try:
        from google.colab import userdata
    except ImportError:
        return None
    try:
        return userdata.get(name)
    except Exception:  # there is no such secret, or this notebook may not see it
        return None


def _kaggle_secret(name: str) -> str | None:
    try:
        from kaggle_secrets import UserSecretsClient
    except ImportError:
        return None
    try:
        return UserSecretsClient().get_secret(name)
    except Exception:  # there is no such secret, or it is not attached to this notebook
        return None


def _somebody_is_there() -> bool:
    if "IPython" in sys.modules:
        shell = sys.modules["IPython"].get_ipython()
        if getattr(shell, "kernel", None) is not None:
            return True
    return sys.stdin is not None and sys.stdin.isatty()


def hide_signatures_in_logs() -> None:
    """Cut the query from addresses in the HTTP libraries' logs: storage addresses are signed there.

    A warning such as “connection dropped, retrying” reaches stderr even if nobody set up logging.
    """
    for name in (
        "urllib3.connectionpool", "urllib3.util.retry", "httpx2", "httpcore2.http11",
        "httpcore2.http2", "huggingface_hub.file_download",
        "huggingface_hub.utils._http",
    ):  # fmt: skip
        logging.getLogger(name).addFilter(_cut_queries)


def _cut_queries(record: logging.LogRecord) -> bool:
    record.msg = re.sub(r"([\w/.%-])\?[^\s\"']+", r"\1?…", record.getMessage())
    record.args = ()
    return True
