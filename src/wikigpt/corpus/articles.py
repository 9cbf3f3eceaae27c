"""One raw record -> one Article. Pure functions; nothing here touches a file.

The text of an article is its one-line description, its lead, then its sections, each title on a
line of its own. The dumps hold the lead twice, as `abstract` and as the section "Abstract"; it is
written once. What is cleaned away is said in cleaning.py, which sections are left out in
sections.py; all other characters stay as they are (’ stays ’, U+00A0 and U+202F stay).
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Any

from wikigpt.corpus.cleaning import CleaningReport, clean, nfc
from wikigpt.corpus.records import SECTIONS, BadRecord, decode_json
from wikigpt.corpus.sections import merge_sections


@dataclass(frozen=True, slots=True)
class Article:
    id: str
    """Unique within the corpus, such as `frwiki:Julie Andrews`. A text that has neither a number
    nor a title is named by its hash, `frwiki:#b7c1…`; no title can begin with a #."""
    title: str
    """Empty where a plain text has none."""
    text: str
    lang: str


def parse_article(
    record: Any, default_lang: str = "fr", report: CleaningReport | None = None
) -> Article:
    """A decoded record in the Kaggle layout or the Hugging Face layout -> an Article.

    Kaggle layout: `name`, `description`, `abstract`, `sections` (nested, or as a JSON string in the
    Parquet generation), `identifier`, `in_language`, `is_part_of`; an empty value is an absent key
    or null. Hugging Face layout: `id`, `title`, `text`, of which only the text is needed: a corpus
    may be made of sentences, while an encyclopedia's entry without a name is a broken one.

    Args:
        default_lang: the language of a record that does not say it.
        report: counts what cleaning removed.

    Raises:
        BadRecord: no text, no title, a value of a wrong type, a lone surrogate.
    """
    if not isinstance(record, dict):
        raise BadRecord(f"a record must be an object, not a {type(record).__name__}")
    title = _string(record, "name") or _string(record, "title")
    plain = _string(record, "text")
    if not title and not plain:
        raise BadRecord("no title (name or title) and no plain text (text)")
    lang = _identifier(record, "in_language") or default_lang
    description, abstract = _string(record, "description"), _string(record, "abstract")
    merged = merge_sections(_sections(record), lang)
    lead = "" if merged.has_lead else abstract
    opening = [part for part in (description, lead, plain) if part]
    raw = "\n".join(opening + merged.lines).strip()
    if not raw:
        raise BadRecord("no text (description, abstract, sections or text)")
    _check_unicode(raw)
    article_id = _id(record, lang, title or f"#{_hash(raw)}")
    _check_unicode(article_id + title + lang)
    if report is not None:
        # Lone surrogates do no harm in what is not kept.
        left_out = sum(len(text.encode(errors="replace")) for text in merged.left_out)
        repeated = len(abstract.encode(errors="replace")) if merged.has_lead else 0
        report.found.documents += 1
        report.found.bytes += len(raw.encode()) + left_out + repeated
        if left_out:
            report.removed("left-out sections", left_out)
        if repeated:
            report.removed("repeated lead", repeated)
    text = clean(raw, report)
    if not text:
        if report is not None:
            report.drop("nothing left", text)
        raise BadRecord("nothing is left of the text after cleaning")
    return Article(article_id, nfc(title), text, lang)


def _sections(record: dict[str, Any]) -> list[Any]:
    sections = record.get("sections")
    if isinstance(sections, str):
        try:
            sections = decode_json(sections, SECTIONS) if sections.strip() else None
        except BadRecord as error:
            raise BadRecord(f"sections: {error}") from None
    if sections is None:
        return []
    if not isinstance(sections, list):
        raise BadRecord(f"sections must be a list, not {type(sections).__name__}")
    return sections


def _string(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRecord(f"{key} must be text, not {type(value).__name__}")
    return value.strip()


def _identifier(record: dict[str, Any], key: str) -> str:
    """`{"identifier": "fr"}`, the same as a JSON string, or plainly "fr" -> "fr"."""
    value = record.get(key)
    if isinstance(value, str) and value.startswith("{"):
        value = decode_json(value)
    if isinstance(value, dict):
        return _string(value, "identifier")
    return value.strip() if isinstance(value, str) else ""


def _hash(text: str) -> str:
    """Of the text as it came, so that a new cleaning rule moves no article across the split."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _id(record: dict[str, Any], lang: str, name: str) -> str:
    project = _identifier(record, "is_part_of") or f"{lang}wiki"
    for key in ("identifier", "id"):
        value = record.get(key)
        if isinstance(value, float) and (value.is_integer() or math.isnan(value)):
            # pandas makes floats of whole numbers as soon as one of them is missing.
            value = None if math.isnan(value) else int(value)
        if isinstance(value, bool) or not isinstance(value, str | int | None):
            kind = type(value).__name__
            raise BadRecord(f"{key} must be a whole number or text, not {kind}")
        if value is not None and value != "":
            return f"{project}:{value}"
    return f"{project}:{name}"


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRecord("a lone surrogate, which is no Unicode character") from None
