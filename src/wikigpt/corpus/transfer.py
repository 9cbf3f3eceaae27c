"""HTTP that survives the network: time-outs, patience, and half a file that is gone on with.

A body is written to a partial file beside a note of what it is half of (the server's validator and
the size). It is gone on with, in this process or the next, only if the server still offers that
very object; otherwise it starts over, so two versions are never glued together.
"""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import requests
from tqdm import tqdm

from wikigpt.errors import UserError
from wikigpt.files import read_json, write_json

TIMEOUT = 60.0
"""Seconds of silence after which a server counts as stalled."""
ATTEMPTS = 6
"""Failures in a row, without a byte gained, after which we give up."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 120.0
"""Seconds between attempts: doubled each time, and never longer, whatever the server asks for."""
PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}
CHUNK = 1 << 16
DROPPED = (
    requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError,
)  # fmt: skip
"""What `requests` raises when the line is bad."""
NOT_AN_ANSWER = (ValueError, KeyError, TypeError, AttributeError)
"""What a service's client raises on an answer that is not the service's."""

T = TypeVar("T")


def patiently(
    action: Callable[[], T],
    who: str,
    passing: tuple[type[Exception], ...] = DROPPED,
    progress: Callable[[], int] = lambda: 0,
) -> T:
    """Do something over the network, again and again while its failures are of the passing kind.

    Args:
        who: the name of the service, for messages.
        passing: exceptions that are worth another attempt, beside those with a passing HTTP status.
        progress: bytes gained so far; whoever gains some is not giving up.

    Raises:
        UserError: it failed ATTEMPTS times in a row.
    """
    failures, reached = 0, progress()
    while True:
        try:
            return action()
        except (ImportError, requests.exceptions.InvalidSchema) as error:
            if "SOCKS" not in str(error):
                raise
            raise UserError(
                "ALL_PROXY or a variable like it names a SOCKS proxy, for which packages are "
                "missing: pip install pysocks socksio, or unset it."
            ) from None
        except Exception as error:
            reason = _passing_reason(error, passing)
            if reason is None:
                raise
            failures = 1 if progress() > reached else failures + 1
            reached = max(reached, progress())
            if failures == ATTEMPTS:
                raise UserError(
                    f"{who} could not be reached or broke off {ATTEMPTS} times in a row "
                    f"({reason}); check that you are online, and run the same command again: what "
                    "has arrived is kept."
                ) from None
            wait = _wait(error, failures)
            tqdm.write(f"{who}: {reason}; trying again in {wait:.0f} s", file=sys.stderr)
            time.sleep(wait)


def not_understood(who: str, page: str) -> UserError:
    return UserError(
        f"{who} sent an answer that can't be understood; is there a login page between you and the "
        f"internet? Open {page} in a browser, then try again."
    )


def save(response: requests.Response, partial: Path, name: str) -> Mapping[str, str]:
    """Write the body of an answer to `partial`, going on from the half that is there.

    Args:
        response: an answer to a request for the whole file, opened with `stream=True`.
        name: what to call the file in the progress bar.

    Returns:
        The headers the file came with.

    Raises:
        requests.RequestException: the line broke; what arrived is kept for the next attempt.
    """
    identity = _identity(response.headers)
    have = _usable_bytes(partial, identity)
    if have and have != identity["size"]:
        response, have = _ask_for_the_rest(response, have, identity)
        identity = identity if have else _identity(response.headers)
    with response:
        if have != identity["size"]:
            _write(response, partial, name, identity, have)
    return response.headers


def bytes_of(partial: Path) -> int:
    """How much has arrived."""
    return partial.stat().st_size if partial.exists() else 0


def as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """For `auth=`: send the headers as given. `requests` would put what `~/.netrc` says there."""
    return request


def note_of(partial: Path) -> Path:
    """The file that says what `partial` is half of."""
    return partial.with_name(partial.name + ".json")


def discard(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    note_of(partial).unlink(missing_ok=True)


def _ask_for_the_rest(
    response: requests.Response, have: int, identity: dict
) -> tuple[requests.Response, int]:
    """An answer with what is missing, and how much is not; (an answer with everything, 0) if the
    server can't do that, or the file changed meanwhile."""
    if response.request.method != "GET":  # an API call, not an address that can be asked again
        return response, 0
    response.close()
    # With the headers of the last address, from which a token for another host was taken away.
    asked = {"Range": f"bytes={have}-", "If-Range": identity["validator"]}
    response = requests.get(
        response.url, headers={**response.request.headers, **asked}, auth=as_it_is,
        stream=True, timeout=TIMEOUT,
    )  # fmt: skip
    response.raise_for_status()
    goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
    return response, have if response.status_code == 206 and goes_on else 0


def _write(
    response: requests.Response, partial: Path, name: str, identity: dict, have: int
) -> None:
    size = identity["size"]
    if not have:
        discard(partial)
        write_json(note_of(partial), identity)
    with (
        partial.open("ab") as file,
        tqdm(
            total=size, initial=have, desc=name, unit="B", unit_scale=True, mininterval=0.5
        ) as bar,
    ):
        for chunk in response.iter_content(CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
        arrived = file.tell()
    if size is not None and arrived < size:
        raise requests.ConnectionError("the connection was dropped")
    if size is not None and arrived > size:
        discard(partial)
        raise requests.ConnectionError("more arrived than was announced")


def _identity(headers: Mapping[str, str]) -> dict[str, str | int | None]:
    """What distinguishes this very object; a weak ETag does not, byte for byte."""
    etag = headers.get("ETag", "")
    validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
    packed_on_the_way = "Content-Encoding" in headers
    length = None if packed_on_the_way else headers.get("Content-Length")
    return {"validator": validator, "size": int(length) if length else None}


def _usable_bytes(partial: Path, identity: dict) -> int:
    """How much of the object is here already; 0 if it can't be proved to be the same object."""
    try:
        note = read_json(note_of(partial))
        have = partial.stat().st_size
    except (OSError, ValueError):
        return 0
    same = note == identity and identity["validator"] and identity["size"] is not None
    return have if same and have <= identity["size"] else 0


def _passing_reason(error: Exception, passing: tuple[type[Exception], ...]) -> str | None:
    """In words why another attempt may help, or None if it will not."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status in PASSING_STATUS:
        return f"HTTP {status}"
    if status == 403 and getattr(response, "history", None):
        return "the address of the file has expired"
    if not isinstance(error, passing):
        return None
    timed_out = "timed out" in str(error).lower() or "timeout" in type(error).__name__.lower()
    return "no answer in time" if timed_out else "the connection failed or was dropped"


def _wait(error: Exception, failures: int) -> float:
    """What the server asks for in seconds, else twice as long each time."""
    response = getattr(error, "response", None)
    asked = response.headers.get("Retry-After", "") if response is not None else ""
    wait = float(asked) if asked.isdigit() else FIRST_WAIT * 2 ** (failures - 1)
    return min(wait, LONGEST_WAIT)
