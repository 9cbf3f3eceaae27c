"""Wikipedia from the Hugging Face hub, with the hub's own client.

`wikimedia/wikipedia` (plain text, 20231101) and `wikimedia/structured-wikipedia` need no account.
`hf_hub_download` goes on with a dropped file by itself, but starts a file over in a new process
(its half files bear the process's name); finished files are never fetched twice. It compares sizes
only, so the SHA-256 that the hub lists for large files is compared here.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

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
        for attempt in range(TRIES):
            download = partial(
                self._download, name=name, version=version, folder=folder, again=attempt > 0
            )
            path = self._call(download)
            wrong = what_is_wrong(path, name, digest)
            if wrong is None:
                return path
            path.unlink()
        raise UserError(
            f"{name} arrived damaged {TRIES} times ({wrong}) and was deleted; something between "
            "the Hugging Face hub and you may be changing it: try another network, or later."
        )

    def _download(self, api: Any, name: str, version: str, folder: Path, again: bool) -> Path:
        return Path(
            api.hf_hub_download(
                self.dataset, name, repo_type="dataset", revision=version, local_dir=folder,
                force_download=again,
            )
        )  # fmt: skip

    def _call(self, action: Callable[[Any], T]) -> T:
        import httpx2
        from huggingface_hub import constants, errors

        if constants.HF_HUB_OFFLINE:
            raise UserError("HF_HUB_OFFLINE is set, but the corpus is not here yet; unset it.")
        if self._api is None:
            self._connect(who.find(who.HUGGING_FACE, self._say))
        # The client reports a failed first request as a file that is not in its cache.
        passing = (httpx2.TransportError, errors.LocalEntryNotFoundError)
        try:
            return transfer.patiently(lambda: action(self._api), "The Hugging Face hub", passing)
        except errors.HFValidationError:
            problem = f"corpus.dataset {self.dataset!r} is no name of a dataset; write owner/name."
        except errors.RevisionNotFoundError:
            problem = f"{self.dataset} has no such revision on the hub; check corpus.version."
        except errors.GatedRepoError:
            if self._asked():
                return self._call(action)
            problem = (
                f"{self.dataset} is gated: log in, accept its terms at https://huggingface.co/"
                f"datasets/{self.dataset}, then {who.HUGGING_FACE.advice}."
            )
        except errors.RepositoryNotFoundError:
            problem = f"The hub has no dataset {self.dataset}, or it is private; check the name."
        except errors.HfHubHTTPError as error:
            status = error.response.status_code
            if status in (401, 403):
                if self._asked():
                    return self._call(action)
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
