"""The `kaggle` package's own client, with what it lacks. Import this module only to use it.

What the package (2.2.4) does, and what is done about it here:

- Its import logs in: with a token it makes a network call that can hang, without one it prints a
  page of help, and either way it makes a settings folder. So it is imported with an empty home.
- It never times out. Its session is replaced by one that does.
- With VERBOSE set it prints the Authorization header and the body. It is built without that.
- An invalid token file is skipped when it logs in, and sent all the same. Our session sends the
  credentials we found, or none.
- It refreshes the token of `kaggle auth login` half an hour after that expired, and rewrites the
  file, which an interruption leaves cut short. We ask for a token of our own, and write nothing.
- Its `download_file` resumes well, but waits five minutes for a stalled server, knows no 429, and
  verifies nothing. It is replaced by `transfer.save`; the way to the file (API, redirect, signed
  address) stays the client's.
"""

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from wikigpt.corpus import transfer
from wikigpt.corpus.credentials import Credentials


@contextlib.contextmanager
def _nobody_at_home() -> Iterator[None]:
    """An environment without credentials and with an empty home; what is printed is dropped."""
    telling = ("KAGGLE_", "VERBOSE", "XDG_CONFIG_HOME")
    hidden = [name for name in os.environ if name.startswith(telling)] + ["HOME", "USERPROFILE"]
    before = {name: os.environ.pop(name, None) for name in hidden}
    with tempfile.TemporaryDirectory() as empty:
        os.environ.update(HOME=empty, USERPROFILE=empty)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                yield
        finally:
            del os.environ["HOME"], os.environ["USERPROFILE"]
            os.environ.update({name: value for name, value in before.items() if value is not None})


with _nobody_at_home():
    from kaggle.api.kaggle_api_extended import KaggleApi
    from kagglesdk import KaggleClient, KaggleCredentials
    from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest
    from kagglesdk.kaggle_env import get_env


class _WithTimeout(HTTPAdapter):
    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        options["timeout"] = transfer.TIMEOUT
        return super().send(request, **options)


class _Bearer(requests.auth.AuthBase):
    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


@dataclass(frozen=True)
class Dataset:
    version: str
    license: str


@dataclass(frozen=True)
class Download:
    headers: Mapping[str, str]
    is_zipped: bool
    """Kaggle serves what compresses well as `<name>.zip`."""


class PatientKaggleApi(KaggleApi):
    """Raises what `requests` raises; patience is up to the caller."""

    def __init__(self, credentials: Credentials | None) -> None:
        super().__init__()
        self._session = requests.Session()
        self._session.headers.update(
            {"User-Agent": "wikigpt", "Content-Type": "application/json",
             "Accept-Encoding": "identity"}
        )  # fmt: skip
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _WithTimeout())
        if credentials and credentials.token:
            self._session.auth = _Bearer(credentials.token)
        elif credentials and credentials.user:
            self._session.auth = (credentials.user, credentials.key)
        self._refresh_token = credentials.refresh_token if credentials else ""

    def describe(self, dataset: str) -> Dataset:
        """The newest version of `owner/name`, and its licence."""
        request = ApiGetDatasetRequest()
        request.owner_slug, request.dataset_slug = dataset.split("/")
        with self.build_kaggle_client() as client:
            answer = client.datasets.dataset_api_client.get_dataset(request)
        return Dataset(str(answer.current_version_number), answer.license_name)

    def list_all(self, dataset: str) -> dict[str, int]:
        """All files of `owner/name/version`: name -> bytes."""
        files, token = {}, None
        while True:
            page = self.dataset_list_files(dataset, page_token=token, page_size=200)
            files |= {file.name: file.total_bytes for file in page.dataset_files}
            if not page.next_page_token or page.next_page_token == token:
                return files
            token = page.next_page_token

    def fetch(self, dataset: str, name: str, partial: Path) -> Download:
        """One file of `owner/name/version` into `partial`, from where that one ends."""
        self._partial = partial
        with contextlib.redirect_stdout(io.StringIO()):  # it prints the dataset's address
            self.dataset_download_file(dataset, name, path=str(partial.parent))
        return self._download

    # What the client calls on the way, put differently:

    def build_kaggle_client(self) -> KaggleClient:
        client = KaggleClient(env=get_env(), verbose=False)
        client.http_client()._session = self._session
        if self._refresh_token and not self._session.auth:
            login = KaggleCredentials(client, self._refresh_token)
            self._session.auth = _Bearer(login.generate_access_token().token)
        return client

    def download_needed(self, response: requests.Response, outfile: str, quiet: bool = True):
        return True

    def download_file(self, response: requests.Response, outfile: str, *_: Any, **__: Any) -> None:
        served_as = Path(outfile).name
        headers = transfer.save(response, self._partial, served_as)
        self._download = Download(headers, served_as.endswith(".zip"))
