"""One raw record -> one Article. Pure functions; nothing here touches a file.

The text of an article is its one-line description, then its lead. Its characters stay as they are
(’ stays ’, U+00A0 and U+202F stay) but for Unicode's NFC form, so that é is one character.
"""

import unicodedata
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Article:
    id: str
    """Unique within the corpus, such as `frwiki:Julie Andrews`."""
    title: str
    text: str
    lang: str


class BadRecord(ValueError):
    """A record that can't become an article; the message says why."""


def parse_article(record: Any, default_lang: str = "fr") -> Article:
    """A decoded JSON record in the Kaggle layout or the Hugging Face layout -> an Article.

    Kaggle layout: `name`, `description`, `abstract`, `identifier`, `in_language`, `is_part_of`; an
    empty value is an absent key. Hugging Face layout: `id`, `title`, `text`.

    Raises:
        BadRecord: no title or no text, a value of a wrong type, a lone surrogate.
    """
    if not isinstance(record, dict):
        raise BadRecord(f"a record must be an object, not a {type(record).__name__}")
    title = _string(record, "name") or _string(record, "title")
    if not title:
        raise BadRecord("no title (name or title)")
    parts = (_string(record, "description"), _string(record, "abstract"), _string(record, "text"))
    text = unicodedata.normalize("NFC", "\n".join(part for part in parts if part))
    if not text:
        raise BadRecord("no text (description, abstract or text)")
    try:
        (title + text).encode()
    except UnicodeEncodeError:
        raise BadRecord("a lone surrogate, which is no Unicode character") from None
    lang = _identifier(record, "in_language") or default_lang
    project = _identifier(record, "is_part_of") or f"{lang}wiki"
    key = record.get("identifier", record.get("id", title))
    return Article(id=f"{project}:{key}", title=title, text=text, lang=lang)


def _string(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRecord(f"{key} must be text, not {type(value).__name__}")
    return value.strip()


def _identifier(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    return _string(value, "identifier") if isinstance(value, dict) else ""
