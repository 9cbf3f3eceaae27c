"""The real `kaggle` client against a stand-in for Kaggle that fails in every way it can."""

import hashlib
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from fake_kaggle import DATASET, FakeKaggle, zip_of
from stand_in import Fault, forget_credentials
from wikigpt.config import Config, load_config
from wikigpt.corpus import transfer
from wikigpt.corpus.download import raw_files
from wikigpt.errors import UserError

FIRST = "frwiki_namespace_0/frwiki_namespace_0_0.jsonl"
CUT = 300_000


def jsonl(name: str, size: int = 2_000) -> bytes:
    text = f"Texte de {name}, écrit en français. "
    lines, total, number = [], 0, 0
    while total < size:
        line = json.dumps({"name": f"{name} {number}", "abstract": text * 20}, ensure_ascii=False)
        lines.append(line.encode() + b"\n")
        total, number = total + len(lines[-1]), number + 1
    return b"".join(lines)


FILES = {
    f"{language}wiki_namespace_0/{language}wiki_namespace_0_{shard}.jsonl": jsonl(
        f"{language}{shard}", 1_000_000 if (language, shard) == ("fr", 0) else 2_000
    )
    for language in ("en", "fr")
    for shard in range(12)
}


@pytest.fixture
def kaggle(monkeypatch, tmp_path):
    forget_credentials(monkeypatch, tmp_path / "home")
    server = FakeKaggle(FILES)
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    yield server
    server.close()


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The seconds that would have been waited between attempts."""
    seconds: list[float] = []
    monkeypatch.setattr(transfer, "time", SimpleNamespace(sleep=seconds.append))
    return seconds


@pytest.fixture
def one(kaggle, tmp_path) -> Config:
    """A corpus of one file of 1 MB: whatever fails, fails on it."""
    kaggle.files = {FIRST: FILES[FIRST]}
    return config_of(tmp_path)


def config_of(folder: Path, **overrides: object) -> Config:
    return load_config(source="kaggle", data_dir=str(folder / "data"), **overrides)


def fails(config: Config) -> str:
    with pytest.raises(UserError) as error:
        raw_files(config)
    assert "\n" not in str(error.value)
    return str(error.value)


def only_file(config: Config) -> Path:
    (path,) = raw_files(config)
    return path


def is_whole(config: Config) -> bool:
    path = only_file(config)
    assert not [p for p in path.parent.iterdir() if "partial" in p.name]
    return path.read_bytes() == FILES[FIRST]


def test_the_files_of_a_language_arrive_with_a_manifest(kaggle, tmp_path, capsys):
    found = raw_files(config_of(tmp_path))
    shown = capsys.readouterr()
    assert "frwiki_namespace_0_11.jsonl: 100%" in shown.err
    assert [line.split(" (")[0] for line in shown.out.splitlines()] == [
        "Kaggle credentials: none found, trying without an account",
        f"Downloading 12 of 12 files of {DATASET}",
    ]
    assert [path.name for path in found] == [f"frwiki_namespace_0_{n}.jsonl" for n in range(12)]
    folder = tmp_path / "data" / "raw" / "kaggle" / DATASET.replace("/", "--") / "latest" / "fr"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["dataset"] == DATASET
    assert (manifest["version"], manifest["license"]) == ("7", "CC BY-SA 4.0")
    for name, file in manifest["files"].items():
        assert (folder / file["path"]).read_bytes() == FILES[name]
        assert file["size"] == len(FILES[name])
        assert file["sha256"] == hashlib.sha256(FILES[name]).hexdigest()
        assert found[folder / file["path"]] == file["sha256"]


def test_a_second_call_needs_no_network_and_more_files_fetch_only_the_new(kaggle, tmp_path):
    raw_files(config_of(tmp_path, max_files=2))
    before = kaggle.total_requests
    kaggle.fail("GetDataset", *[Fault(status=500)] * 99)
    assert len(raw_files(config_of(tmp_path, max_files=2))) == 2
    assert kaggle.total_requests == before
    found = raw_files(config_of(tmp_path, max_files=4))
    assert [int(path.stem.split("_")[-1]) for path in found] == [0, 4, 7, 11]
    assert len(kaggle.store.requests) == 4


def test_a_changed_file_is_noticed_and_a_deleted_one_fetched_again(kaggle, one):
    path = only_file(one)
    data = path.read_bytes()
    path.write_bytes(data[:-9] + b"x" + data[-8:])
    assert "was changed after its download; delete it to fetch it again" in fails(one)
    path.unlink()
    assert is_whole(one)


def test_both_layouts_and_any_language(kaggle, tmp_path):
    parquet = b"PAR1" + b"x" * 100 + b"PAR1"
    kaggle.files = {f"frwiki/data/frwiki_namespace_0_{n:05d}.parquet": parquet for n in range(3)}
    kaggle.files |= {"README.md": b"x", "zh_min_nanwiki_namespace_0/x_1.jsonl": b"x"}
    kaggle.files |= {"zh_min_nanwiki/data/zh_min_nanwiki_namespace_0_00000.parquet": parquet}
    assert len(raw_files(config_of(tmp_path))) == 3
    assert len(raw_files(config_of(tmp_path, language="zh-min-nan"))) == 1
    says = fails(config_of(tmp_path, language="de"))
    assert says == f"{DATASET} has no files in the language 'de'; it has fr, zh-min-nan."


def test_a_dropped_connection_is_gone_on_with(kaggle, one, waits):
    kaggle.fail("store", Fault(cut_after=CUT))
    assert is_whole(one)
    first, again, rest = kaggle.ranges()
    assert (first, again) == (None, None)  # the second asks the API for a fresh address
    start = int(rest.removeprefix("bytes=").removesuffix("-"))
    assert CUT - transfer.CHUNK <= start <= CUT
    etag = f'"{hashlib.md5(FILES[FIRST]).hexdigest()}"'
    assert kaggle.store.requests[-1].headers["if-range"] == etag
    assert waits == [1.0]


def test_many_drops_are_no_reason_to_give_up_while_bytes_arrive(kaggle, one, waits):
    for _ in range(2 * transfer.ATTEMPTS):
        # The first answer is given up for the rest of the file, which is dropped again.
        kaggle.fail("store", Fault(cut_after=70_000), Fault(cut_after=70_000))
    assert is_whole(one)
    assert waits == [1.0] * len(waits) and len(waits) > transfer.ATTEMPTS


def test_drops_without_a_byte_gained_end_in_one_sentence(kaggle, one, waits):
    kaggle.fail("store", *[Fault(cut_after=0)] * 20)
    assert "broke off 6 times in a row" in fails(one)
    assert waits == [1, 2, 4, 8, 16]
    kaggle.store.faults.clear()
    assert is_whole(one)


def test_a_killed_process_is_gone_on_with(kaggle, one):
    kaggle.fail("store", Fault(cut_after=CUT, stall=True))
    code = (
        "from wikigpt.config import load_config; from wikigpt.corpus.download import raw_files; "
        f"raw_files(load_config(source='kaggle', data_dir={one.data_dir!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
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
    assert kaggle.ranges() == [None, None, f"bytes={have}-"]


def test_half_a_file_of_another_version_is_not_gone_on_with(kaggle, one, waits):
    kaggle.store.with_md5 = False  # which would find out later
    kaggle.fail("store", *[Fault(cut_after=CUT)] + [Fault(cut_after=0)] * 20)
    fails(one)
    kaggle.store.faults.clear()
    kaggle.files[FIRST] = jsonl("new", 900_000)
    assert only_file(one).read_bytes() == kaggle.files[FIRST]


def test_a_server_that_ignores_ranges_does_no_harm(kaggle, one, waits):
    kaggle.store.ignore_range = True
    kaggle.fail("store", Fault(cut_after=CUT))
    assert is_whole(one)
    assert kaggle.ranges()[-1].startswith("bytes=")


@pytest.mark.parametrize("call", ["GetDataset", "ListDatasetFiles", "DownloadDataset", "store"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_and_broken_servers_are_waited_for(kaggle, one, waits, call, status):
    kaggle.fail(call, Fault(status=status), Fault(status=status))
    assert is_whole(one)
    assert waits == [1, 2]


def test_retry_after_is_honoured_within_bounds(kaggle, one, waits):
    kaggle.fail("DownloadDataset", Fault(status=429, headers={"Retry-After": "7"}))
    kaggle.fail("store", Fault(status=503, headers={"Retry-After": "86400"}))
    assert is_whole(one)
    assert waits == [7, transfer.LONGEST_WAIT]


def test_a_server_that_stays_broken_is_told(kaggle, one, waits):
    kaggle.fail("GetDataset", *[Fault(status=500)] * 20)
    says = fails(one)
    assert says.startswith("Kaggle could not be reached or broke off 6 times in a row (HTTP 500)")


@pytest.mark.parametrize(
    ("where", "cut"),
    [("GetDataset", None), ("DownloadDataset", None), ("store", None), ("store", CUT)],
)
def test_a_stalled_server_is_left_after_a_time(kaggle, one, waits, monkeypatch, capsys, where, cut):
    monkeypatch.setattr(transfer, "TIMEOUT", 2)
    kaggle.fail(where, Fault(stall=True, cut_after=cut))
    assert is_whole(one)
    assert "Kaggle: no answer in time; trying again in 1 s" in capsys.readouterr().err
    assert waits == [1.0]


def test_nobody_listens(kaggle, one, waits):
    kaggle.close()
    assert "check that you are online" in fails(one)


@pytest.mark.parametrize("with_md5", [True, False])
def test_a_corrupted_body_is_deleted_and_fetched_again(kaggle, one, waits, with_md5):
    kaggle.store.with_md5 = with_md5
    kaggle.fail("store", Fault(corrupt=True))
    assert is_whole(one)
    assert kaggle.ranges() == [None, None]


@pytest.mark.parametrize(
    ("with_md5", "says"), [(True, "MD5"), (False, "last line is not a JSON record")]
)
def test_a_body_that_stays_corrupted_is_told_and_not_kept(kaggle, one, with_md5, says):
    kaggle.store.with_md5 = with_md5
    kaggle.fail("store", *[Fault(corrupt=True)] * 3)
    sentence = fails(one)
    assert "arrived damaged 3 times" in sentence and says in sentence
    (left,) = [path for path in Path(one.data_dir).rglob("*") if path.is_file()]
    assert left.suffix == ".lock"


def test_a_login_page_in_between_is_told(kaggle, one, waits):
    kaggle.fail("store", *[Fault(page=b"<html>Please log in</html>")] * 3)
    assert "first line is not a JSON record" in fails(one)
    kaggle.fail("GetDataset", Fault(page=b"<html>Please log in</html>"))
    assert "is there a login page between you and the internet?" in fails(one)


def test_what_is_served_zipped_stays_zipped(kaggle, one, waits):
    kaggle.zipped = {FIRST}
    kaggle.store.with_md5 = False
    kaggle.fail("store", Fault(corrupt=True))
    path = only_file(one)
    assert path.name == "frwiki_namespace_0_0.jsonl.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.read("frwiki_namespace_0_0.jsonl") == FILES[FIRST]
    assert len(kaggle.ranges()) == 2


def test_hostile_archives_and_names_leave_nothing_outside(kaggle, tmp_path):
    evil = {"../../evil.jsonl": b"{}\n", "/abs.jsonl": b"{}\n", "__MACOSX/._a.jsonl": b"x"}
    good = {"frwiki_namespace_0_0.jsonl": b'{"name": "a"}\n'}
    kaggle.files = {
        "frwiki_namespace_0.zip": zip_of(evil | good),
        "../../frwiki_namespace_0_1.jsonl": b"{}\n",
        "__MACOSX/frwiki_namespace_0_1.jsonl": b"x",
        "fr/._frwiki_namespace_0_1.jsonl": b"x",
    }
    config = config_of(tmp_path)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    path = only_file(config)
    after = {path for path in tmp_path.rglob("*") if path.is_file()}
    lock = path.parent.with_name(".fr.lock")
    assert after - before == {path, path.parent / "manifest.json", lock}
    kaggle.files = {"enwiki_namespace_0.zip": zip_of({"__MACOSX/._a.jsonl": b"x", "a.exe": b"x"})}
    assert "holds no JSONL, Parquet or text file" in fails(config_of(tmp_path, language="en"))


def test_a_missing_dataset_version_and_file_are_told(kaggle, tmp_path):
    assert "Kaggle has no dataset no/such" in fails(config_of(tmp_path, dataset="no/such"))
    assert "check corpus.dataset and corpus.version" in fails(config_of(tmp_path, version="3"))
    assert "'newest' is no Kaggle version" in fails(config_of(tmp_path, version="newest"))
    kaggle.fail("DownloadDataset", Fault(status=404))
    assert "HTTP 404" in fails(config_of(tmp_path))
    kaggle.fail("DownloadDataset", Fault(status=418))
    assert "refused the request (HTTP 418)" in fails(config_of(tmp_path))


def test_a_full_disk_is_told_before_the_download(kaggle, one, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    assert "take a part with corpus.max_files" in fails(one)
    assert kaggle.ranges() == []


def test_importing_the_client_calls_nobody_and_leaves_the_home_alone(kaggle, tmp_path):
    """The kaggle package, left alone, introspects the token and makes a folder when imported."""
    code = (
        "import os; before = dict(os.environ); import wikigpt.corpus.kaggle_client; "
        "assert dict(os.environ) == before"
    )
    environment = {**os.environ, "KAGGLE_API_TOKEN": "KGAT_right", "VERBOSE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert kaggle.total_requests == 0
    assert list((tmp_path / "home").iterdir()) == []
