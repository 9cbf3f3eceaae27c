"""The structured Wikipedia from Kaggle, one verified file at a time.

The whole dataset is one archive of 25 GB and more, of which French is a quarter: so files are
listed, chosen and fetched one by one, all of the version that the first one was of.
"""

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import requests

from wikigpt.corpus import credentials as who
from wikigpt.corpus.mirror import Listing, RemoteFile
from wikigpt.corpus.transfer import (
    NOT_AN_ANSWER,
    bytes_of,
    discard,
    not_understood,
    patiently,
)
from wikigpt.corpus.whole import what_is_wrong
from wikigpt.errors import UserError

DATASET = "wikimedia-foundation/wikipedia-structured-contents"
TRIES = 3
"""Times a file that arrives damaged is fetched."""

T = TypeVar("T")


class Kaggle:
    """A dataset on Kaggle; nothing goes over the network before it is asked for something."""

    def __init__(self, dataset: str, say: Callable[[str], None] = print) -> None:
        parts = dataset.split("/")
        if len(parts) != 2 or not all(parts):
            raise UserError(
                f"corpus.dataset {dataset!r} is no Kaggle dataset; write owner/name as in its "
                "address, without a version."
            )
        self.dataset = dataset
        self._say = say
        self._api = None
        self._credentials: who.Credentials | None = None

    def listing(self, version: str) -> Listing:
        """All files of a version; the newest if `version` is empty."""
        if version and not version.isdigit():
            raise UserError(f"corpus.version {version!r} is no Kaggle version; it is a number.")
        try:
            about = self._call(lambda api: api.describe(self.dataset))
            version = version or about.version
            files = self._call(lambda api: api.list_all(f"{self.dataset}/{version}"))
        except NOT_AN_ANSWER:
            raise not_understood("Kaggle", "https://www.kaggle.com") from None
        return Listing(version, about.license, {n: RemoteFile(size) for n, size in files.items()})

    def fetch(self, version: str, name: str, remote: RemoteFile, folder: Path) -> Path:
        """Fetch one file; what Kaggle serves as a zip archive is left as one.

        Raises:
            UserError: no credentials, no such file, no connection, or damaged every time.
        """
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        for _ in range(TRIES):
            download = self._call(
                lambda api: api.fetch(f"{self.dataset}/{version}", name, partial),
                lambda: bytes_of(partial),
            )
            is_new_zip = download.is_zipped and not name.endswith(".zip")
            final = target.with_name(f"{target.name}.zip") if is_new_zip else target
            wrong = what_is_wrong(partial, final.name, _announced_digest(download.headers))
            if wrong is None:
                partial.replace(final)
                discard(partial)
                return final
            discard(partial)
        raise UserError(
            f"{name} arrived damaged {TRIES} times ({wrong}) and was deleted; something between "
            "Kaggle and you may be changing it: try another network, or later."
        )

    def _call(self, action: Callable[..., T], progress: Callable[[], int] = lambda: 0) -> T:
        if self._api is None:
            self._connect(who.find(who.KAGGLE, self._say))
        try:
            return patiently(lambda: action(self._api), "Kaggle", progress=progress)
        except requests.HTTPError as error:
            status = error.response.status_code
        if status in (401, 403):
            if self._credentials is None and (asked := who.ask(who.KAGGLE)):
                self._connect(asked)
                return self._call(action, progress)
            raise who.refused(who.KAGGLE, self._credentials, status)
        if status == 404:
            raise UserError(
                f"Kaggle has no dataset {self.dataset}, or not this version or file of it (HTTP "
                "404); check corpus.dataset and corpus.version."
            )
        raise UserError(f"Kaggle refused the request (HTTP {status}); try again later.")

    def _connect(self, credentials: who.Credentials | None) -> None:
        from wikigpt.corpus.kaggle_client import PatientKaggleApi

        who.hide_signatures_in_logs()
        self._credentials = credentials
        self._api = PatientKaggleApi(credentials)


def _announced_digest(headers: Mapping[str, str]) -> tuple[str, str] | None:
    """The MD5 in `x-goog-hash: crc32c=…,md5=…`, where there is one."""
    for part in headers.get("x-goog-hash", "").split(","):
        kind, _, value = part.strip().partition("=")
        if kind == "md5":
            return "md5", base64.b64decode(value).hex()
    return None
