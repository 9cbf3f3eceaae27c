"""A stand-in for the Hugging Face hub, for the real `huggingface_hub` client.

As with the real one, a large file is answered with a redirect to a signed address on another port,
which must never see the caller's token; a small one is sent as it is.
"""

import hashlib
import re
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from fake_kaggle import SIGNATURE, Store
from stand_in import Fault, Request, StandIn

REVISION = "b04c8d1ceb2f5cd4588862100d08de323dccfbaa"


class FakeHub(StandIn):
    """Dataset repositories, as {repository: {path: bytes}}.

    Faults are queued under "info", "head" and "file" (the HEAD and the GET of a file's address on
    the hub) and "store" (the GET of a large file's content).
    """

    def __init__(self, repositories: Mapping[str, Mapping[str, bytes]]) -> None:
        self.repositories = repositories
        self.gated: set[str] = set()
        self.token: str | None = None
        """What opens the gated ones."""
        self.renamed: dict[str, str] = {}
        """Old name -> new name; the old one is answered with a relative redirect."""
        self.redirects = True
        """False: large files are sent by the hub itself, as a mirror may do."""
        self.store = Store({})
        self.store.with_md5 = False
        super().__init__()

    def close(self) -> None:
        self.store.close()
        super().close()

    def fail(self, where: str, *faults: Fault) -> None:
        (self.store if where == "store" else self).faults[where] += faults

    def contents(self) -> list[Request]:
        """Every request for a large file's content, in order."""
        own = [r for r in self.requests if r.method == "GET" and "/resolve/" in r.path]
        return self.store.requests if self.redirects else own

    def ranges(self) -> list[str | None]:
        """Their Range headers."""
        return [request.headers.get("range") for request in self.contents()]

    def answer(self, request: Request, handler: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        place = re.fullmatch(
            r"/(api/)?datasets/([\w.-]+/[\w.-]+)(?:/(revision|resolve)/([^/]+)(?:/(.+))?)?",
            path,
        )
        if not place:
            self._error(handler, 404, "EntryNotFound", "not here")
            return
        _, repository, what, revision, rest = place.groups()
        where = "info" if what != "resolve" else "head" if request.method == "HEAD" else "file"
        fault = self.next_fault(where)
        if self.went_wrong(handler, fault):
            return
        if new := self.renamed.get(repository):
            address = request.path.replace(repository, new, 1)
            self.send(handler, 307, b"", {"Location": address})
            return
        authorization = request.headers.get("authorization")
        is_open = repository not in self.gated or (
            self.token is not None and authorization == f"Bearer {self.token}"
        )
        files = self.repositories.get(repository)
        if files is None:
            self._error(handler, 404, "RepoNotFound", "Repository not found")
        elif not is_open:
            self._error(handler, 403, "GatedRepo", "Access to this dataset is restricted")
        elif revision not in (None, "main", REVISION):
            self._error(handler, 404, "RevisionNotFound", "Revision not found")
        elif what == "resolve" and rest in files:
            self._send_or_redirect(request, handler, rest, files[rest], fault)
        elif what == "resolve":
            self._error(handler, 404, "EntryNotFound", "Entry not found")
        else:
            about = {"id": repository, "sha": REVISION, "private": False, "tags": []}
            card = {"license": ["cc-by-sa-3.0", "gfdl"]}
            siblings = [_entry(name, data) for name, data in files.items()]
            self.send_json(handler, {**about, "cardData": card, "siblings": siblings})

    def _send_or_redirect(
        self, request: Request, handler: BaseHTTPRequestHandler, name: str, data: bytes,
        fault: Fault | None,
    ) -> None:  # fmt: skip
        digest = hashlib.sha256(data).hexdigest()
        headers = {"X-Repo-Commit": REVISION}
        if not (self.redirects and _is_large(name)):
            self.send_file(request, handler, data, f'"{digest}"', headers, fault)
            return
        self.store.objects[digest] = data
        headers |= {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(data))}
        headers["Location"] = f"{self.store.url}/{digest}?X-Amz-Signature={SIGNATURE}"
        self.send(handler, 302, b"", headers)

    def _error(self, handler: BaseHTTPRequestHandler, status: int, code: str, text: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": text}
        self.send_json(handler, {"error": text}, status, headers)


def _is_large(name: str) -> bool:
    return name.endswith((".parquet", ".zip"))


def _entry(name: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"rfilename": name, "size": len(data)}
    entry["blobId"] = hashlib.sha1(data).hexdigest()
    if _is_large(name):
        digest = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 134}
    return entry
