"""Credentials: found in the order that is promised, sent only where they belong, shown nowhere."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nbformat
import pytest
from nbclient import NotebookClient

from conftest import tiny_config
from fake_hub import FakeHub
from fake_kaggle import DATASET, SIGNATURE, FakeKaggle
from stand_in import Fault, forget_credentials
from wikigpt.config import load_config
from wikigpt.corpus import credentials
from wikigpt.corpus.credentials import HUGGING_FACE, KAGGLE, Credentials, find
from wikigpt.corpus.download import raw_files
from wikigpt.errors import UserError
from wikigpt.training import train

TOKEN = "KGAT_0dd-T0ken-4711"
USER, KEY = "odd-user-4712", "0dd-key-4713"
REFRESH_TOKEN = "0dd-refresh-T0ken-4715"
LOGIN = json.dumps({"refresh_token": REFRESH_TOKEN, "access_token": "stale-4716", "scopes": []})
HUB_TOKEN = "hf_" + "0ddTokenForTheHub4714"  # in two, or scanners would report it
FILES = {"frwiki_namespace_0/frwiki_namespace_0_0.jsonl": b'{"name": "a"}\n' * 20_000}


@pytest.fixture
def home(monkeypatch, tmp_path) -> Path:
    forget_credentials(monkeypatch, tmp_path / "home")
    return tmp_path / "home"


def save(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def in_colab(monkeypatch, secrets: dict[str, str]) -> None:
    def get(name: str) -> str:
        return secrets[name]  # as Colab does, raises if there is none

    monkeypatch.setitem(sys.modules, "google", ModuleType("google"))
    colab = ModuleType("google.colab")
    colab.userdata = SimpleNamespace(get=get)
    monkeypatch.setitem(sys.modules, "google.colab", colab)


def in_a_kaggle_notebook(monkeypatch, secrets: dict[str, str]) -> None:
    module = ModuleType("kaggle_secrets")
    module.UserSecretsClient = lambda: SimpleNamespace(get_secret=secrets.__getitem__)
    monkeypatch.setitem(sys.modules, "kaggle_secrets", module)


def test_the_order_is_environment_colab_kaggle_files_nobody(monkeypatch, home, tmp_path):
    pair = json.dumps({"username": "u6", "key": "k6"})
    save(home / ".config" / "kaggle" / "kaggle.json", pair.replace("6", "7"))
    save(home / ".kaggle" / "kaggle.json", pair)
    save(home / ".kaggle" / "access_token", "t5\n")
    in_a_kaggle_notebook(monkeypatch, {"KAGGLE_API_TOKEN": "t4"})
    in_colab(monkeypatch, {"KAGGLE_USERNAME": "u3", "KAGGLE_KEY": "k3"})
    monkeypatch.setenv("KAGGLE_USERNAME", "u2")
    monkeypatch.setenv("KAGGLE_KEY", "k2")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "t1")
    said: list[str] = []

    def found() -> tuple[str, str, str]:
        got = find(KAGGLE, said.append)
        return got.token, got.user, got.key

    assert found() == ("t1", "", "")
    monkeypatch.setenv("KAGGLE_API_TOKEN", " ")  # blank is absent
    assert found() == ("", "u2", "k2")
    monkeypatch.delenv("KAGGLE_KEY")  # half a pair is none
    assert found() == ("", "u3", "k3")
    in_colab(monkeypatch, {})
    assert found() == ("t4", "", "")
    in_a_kaggle_notebook(monkeypatch, {})
    assert found() == ("t5", "", "")
    (home / ".kaggle" / "access_token").unlink()
    assert found() == ("", "u6", "k6")
    (home / ".kaggle" / "kaggle.json").unlink()
    assert found() == ("", "u7", "k7")
    (home / ".config" / "kaggle" / "kaggle.json").unlink()
    save(home / ".kaggle" / "credentials.json", LOGIN)
    assert find(KAGGLE, said.append) == Credentials(
        "~/.kaggle/credentials.json", refresh_token=REFRESH_TOKEN
    )
    (home / ".kaggle" / "credentials.json").unlink()
    assert find(KAGGLE, said.append) is None
    assert said == [
        "Kaggle credentials: found in the environment",
        "Kaggle credentials: found in the environment",
        "Kaggle credentials: found in Colab's secrets",
        "Kaggle credentials: found in Kaggle's secrets",
        "Kaggle credentials: found in ~/.kaggle/access_token",
        "Kaggle credentials: found in ~/.kaggle/kaggle.json",
        "Kaggle credentials: found in ~/.config/kaggle/kaggle.json",
        "Kaggle credentials: found in ~/.kaggle/credentials.json",
        "Kaggle credentials: none found, trying without an account",
    ]


def test_a_token_variable_may_name_a_file_and_the_settings_folder_may_move(
    monkeypatch, home, tmp_path
):
    save(tmp_path / "token.txt", "t8\n")
    monkeypatch.setenv("KAGGLE_API_TOKEN", str(tmp_path / "token.txt"))
    assert find(KAGGLE, print).token == "t8"
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    save(tmp_path / "settings" / "kaggle.json", '{"username": "u", "key": "k"}')
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "settings"))
    assert find(KAGGLE, print).key == "k"


def test_hugging_face_tokens(monkeypatch, home, tmp_path):
    assert find(HUGGING_FACE, print) is None
    save(home / ".cache" / "huggingface" / "token", "t9\n")
    assert find(HUGGING_FACE, print).token == "t9"
    save(tmp_path / "hf" / "token", "t10")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    assert find(HUGGING_FACE, print).token == "t10"
    monkeypatch.setenv("HF_TOKEN", "t11")
    assert find(HUGGING_FACE, print).token == "t11"


@pytest.mark.parametrize("name", ["kaggle.json", "credentials.json"])
@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"username": "secret-user"}', "null", "[" * 99_999,
     '{"username": null, "key": null, "refresh_token": null}',
     '{"username": "secret", "key": " ", "refresh_token": ""}'],
)  # fmt: skip
def test_a_file_that_is_not_kaggles_is_told_without_quoting_it(home, name, text):
    save(home / ".kaggle" / name, text)
    with pytest.raises(UserError, match=rf"~/\.kaggle/{name} does not hold") as error:
        find(KAGGLE, print)
    assert "kaggle.com/settings" in str(error.value) and "secret" not in str(error.value)


def test_a_file_with_the_mark_that_windows_sets_is_read(home):
    """As `Set-Content -Encoding utf8` of PowerShell 5 writes it."""
    save(home / ".kaggle" / "access_token", "\ufeffKGAT_t12\r\n")
    assert find(KAGGLE, print).token == "KGAT_t12"
    (home / ".kaggle" / "access_token").unlink()
    save(home / ".kaggle" / "kaggle.json", '\ufeff{"username": "a", "key": "b"}')
    assert (find(KAGGLE, print).user, find(KAGGLE, print).key) == ("a", "b")


@pytest.mark.parametrize("token", ["two\nlines-4711", "two words-4711", "é-4711"])
def test_what_no_header_can_carry_is_told_without_quoting_it(monkeypatch, home, token):
    monkeypatch.setenv("KAGGLE_API_TOKEN", token)
    with pytest.raises(UserError, match="copy them again") as error:
        find(KAGGLE, print)
    assert "4711" not in str(error.value)


def test_the_repr_hides_the_value():
    assert "4711" not in repr(
        Credentials("here", token=TOKEN, user=USER, key=KEY, refresh_token=REFRESH_TOKEN)
    )


@pytest.fixture
def kaggle(home, monkeypatch):
    server = FakeKaggle(FILES, token=TOKEN, user=USER, key=KEY, refresh_token=REFRESH_TOKEN)
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    yield server
    server.close()


def authorizations(server: FakeKaggle) -> set[str | None]:
    return {request.headers.get("authorization") for request in server.requests}


@pytest.mark.parametrize("kind", ["token", "pair", "nobody"])
def test_credentials_reach_the_api_and_never_the_store(kaggle, monkeypatch, tmp_path, kind):
    pair = base64.b64encode(f"{USER}:{KEY}".encode()).decode()
    expected = {"token": f"Bearer {TOKEN}", "pair": f"Basic {pair}", "nobody": None}[kind]
    if kind == "token":
        monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    if kind == "pair":
        monkeypatch.setenv("KAGGLE_USERNAME", USER)
        monkeypatch.setenv("KAGGLE_KEY", KEY)
    kaggle.needs_account = kind != "nobody"
    monkeypatch.setattr("wikigpt.corpus.transfer.FIRST_WAIT", 0)
    kaggle.fail("store", Fault(cut_after=100_000))
    assert raw_files(load_config(source="kaggle", data_dir=str(tmp_path / "data")))
    assert authorizations(kaggle) == {expected}
    assert len(kaggle.store.requests) == 3
    assert all("authorization" not in request.headers for request in kaggle.store.requests)


@pytest.mark.parametrize(("status", "token"), [(401, "KGAT_wrong-4711"), (403, TOKEN), (401, "")])
def test_missing_or_refused_credentials_are_one_sentence(
    kaggle, monkeypatch, tmp_path, status, token
):
    kaggle.needs_account = True
    if token:
        monkeypatch.setenv("KAGGLE_API_TOKEN", token)
    if status == 403:
        kaggle.fail("GetDataset", Fault(status=403, message="Permission denied"))
    with pytest.raises(UserError) as error:
        raw_files(load_config(source="kaggle", data_dir=str(tmp_path / "data")))
    says = str(error.value)
    assert ("found in the environment" in says) == bool(token)
    for part in (f"HTTP {status}", "kaggle.com/settings", "Create New Token", "access_token"):
        assert part in says
    assert "4711" not in says and "\n" not in says


def test_a_login_is_good_for_a_token_and_its_file_stays(kaggle, home, monkeypatch, tmp_path):
    """What `kaggle auth login` leaves: the access token in it may be stale, and is not used."""
    monkeypatch.setattr("wikigpt.corpus.transfer.FIRST_WAIT", 0)
    save(home / ".kaggle" / "credentials.json", LOGIN)
    kaggle.needs_account = True
    kaggle.fail("GenerateAccessToken", Fault(status=503), Fault(status=429))
    assert raw_files(load_config(source="kaggle", data_dir=str(tmp_path / "data")))
    calls = [request.path.rpartition("/")[2] for request in kaggle.requests]
    assert calls == ["GenerateAccessToken"] * 3 + ["GetDataset", "ListDatasetFiles"] + [
        "DownloadDataset"
    ]
    sent = [request.headers.get("authorization") for request in kaggle.requests]
    assert sent == [None] * 3 + [f"Bearer {TOKEN}"] * 3
    assert all("authorization" not in request.headers for request in kaggle.store.requests)
    assert (home / ".kaggle" / "credentials.json").read_text(encoding="utf-8") == LOGIN
    kaggle.tokens = {}  # logged out elsewhere
    with pytest.raises(UserError, match=r"found in ~/\.kaggle/credentials\.json \(HTTP 401\)"):
        raw_files(load_config(source="kaggle", data_dir=str(tmp_path / "again")))


class Keyboard:
    """Somebody at a terminal."""

    def __init__(self, monkeypatch, answer: str) -> None:
        self.asked = 0
        self.answer = answer
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
        monkeypatch.setattr(credentials.getpass, "getpass", self.type)

    def type(self, prompt: str) -> str:
        self.asked += 1
        return self.answer


def test_a_person_is_asked_only_when_the_server_refuses(kaggle, monkeypatch, tmp_path, capsys):
    keyboard = Keyboard(monkeypatch, TOKEN)
    raw_files(load_config(source="kaggle", data_dir=str(tmp_path / "free")))
    assert keyboard.asked == 0
    kaggle.needs_account = True
    raw_files(load_config(source="kaggle", data_dir=str(tmp_path / "asked")))
    assert keyboard.asked == 1
    assert "KAGGLE_API_TOKEN" not in os.environ
    shown = capsys.readouterr()
    assert "paste it here" in shown.err and TOKEN not in shown.out + shown.err


@pytest.mark.parametrize(("answer", "asked"), [("", 1), ("KGAT_wrong", 1)])
def test_no_answer_or_a_wrong_one_ends_it(kaggle, monkeypatch, tmp_path, answer, asked):
    kaggle.needs_account = True
    keyboard = Keyboard(monkeypatch, answer)
    with pytest.raises(UserError, match="HTTP 401"):
        raw_files(load_config(source="kaggle", data_dir=str(tmp_path / "data")))
    assert keyboard.asked == asked


def test_a_notebook_that_is_run_by_a_program_is_not_asked(kaggle, monkeypatch, tmp_path):
    def refuse(prompt: str) -> str:
        raise NotImplementedError  # what IPython's kernel raises without a front end

    kaggle.needs_account = True
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr(credentials.getpass, "getpass", refuse)
    with pytest.raises(UserError, match="no credentials are here"):
        raw_files(load_config(source="kaggle", data_dir=str(tmp_path / "data")))


SECRETS = [
    TOKEN, KEY, HUB_TOKEN, SIGNATURE, REFRESH_TOKEN,
    base64.b64encode(f"{USER}:{KEY}".encode()).decode(),
]  # fmt: skip


def holds_secrets(data: bytes) -> list[str]:
    return [secret for secret in SECRETS if secret.encode() in data]


@pytest.mark.parametrize("kind", ["token", "pair", "login"])
def test_no_secret_reaches_output_logs_or_files(kaggle, home, tmp_path, kind):
    """All at once: verbose mode, debug logs, drops, a refusal and its whole traceback."""
    hub = FakeHub(
        {"wikimedia/wikipedia": {"20231101.fr/train-00000-of-00001.parquet": b"PAR1" * 9}}
    )
    kaggle.fail("store", Fault(cut_after=100_000), Fault(cut_after=0), Fault(status=503))
    code = """
import logging, sys, traceback
logging.basicConfig(level=logging.DEBUG)
from wikigpt.config import load_config
from wikigpt.corpus import credentials, transfer
from wikigpt.corpus.download import raw_files
transfer.FIRST_WAIT = 0
print(credentials.find(credentials.KAGGLE), credentials.find(credentials.HUGGING_FACE))
for source in ("kaggle", "hub"):
    print(raw_files(load_config(source=source, data_dir=sys.argv[1])))
for source in ("kaggle", "hub"):
    try:
        raw_files(load_config(source=source, data_dir=sys.argv[1], dataset="no/such"))
    except Exception:
        traceback.print_exc()
"""
    given = {
        "token": {"KAGGLE_API_TOKEN": TOKEN},
        "pair": {"KAGGLE_USERNAME": USER, "KAGGLE_KEY": KEY},
        "login": {},
    }
    if kind == "login":
        save(home / ".kaggle" / "credentials.json", LOGIN)
    environment = {
        **os.environ, **given[kind], "HF_TOKEN": HUB_TOKEN, "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1", "VERBOSE": "1", "VERBOSE_OUTPUT": "1", "HF_DEBUG": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "data")], env=environment, capture_output=True
    )
    hub.close()
    assert done.returncode == 0, done.stderr.decode()
    # The secrets were used, and what could have held them is there.
    assert hub.requests[-1].headers["authorization"] == f"Bearer {HUB_TOKEN}"
    # (A login is first exchanged for a token, which needs no authorization.)
    sent = authorizations(kaggle) - ({None} if kind == "login" else set())
    assert len(sent) == 1 and None not in sent
    assert b"found in the environment" in done.stdout
    assert b"DEBUG:urllib3.connectionpool" in done.stderr and b"UserError" in done.stderr
    assert holds_secrets(done.stdout + done.stderr) == []
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    files = [path for path in files if path.name != "credentials.json"]  # where it was found
    assert any(DATASET.split("/")[1] in str(path) for path in files)
    assert [path for path in files if holds_secrets(path.read_bytes())] == []


@pytest.mark.xdist_group("kernels")  # side by side, two kernels may be given the same port
def test_no_secret_reaches_a_notebook(kaggle, monkeypatch, tmp_path):
    """Found, used, refused: the outputs that a notebook keeps, errors included, hold nothing."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    monkeypatch.setenv("VERBOSE", "1")
    kaggle.fail("store", Fault(cut_after=100_000))
    load = "load_config(source='kaggle', data_dir='data', dataset="
    cells = [
        "from wikigpt.config import load_config; from wikigpt.corpus import credentials, transfer\n"
        "from wikigpt.corpus.download import raw_files; transfer.FIRST_WAIT = 0",
        "credentials.find(credentials.KAGGLE)",
        f"raw_files({load}''))",
        f"raw_files({load}'no/such'))",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, resources=resources, allow_errors=True, timeout=60).execute()
    outputs = json.dumps(notebook)
    assert "found in the environment" in outputs and "frwiki_namespace_0_0.jsonl" in outputs
    assert "Kaggle has no dataset no/such" in outputs
    assert authorizations(kaggle) == {f"Bearer {TOKEN}"}
    assert holds_secrets(outputs.encode()) == []


def test_no_secret_reaches_a_run(tiny, monkeypatch, small_corpus, tmp_path):
    """Config, metrics, TensorBoard events, checkpoints: nothing of a run holds a credential."""
    for name, value in {
        "KAGGLE_API_TOKEN": TOKEN, "KAGGLE_KEY": KEY, "HF_TOKEN": HUB_TOKEN,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    config = tiny_config(small_corpus, tmp_path, max_steps=4)
    for _ in train(config, say=lambda _: None):
        pass
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"config.yaml", "metrics.jsonl", "model.safetensors"} <= {path.name for path in files}
    assert [path for path in files if holds_secrets(path.read_bytes())] == []
