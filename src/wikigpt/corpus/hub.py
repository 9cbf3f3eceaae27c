"""Wikipedia from the Hugging Face hub: its own client finds the files, `transfer` fetches them.

`wikimedia/wikipedia` (plain text, 20231101) and `wikimedia/structured-wikipedia` need no account.
The client lists, and is asked about each file before we fetch it, so what is gated, missing or
refused is its verdict. The body comes with `transfer.save`, which goes on with half a file in the
next process, too. The token goes to the hub, never to the address that the hub redirects to.

Rejected: `hf_hub_download` (2.4). Its half files bear the process's name and the next process
deletes them, so a killed kernel starts 770 MB over; it compares sizes only, while the SHA-256 that
the hub lists for large files is compared here. The price is Xet, the hub's own protocol, which
fetches pieces in parallel: only the client speaks it, and the hub serves the same files over HTTP.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import requests

from wikigpt.corpus import credentials as who
from wikigpt.corpus import transfer
from wikigpt.corpus.mirror import Listing, RemoteFile
from wikigpt.corpus.whole import what_is_wrong
from wikigpt.errors import UserError

DATASET = "wikimedia/wikipedia"
TRIES = 3
"""Times a file that arrives damaged is fetched."""

T = TypeVar("T")


class Hub:
    """A dataset on the hub; nothing goes over the network before it is asked for something."""

    def __init__(self, dataset: str, say: Callable[[str], None] = print) -> None:
        self.dataset = dataset
        self._say = say
        self._api: Any = None
        self._credentials: who.Credentials | None = None

    def listing(self, version: str) -> Listing:
        """All files of a revision (branch, tag or commit); of `main` if `version` is empty."""
        # One call for all: the client's other listings wait for ever for a server that is silent.
        try:
            about = self._call(
                lambda api: api.dataset_info(
                    self.dataset, revision=version or None, files_metadata=True,
                    timeout=transfer.TIMEOUT,
                )
            )  # fmt: skip
        except transfer.NOT_AN_ANSWER:
            page = "https://huggingface.co"
            raise transfer.not_understood("The Hugging Face hub", page) from None
        licenses = getattr(about.card_data, "license", None) or "see the dataset's page"
        return Listing(
            about.sha,
            licenses if isinstance(licenses, str) else ", ".join(licenses),
            {
                file.rfilename: RemoteFile(file.size, file.lfs.sha256 if file.lfs else None)
                for file in about.siblings
            },
        )

    def fetch(self, version: str, name: str, remote: RemoteFile, folder: Path) -> Path:
        """Fetch one file.

        Raises:
            UserError: refused, no such file, no connection, or damaged every time.
        """
        digest = ("sha256", remote.sha256) if remote.sha256 else None
        target = folder / name
        if digest and target.is_file() and what_is_wrong(target, name, digest) is None:
            return target  # we were stopped before the manifest knew of it
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        for _ in range(TRIES):
            self._call(
                lambda api: self._download(api, name, version, partial),
                lambda: transfer.bytes_of(partial),
            )
            wrong = what_is_wrong(partial, name, digest)
            if wrong is None and partial.stat().st_size != remote.size:
                wrong = "its size is not the one listed"
            if wrong is None:
                partial.replace(target)
                transfer.discard(partial)
                return target
            transfer.discard(partial)
        raise UserError(
            f"{name} arrived damaged {TRIES} times ({wrong}) and was deleted; something between "
            "the Hugging Face hub and you may be changing it: try another network, or later."
        )

    def _download(self, api: Any, name: str, version: str, partial: Path) -> None:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers

        url = hf_hub_url(self.dataset, name, repo_type="dataset", revision=version)
        api.get_hf_file_metadata(url=url, timeout=transfer.TIMEOUT)  # raises the hub's own errors
        response = requests.get(
            url, headers={**build_hf_headers(token=api.token), "Accept-Encoding": "identity"},
            auth=transfer.as_it_is, stream=True, timeout=transfer.TIMEOUT,
        )  # fmt: skip
        response.raise_for_status()
        transfer.save(response, partial, Path(name).name)

    def _call(self, action: Callable[[Any], T], progress: Callable[[], int] = lambda: 0) -> T:
        import httpx2
        from huggingface_hub import constants, errors

        if constants.HF_HUB_OFFLINE:
            raise UserError("HF_HUB_OFFLINE is set, but the corpus is not here yet; unset it.")
        if self._api is None:
            self._connect(who.find(who.HUGGING_FACE, self._say))
        passing = (httpx2.TransportError, *transfer.DROPPED)
        try:
            return transfer.patiently(
                lambda: action(self._api), "The Hugging Face hub", passing, progress
            )
        except errors.HFValidationError:
            problem = f"corpus.dataset {self.dataset!r} is no name of a dataset; write owner/name."
        except errors.RevisionNotFoundError:
            problem = f"{self.dataset} has no such revision on the hub; check corpus.version."
        except errors.GatedRepoError:
            if self._asked():
                return self._call(action, progress)
            problem = (
                f"{self.dataset} is gated: log in, accept its terms at https://huggingface.co/"
                f"datasets/{self.dataset}, then {who.HUGGING_FACE.advice}."
            )
        except errors.RepositoryNotFoundError:
            problem = f"The hub has no dataset {self.dataset}, or it is private; check the name."
        except (errors.HfHubHTTPError, requests.HTTPError) as error:
            status = error.response.status_code
            if status in (401, 403):
                if self._asked():
                    return self._call(action, progress)
                raise who.refused(who.HUGGING_FACE, self._credentials, status) from None
            problem = f"The Hugging Face hub refused the request (HTTP {status}); try again later."
        raise UserError(problem)

    def _asked(self) -> bool:
        """Whether a person has just given the token that was missing."""
        if self._credentials is None and (asked := who.ask(who.HUGGING_FACE)):
            self._connect(asked)
            return True
        return False

    def _connect(self, credentials: who.Credentials | None) -> None:
        from huggingface_hub import HfApi

        who.hide_signatures_in_logs()
        self._credentials = credentials
        # False, not None: with None the client would look for a token by itself.
        self._api = HfApi(token=credentials.token if credentials else False)
