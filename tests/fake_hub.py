"""A stand-in for the Hugging Face hub, for the real `huggingface_hub` client."""

import hashlib
import re
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from stand_in import Request, StandIn

REVISION = "b04c8d1ceb2f5cd4588862100d08de323dccfbaa"


class FakeHub(StandIn):
    """Dataset repositories, as {repository: {path: bytes}}.

    Faults are queued under "info" and "file" (the GET of a file's content).
    """

    def __init__(self, repositories: Mapping[str, Mapping[str, bytes]]) -> None:
        self.repositories = repositories
        self.gated: set[str] = set()
        super().__init__()

    def ranges(self) -> list[str | None]:
        """The Range header of every request for a file's content, in order."""
        return [
            request.headers.get("range")
            for request in self.requests
            if request.method == "GET" and "/resolve/" in request.path
        ]

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
        where = "file" if what == "resolve" else "info"
        # A HEAD comes before each GET of a file; only the GET is to fail.
        fault = self.next_fault(where) if request.method == "GET" else None
        if self.went_wrong(handler, fault):
            return
        files = self.repositories.get(repository)
        if files is None:
            self._error(handler, 404, "RepoNotFound", "Repository not found")
        elif repository in self.gated:
            self._error(handler, 403, "GatedRepo", "Access to this dataset is restricted")
        elif revision not in (None, "main", REVISION):
            self._error(handler, 404, "RevisionNotFound", "Revision not found")
        elif what == "resolve" and rest in files:
            data = files[rest]
            etag = f'"{hashlib.sha256(data).hexdigest()}"'
            self.send_file(request, handler, data, etag, {"X-Repo-Commit": REVISION}, fault)
        elif what == "resolve":
            self._error(handler, 404, "EntryNotFound", "Entry not found")
        else:
            about = {"id": repository, "sha": REVISION, "private": False, "tags": []}
            card = {"license": ["cc-by-sa-3.0", "gfdl"]}
            siblings = [_entry(name, data) for name, data in files.items()]
            self.send_json(handler, {**about, "cardData": card, "siblings": siblings})

    def _error(self, handler: BaseHTTPRequestHandler, status: int, code: str, text: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": text}
        self.send_json(handler, {"error": text}, status, headers)


def _entry(name: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"rfilename": name, "size": len(data)}
    entry["blobId"] = hashlib.sha1(data).hexdigest()
    if name.endswith((".parquet", ".zip")):
        digest = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 134}
    return entry
