"""The real `huggingface_hub` client against a stand-in for the hub."""

import hashlib
import json
import random
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import huggingface_hub.file_download
import huggingface_hub.utils._http
import pytest

from fake_hub import REVISION, FakeHub
from fake_kaggle import zip_of
from stand_in import Fault, forget_credentials
from wikigpt.config import Config, load_config
from wikigpt.corpus import transfer
from wikigpt.corpus.download import raw_files
from wikigpt.errors import UserError


def parquet(name: str) -> bytes:
    """What the downloader knows of the format: its mark at both ends."""
    return b"PAR1" + random.Random(name).randbytes(400_000) + b"PAR1"


PLAIN = {
    f"20231101.{language}/train-{shard:05d}-of-00003.parquet": parquet(f"{language}{shard}")
    for language in ("en", "fr")
    for shard in range(3)
}
STRUCTURED = {
    "20240916.fr/frwiki_namespace_0.zip": zip_of({"frwiki_namespace_0_0.jsonl": b'{"a": 1}\n'})
}
FIRST = "20231101.fr/train-00000-of-00003.parquet"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    forget_credentials(monkeypatch, tmp_path / "home")
    server = FakeHub(
        {"wikimedia/wikipedia": {"README.md": b"# Card", **PLAIN},
         "wikimedia/structured-wikipedia": STRUCTURED}
    )  # fmt: skip
    # The client reads its environment when it is first imported, which transformers did long ago.
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in {
        "ENDPOINT": server.url, "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HUB_DISABLE_XET": True, "HF_HUB_OFFLINE": False,
        "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_DOWNLOAD_TIMEOUT": 1,
        "HF_HUB_ETAG_TIMEOUT": 1, "DOWNLOAD_CHUNK_SIZE": 10_000,
    }.items():  # fmt: skip
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    yield server
    server.close()


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The seconds that we or the client would have waited between attempts."""
    seconds: list[float] = []
    clock = SimpleNamespace(sleep=seconds.append)
    monkeypatch.setattr(transfer, "time", clock)
    monkeypatch.setattr(huggingface_hub.file_download, "time", clock)
    monkeypatch.setattr(huggingface_hub.utils._http, "time", SimpleNamespace(
        sleep=seconds.append, time=lambda: 0.0))  # fmt: skip
    return seconds


def config_of(folder: Path, **overrides: object) -> Config:
    return load_config(source="hub", data_dir=str(folder / "data"), **overrides)


def fails(config: Config) -> str:
    with pytest.raises(UserError) as error:
        raw_files(config)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_plain_wikipedia_arrives_with_its_revision(hub, tmp_path):
    found = raw_files(config_of(tmp_path))
    assert [path.name for path in found] == [f"train-0000{n}-of-00003.parquet" for n in range(3)]
    for path, digest in found.items():
        data = PLAIN[f"20231101.fr/{path.name}"]
        assert path.read_bytes() == data
        assert digest == hashlib.sha256(data).hexdigest()
    (manifest,) = tmp_path.rglob("manifest.json")
    manifest = json.loads(manifest.read_text(encoding="utf-8"))
    assert (manifest["version"], manifest["license"]) == (REVISION, "cc-by-sa-3.0, gfdl")
    before = len(hub.requests)
    assert raw_files(config_of(tmp_path)) == found
    assert len(hub.requests) == before


def test_the_structured_one_and_a_part(hub, tmp_path):
    structured = config_of(tmp_path, dataset="wikimedia/structured-wikipedia")
    assert [path.name for path in raw_files(structured)] == ["frwiki_namespace_0.zip"]
    assert [path.name[:11] for path in raw_files(config_of(tmp_path, max_files=1))] == [
        "train-00001"
    ]
    assert "it has en, fr." in fails(config_of(tmp_path, language="de"))


def test_a_dropped_connection_is_gone_on_with(hub, tmp_path, waits):
    hub.faults["file"] += [Fault(cut_after=100_000)]
    (path,) = raw_files(config_of(tmp_path, max_files=1))
    assert path.read_bytes() == PLAIN["20231101.fr/train-00001-of-00003.parquet"]
    first, rest = hub.ranges()
    assert first is None and rest.startswith("bytes=")
    assert 90_000 <= int(rest.removeprefix("bytes=").removesuffix("-")) <= 100_000


@pytest.mark.parametrize("where", ["info", "file"])
@pytest.mark.parametrize("status", [429, 500])
def test_busy_and_broken_servers_are_waited_for(hub, tmp_path, waits, where, status):
    hub.faults[where] += [Fault(status=status)] * 2
    assert len(raw_files(config_of(tmp_path, max_files=1))) == 1
    assert len(waits) == 2


@pytest.mark.parametrize("where", ["info", "file"])
def test_a_stalled_server_is_left_after_a_time(hub, tmp_path, waits, monkeypatch, where):
    hub.faults[where] += [Fault(stall=True)]
    monkeypatch.setattr(transfer, "TIMEOUT", 0.3)
    assert len(raw_files(config_of(tmp_path, max_files=1))) == 1


def test_a_corrupted_file_is_fetched_again_and_then_told(hub, tmp_path):
    hub.faults["file"] += [Fault(corrupt=True)]
    (path,) = raw_files(config_of(tmp_path, max_files=1))
    assert path.read_bytes() == PLAIN["20231101.fr/train-00001-of-00003.parquet"]
    hub.faults["file"] += [Fault(corrupt=True)] * 3
    says = fails(config_of(tmp_path, max_files=1, language="en"))
    assert "arrived damaged 3 times (its SHA256 is not the one announced)" in says
    assert not list(tmp_path.rglob("data/raw/hub/*/latest/en/**/*.parquet"))


def test_what_is_gated_missing_or_refused_is_told(hub, tmp_path):
    hub.gated.add("wikimedia/wikipedia")
    says = fails(config_of(tmp_path))
    assert "is gated: log in, accept its terms at https://huggingface.co/datasets/" in says
    assert "~/.cache/huggingface/token" in says
    assert "no dataset no/such, or it is private" in fails(config_of(tmp_path, dataset="no/such"))
    says = fails(config_of(tmp_path, dataset="wikimedia/structured-wikipedia", version="v9"))
    assert "no such revision" in says
    assert "no name of a dataset" in fails(config_of(tmp_path, dataset="a--b/c"))
    hub.faults["info"] += [Fault(status=401)]
    assert "HTTP 401" in fails(config_of(tmp_path, dataset="wikimedia/structured-wikipedia"))
    hub.faults["info"] += [Fault(page=b"<html>Please log in</html>")]
    says = fails(config_of(tmp_path, dataset="wikimedia/structured-wikipedia"))
    assert "is there a login page between you and the internet?" in says


def test_offline_is_told(hub, tmp_path, waits, monkeypatch):
    hub.close()
    assert "check that you are online" in fails(config_of(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in fails(config_of(tmp_path))
