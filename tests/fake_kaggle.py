"""A stand-in for Kaggle, for the real `kaggle` client: an API, and an object store on another port.

As with the real one, a download is answered with a redirect to a signed address of the store, and
the store must never see the caller's credentials.
"""

import base64
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from urllib.parse import quote, unquote, urlsplit

from stand_in import Fault, Request, StandIn

DATASET = "wikimedia-foundation/wikipedia-structured-contents"
SIGNATURE = "S1GNED0123456789"


class Store(StandIn):
    """Objects by path. Faults are queued under "store"."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects
        self.with_md5 = True
        super().__init__()

    def answer(self, request: Request, handler: BaseHTTPRequestHandler) -> None:
        fault = self.next_fault("store")
        if self.went_wrong(handler, fault):
            return
        data = self.objects.get(unquote(urlsplit(request.path).path).lstrip("/"))
        if data is None:
            self.send(handler, 404)
            return
        digest = hashlib.md5(data).digest()
        headers = {}
        if self.with_md5:
            md5 = base64.b64encode(digest).decode()
            headers["x-goog-hash"] = f"crc32c=AAAAAA==,md5={md5}"
        self.send_file(request, handler, data, f'"{digest.hex()}"', headers, fault)


class FakeKaggle(StandIn):
    """The API. Faults are queued under the name of the call, such as "DownloadDataset"."""

    def __init__(
        self, files: Mapping[str, bytes], token: str = "KGAT_right", user: str = "alice",
        key: str = "k3y", needs_account: bool = False, refresh_token: str = "r3fresh",
    ) -> None:  # fmt: skip
        self.files = dict(files)
        self.version = 7
        self.page = 20
        """Most files that one answer of the listing holds, whatever page size was asked for."""
        self.zipped: set[str] = set()
        """Files that are served as `<name>.zip`, as Kaggle does with what compresses well."""
        self.needs_account = needs_account
        pair = base64.b64encode(f"{user}:{key}".encode()).decode()
        self.accepted = {f"Bearer {token}", f"Basic {pair}"}
        self.tokens = {refresh_token: token}
        """What `kaggle auth login` left behind -> the token that it is good for."""
        self.store = Store({})
        super().__init__()

    def environment(self) -> dict[str, str]:
        """The variables that lead a Kaggle client here instead of to Kaggle."""
        return {
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST", "HTTP_PROXY": self.url, "http_proxy": self.url,
            "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
        }  # fmt: skip

    def close(self) -> None:
        self.store.close()
        super().close()

    @property
    def total_requests(self) -> int:
        return len(self.requests) + len(self.store.requests)

    def fail(self, where: str, *faults: Fault) -> None:
        (self.store if where == "store" else self).faults[where] += faults

    def ranges(self) -> list[str | None]:
        """What the store was asked for, in order: the Range header of every GET."""
        return [request.headers.get("range") for request in self.store.requests]

    def answer(self, request: Request, handler: BaseHTTPRequestHandler) -> None:
        if request.path.startswith(self.store.url):  # we are the client's proxy, too
            self.requests.remove(request)
            self.store.requests.append(request)
            self.store.answer(request, handler)
            return
        call = re.fullmatch(r"/api/v1/[\w.]+/(\w+)", urlsplit(request.path).path)
        name = call[1] if call else ""
        if self.went_wrong(handler, self.next_fault(name)):
            return
        authorization = request.headers.get("authorization")
        if name == "GenerateAccessToken":
            self._give_token(json.loads(request.body), handler)
            return
        if (authorization or self.needs_account) and authorization not in self.accepted:
            self._error(handler, 401, "Unauthenticated")
            return
        body = json.loads(request.body or b"{}")
        if f"{body.get('ownerSlug')}/{body.get('datasetSlug')}" != DATASET:
            self._error(handler, 404, "Dataset not found")
        elif body.get("datasetVersionNumber") not in (None, self.version):
            self._error(handler, 404, "Version not found")
        elif name == "GetDataset":
            about = {"currentVersionNumber": self.version, "licenseName": "CC BY-SA 4.0"}
            self.send_json(handler, {"ref": DATASET, **about})
        elif name == "ListDatasetFiles":
            self._list(body, handler)
        elif name == "DownloadDataset":
            self._redirect(body.get("fileName"), handler)
        else:
            self._error(handler, 404, f"no such call: {name}")

    def _give_token(self, body: dict, handler: BaseHTTPRequestHandler) -> None:
        token = self.tokens.get(body.get("refreshToken"))
        if token is None:
            self._error(handler, 401, "Unauthenticated")
        else:
            self.send_json(handler, {"token": token, "expiresIn": 43200, "userName": "alice"})

    def _error(self, handler: BaseHTTPRequestHandler, status: int, message: str) -> None:
        self.send_json(handler, {"code": status, "message": message}, status)

    def _list(self, body: dict, handler: BaseHTTPRequestHandler) -> None:
        start = int(body.get("pageToken") or 0)
        end = start + min(self.page, body.get("pageSize") or 20)
        files = [
            {"name": name, "ref": name, "totalBytes": len(data)}
            for name, data in list(self.files.items())[start:end]
        ]
        token = str(end) if end < len(self.files) else ""
        self.send_json(handler, {"datasetFiles": files, "nextPageToken": token})

    def _redirect(self, name: str | None, handler: BaseHTTPRequestHandler) -> None:
        if name not in self.files:
            self._error(handler, 404, f"File {name} not found")
            return
        data = self.files[name]
        if name in self.zipped:
            name, data = f"{name}.zip", zip_of({name.split("/")[-1]: data})
        self.store.objects[name] = data
        location = f"{self.store.url}/{quote(name)}?X-Goog-Signature={SIGNATURE}"
        self.send(handler, 302, b"", {"Location": location})


def zip_of(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0)), data)
    return buffer.getvalue()
