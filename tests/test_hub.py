"""The real `huggingface_hub` client against a stand-in for the hub."""

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
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
MIDDLE = "20231101.fr/train-00001-of-00003.parquet"
"""What `max_files=1` takes."""
CUT = 300_000
TOKEN = "hf_" + "dummy-token-4718"


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
        "HF_HUB_OFFLINE": False,
    }.items():  # fmt: skip
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    yield server
    server.close()


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The seconds that would have been waited between attempts."""
    seconds: list[float] = []
    monkeypatch.setattr(transfer, "time", SimpleNamespace(sleep=seconds.append))
    return seconds


@pytest.fixture
def one(hub, tmp_path) -> Config:
    """A corpus of one large file: whatever fails, fails on it."""
    return config_of(tmp_path, max_files=1)


def config_of(folder: Path, **overrides: object) -> Config:
    return load_config(source="hub", data_dir=str(folder / "data"), **overrides)


def fails(config: Config) -> str:
    with pytest.raises(UserError) as error:
        raw_files(config)
    assert "\n" not in str(error.value)
    return str(error.value)


def is_whole(config: Config, data: bytes = PLAIN[MIDDLE]) -> bool:
    (path,) = raw_files(config)
    assert path.parts[-2:] == tuple(MIDDLE.split("/"))
    assert {p.name for p in path.parents[1].rglob("*") if p.is_file()} == {
        path.name, "manifest.json",
    }  # fmt: skip
    return path.read_bytes() == data


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


def test_a_dropped_connection_is_gone_on_with(hub, one, waits):
    hub.fail("store", Fault(cut_after=CUT))
    assert is_whole(one)
    first, again, rest = hub.ranges()
    assert (first, again) == (None, None)  # the second asks the hub for a fresh address
    start = int(rest.removeprefix("bytes=").removesuffix("-"))
    assert CUT - transfer.CHUNK <= start <= CUT
    etag = f'"{hashlib.md5(PLAIN[MIDDLE]).hexdigest()}"'
    assert hub.contents()[-1].headers["if-range"] == etag
    assert waits == [1.0]


def test_many_drops_are_no_reason_to_give_up_while_bytes_arrive(hub, one, waits, monkeypatch):
    monkeypatch.setattr(transfer, "CHUNK", 10_000)
    for _ in range(2 * transfer.ATTEMPTS):
        # The first answer is given up for the rest of the file, which is dropped again.
        hub.fail("store", Fault(cut_after=20_000), Fault(cut_after=20_000))
    assert is_whole(one)
    assert waits == [1.0] * len(waits) and len(waits) > transfer.ATTEMPTS


def test_a_killed_process_is_gone_on_with(hub, one):
    hub.fail("store", Fault(cut_after=CUT, stall=True))
    code = (
        "from wikigpt.config import load_config; from wikigpt.corpus.download import raw_files; "
        f"raw_files(load_config(source='hub', max_files=1, data_dir={one.data_dir!r}))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "HF_ENDPOINT": hub.url},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (halves := [*Path(one.data_dir).rglob("*.partial")]) or (
        halves[0].stat().st_size < CUT - transfer.CHUNK
    ):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    have = halves[0].stat().st_size
    assert is_whole(one)
    assert hub.ranges() == [None, None, f"bytes={have}-"]


def test_half_a_file_of_another_revision_is_not_gone_on_with(hub, one, waits):
    hub.fail("store", Fault(cut_after=CUT), *[Fault(cut_after=0)] * 20)
    assert "broke off 6 times in a row" in fails(one)
    (half,) = Path(one.data_dir).rglob("*.partial")
    assert half.stat().st_size > CUT - transfer.CHUNK
    hub.store.faults.clear()
    new = parquet("new")
    assert len(new) == len(PLAIN[MIDDLE])
    hub.repositories["wikimedia/wikipedia"] |= {MIDDLE: new}
    before = len(hub.contents())
    assert is_whole(one, new)
    assert hub.ranges()[before:] == [None]


def test_a_server_that_ignores_ranges_does_no_harm(hub, one, waits):
    hub.store.ignore_range = True
    hub.fail("store", Fault(cut_after=CUT))
    assert is_whole(one)
    assert hub.ranges()[-1].startswith("bytes=")


def test_a_whole_file_that_the_manifest_does_not_know_is_kept(hub, one):
    assert is_whole(one)
    (manifest,) = Path(one.data_dir).rglob("manifest.json")
    manifest.unlink()
    assert is_whole(one)
    assert hub.ranges() == [None]


@pytest.fixture
def gated(hub, monkeypatch) -> FakeHub:
    """Only the token opens it."""
    hub.gated.add("wikimedia/wikipedia")
    hub.token = TOKEN
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


def saw_the_token(hub: FakeHub) -> bool:
    assert hub.requests
    return all(r.headers.get("authorization") == f"Bearer {TOKEN}" for r in hub.requests)


def test_the_token_goes_to_the_hub_and_nowhere_else(gated, one, waits, capsys):
    gated.fail("store", Fault(cut_after=CUT), Fault(status=503))
    assert is_whole(one)
    assert saw_the_token(gated)
    assert len(gated.store.requests) == 4
    assert TOKEN not in str(gated.store.requests)
    shown = capsys.readouterr()
    assert TOKEN not in shown.out + shown.err and "Signature" not in shown.out + shown.err


def test_a_netrc_file_does_not_replace_the_token(gated, one, tmp_path, waits):
    netrc = tmp_path / "home" / ".netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n", encoding="utf-8")
    gated.redirects = False
    gated.fail("file", Fault(cut_after=CUT))
    assert is_whole(one)
    assert saw_the_token(gated)


def test_a_renamed_dataset_and_a_mirror_that_sends_itself_go_on_too(gated, tmp_path, waits):
    """Relative redirects and none: the rest is asked of the hub, which wants the token again."""
    gated.redirects = False
    gated.renamed = {"old/name": "wikimedia/wikipedia"}
    for dataset, hops in (("old/name", 1), ("wikimedia/wikipedia", 0)):
        gated.fail("file", *[Fault()] * hops, Fault(cut_after=CUT))
        assert is_whole(config_of(tmp_path, dataset=dataset, max_files=1))
        assert gated.ranges()[-1].startswith("bytes=")
    assert saw_the_token(gated)
    assert gated.store.requests == []


@pytest.mark.parametrize("where", ["info", "head", "file", "store"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_and_broken_servers_are_waited_for(hub, one, waits, where, status):
    hub.fail(where, Fault(status=status), Fault(status=status, headers={"Retry-After": "7"}))
    assert is_whole(one)
    assert waits == [1, 7]


@pytest.mark.parametrize(
    ("where", "cut"),
    [("info", None), ("head", None), ("file", None), ("store", None), ("store", CUT)],
)
def test_a_stalled_server_is_left_after_a_time(hub, one, waits, monkeypatch, capsys, where, cut):
    monkeypatch.setattr(transfer, "TIMEOUT", 2)
    hub.fail(where, Fault(stall=True, cut_after=cut))
    assert is_whole(one)
    assert "The Hugging Face hub: no answer in time; trying again" in capsys.readouterr().err
    assert waits == [1.0]


def test_an_address_that_has_expired_is_asked_for_anew(hub, one, waits):
    hub.fail("store", Fault(status=403))
    assert is_whole(one)
    assert waits == [1.0]


def test_a_corrupted_file_is_fetched_again_and_then_told(hub, one, tmp_path):
    hub.fail("store", Fault(corrupt=True))
    assert is_whole(one)
    assert hub.ranges() == [None, None]
    hub.fail("store", *[Fault(corrupt=True)] * 3)
    says = fails(config_of(tmp_path, max_files=1, language="en"))
    assert "arrived damaged 3 times (its SHA256 is not the one announced)" in says
    english = tmp_path / "data" / "raw" / "hub" / "wikimedia--wikipedia" / "latest" / "en"
    assert [path for path in english.rglob("*") if path.is_file()] == []


def test_a_small_file_without_a_digest_has_the_size_that_was_listed(hub, one):
    name = "frwiki_namespace_0/frwiki_namespace_0_0.jsonl"
    data = b'{"name": "Pluie"}\n' * 9
    hub.repositories["wikimedia/wikipedia"] = {name: data}
    hub.fail("file", *[Fault(page=b'{"name": "Log in"}\n')] * 3)
    assert "arrived damaged 3 times (its size is not the one listed)" in fails(one)
    (path,) = raw_files(one)
    assert path.read_bytes() == data


def test_what_is_gated_missing_or_refused_is_told(hub, tmp_path):
    hub.gated.add("wikimedia/wikipedia")
    says = fails(config_of(tmp_path))
    assert "is gated: log in, accept its terms at https://huggingface.co/datasets/" in says
    assert "~/.cache/huggingface/token" in says
    assert "no dataset no/such, or it is private" in fails(config_of(tmp_path, dataset="no/such"))
    says = fails(config_of(tmp_path, dataset="wikimedia/structured-wikipedia", version="v9"))
    assert "no such revision" in says
    assert "no name of a dataset" in fails(config_of(tmp_path, dataset="a--b/c"))
    for where in ("info", "head", "file"):
        hub.fail(where, Fault(status=401))
        assert "HTTP 401" in fails(config_of(tmp_path, dataset="wikimedia/structured-wikipedia"))
    hub.fail("info", Fault(page=b"<html>Please log in</html>"))
    says = fails(config_of(tmp_path, dataset="wikimedia/structured-wikipedia"))
    assert "is there a login page between you and the internet?" in says


def test_what_was_gated_after_it_was_listed_is_told(hub, one, tmp_path):
    assert is_whole(one)
    hub.gated.add("wikimedia/wikipedia")
    assert "is gated: log in" in fails(config_of(tmp_path, max_files=2))


def test_offline_is_told(hub, tmp_path, waits, monkeypatch):
    hub.close()
    assert "check that you are online" in fails(config_of(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in fails(config_of(tmp_path))


DOWNLOAD = """
import sys
import huggingface_hub, requests
from wikigpt.config import load_config
from wikigpt.corpus.download import raw_files
print("ready", flush=True)
sys.stdin.readline()
print(*raw_files(load_config(source="hub", data_dir=sys.argv[1])).values())
"""


def test_processes_that_want_the_same_files_fetch_them_once(hub, tmp_path):
    """As under torchrun, or in two terminals."""
    hub.fail("store", *[Fault(cut_after=CUT)] * 3)  # none is done before the others begin
    command = [sys.executable, "-c", DOWNLOAD, str(tmp_path / "data")]
    env = os.environ | {"HF_ENDPOINT": hub.url}
    those = [
        subprocess.Popen(
            command,
            env=env,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]
    for process in those:
        assert process.stdout.readline() == "ready\n"
    for process in those:
        process.stdin.write("go\n")
        process.stdin.flush()
    outcomes = [process.communicate(timeout=120) for process in those]
    assert all(process.returncode == 0 for process in those), outcomes
    expected = [hashlib.sha256(d).hexdigest() for n, d in PLAIN.items() if ".fr/" in n]
    assert [out.splitlines()[-1].split() for out, _ in outcomes] == [expected] * 3
    assert len(hub.contents()) <= 3 + 3, "a request for each file, and one after each fault"


@pytest.mark.parametrize("source", ["hub", "kaggle"])
def test_a_socks_proxy_without_its_package_is_told(hub, monkeypatch, tmp_path, source):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    huggingface_hub.close_session()
    message = fails(load_config(source=source, data_dir=str(tmp_path / "data")))
    huggingface_hub.close_session()
    assert "names a SOCKS proxy" in message and "pip install" in message
