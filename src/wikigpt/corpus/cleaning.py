"""What is wrong with Wikipedia's text, one small named rule for each fault, and a report.

A rule is a pure function, text -> text, that removes a residue of the wiki's mark-up and nothing
else: characters stay as they are but for Unicode's NFC form. Each rule was run over real articles
and what it removed was read; the patterns are narrow because of what a wider one took away:
formulas (`{{2n} \\choose n}`), « La virgule (,) », `main()`, `[...]`, prose such as
« Catégorie : femmes ». Rejected: collapsing white space, mending punctuation, mapping quotation
marks; a model should learn the language as it is written.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

Rule = Callable[[str], str]

# Written so that no pattern looks at a character more often than a few times: a hostile article of
# 20,000 `<ref>` took 16 seconds with the obvious `.*?`.
_REFERENCE = re.compile(
    r"<ref\b[^<>]*/>|<ref\b[^<>]*>[^<]*(?:<(?!/?ref\b)[^<]*)*</ref\s*>", re.IGNORECASE
)
# Inner braces first. A template's name begins with a word, a formula's braces with anything, or
# after _ or ^.
_BRACES = r"(?<![_^])\{ ?\{\s*#?[^\W\d_]{2}[^{}\\]*\} ?\}"
_TEMPLATE = re.compile(rf"^{_BRACES}[ \t]*\n| ?{_BRACES}", re.M)
_DEEPEST = 50  # a bound, or nests could cost hours
_CATEGORY = re.compile(r"(?:\[\[)?(?:Catégorie|Category|Categoría|Kategorie|Categoria):\S")
_EMPTY = r"(?:[ \u00a0]*|(?=[,;:]*[ \u00a0])[ \u00a0,;:]*)"
_EMPTY_PARENTHESES = re.compile(rf"(?<=[\w»])[ \u00a0](?:\({_EMPTY}\)|\[{_EMPTY}\])")
_STRAY_COMMA = re.compile(r"(?<= \()[ \u00a0]?[,;][ \u00a0]+(?=[^\s,;)])")


def nfc(text: str) -> str:
    """Unicode's NFC form, so that é is one character however it was typed."""
    return unicodedata.normalize("NFC", text)


def end_of_text(text: str) -> str:
    """The literal `<|endoftext|>`, which tokenizers would take for their own mark."""
    for _ in range(_DEEPEST):  # what is left around one may be the next
        if "<|endoftext|>" not in text:
            break
        text = text.replace("<|endoftext|>", "")
    return text


def references(text: str) -> str:
    """`<ref>…</ref>` and `<ref … />`, with what they say."""
    return _REFERENCE.sub("", text) if "<" in text else text


def templates(text: str) -> str:
    """`{{…}}`, also as `{ { … } }` and nested; a line that held nothing else goes with it."""
    if "{" not in text:
        return text
    for _ in range(_DEEPEST):  # from the innermost on
        text, found = _TEMPLATE.subn("", text)
        if not found:
            break
    return text


def category_tail(text: str) -> str:
    """The lines `Catégorie:…` that end an article."""
    lines = text.split("\n")
    last = len(lines)
    while last > 1 and (not (line := lines[last - 1].rstrip()) or _CATEGORY.match(line)):
        last -= 1
    if not any(map(str.strip, lines[last:])):
        return text
    return "\n".join(lines[:last]).rstrip()


def empty_parentheses(text: str) -> str:
    """` ()`, ` ( ; )`, ` []`: what is left of a pronunciation or a name in another script."""
    return _EMPTY_PARENTHESES.sub("", text) if _opens_on_nothing(text) else text


def stray_comma(text: str) -> str:
    """`(, 1967)` -> `(1967)`: the same where something follows."""
    return _STRAY_COMMA.sub("", text) if _opens_on_nothing(text) else text


@lru_cache(maxsize=1)  # two rules in a row ask it of the same text
def _opens_on_nothing(text: str) -> bool:
    """Whether any parenthesis opens on something else than a word; saves most texts a search."""
    for opening in "([":
        place = text.find(opening)
        while place >= 0:
            if text[place + 1 : place + 2] in " \u00a0,;:)]":
                return True
            place = text.find(opening, place + 1)
    return False


RULES: dict[str, Rule] = {
    "NFC": nfc,
    "end-of-text mark": end_of_text,
    "references": references,
    "templates": templates,
    "category tail": category_tail,
    "empty parentheses": empty_parentheses,
    "stray comma": stray_comma,
}
"""In the order in which they are applied: what one uncovers the next may remove."""
AGAIN = ("NFC", "end-of-text mark")
"""What holds of every text that leaves here, though a rule may have joined what stood apart."""


@dataclass
class Touched:
    """How much one rule did."""

    documents: int = 0
    bytes: int = 0
    """UTF-8 bytes removed (NFC: by how much the text became shorter)."""

    def add(self, other: "Touched") -> None:
        self.documents += other.documents
        self.bytes += other.bytes


@dataclass
class CleaningReport:
    """What cleaning found, kept and removed; filled while articles are read."""

    found: Touched = field(default_factory=Touched)
    """Articles as they came, with the text that every rule saw or left out."""
    kept: Touched = field(default_factory=Touched)
    """Articles that went on, and their text."""
    rules: dict[str, Touched] = field(default_factory=dict)
    """Text removed from articles, by rule."""
    dropped: dict[str, Touched] = field(default_factory=dict)
    """Whole articles that were dropped, by reason, and the text they had left."""
    lengths: dict[int, int] = field(default_factory=dict)
    """Histogram of the kept articles: the key k counts lengths of 2^(k-1) to 2^k - 1 characters."""

    def removed(self, rule: str, n_bytes: int) -> None:
        _add(self.rules, rule, n_bytes)

    def drop(self, reason: str, text: str) -> None:
        _add(self.dropped, reason, len(text.encode()))

    def keep(self, text: str) -> None:
        self.kept.documents += 1
        self.kept.bytes += len(text.encode())
        bits = len(text).bit_length()
        self.lengths[bits] = self.lengths.get(bits, 0) + 1

    @classmethod
    def merged(cls, reports: Iterable["CleaningReport"]) -> "CleaningReport":
        """One report over all the articles of several."""
        total = cls()
        for report in reports:
            total.found.add(report.found)
            total.kept.add(report.kept)
            for mine, theirs in (
                (total.rules, report.rules),
                (total.dropped, report.dropped),
            ):
                for name, touched in theirs.items():
                    mine.setdefault(name, Touched()).add(touched)
            for bits, count in report.lengths.items():
                total.lengths[bits] = total.lengths.get(bits, 0) + count
        return total

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "CleaningReport":
        """From `dataclasses.asdict`, also by way of JSON, whose keys are text."""
        return cls(
            Touched(**values["found"]),
            Touched(**values["kept"]),
            {name: Touched(**touched) for name, touched in values["rules"].items()},
            {name: Touched(**touched) for name, touched in values["dropped"].items()},
            {int(bits): count for bits, count in values["lengths"].items()},
        )

    def share_dropped(self, reason: str) -> float:
        """The share of the articles that were dropped for a reason, such as `near duplicate`."""
        dropped = self.dropped.get(reason, Touched()).documents
        return dropped / self.found.documents if self.found.documents else 0.0

    def table(self) -> str:
        """The report as text, the biggest removals first."""
        rows = [("found", self.found)]
        for kind in (self.rules, self.dropped):
            rows += sorted(kind.items(), key=lambda row: -row[1].bytes)
        rows.append(("kept", self.kept))
        lines = [f"{'':<22}{'articles':>12}{'share':>9}{'bytes':>16}{'share':>9}"]
        for name, touched in rows:
            shares = [
                f"{part / whole:.2%}" if whole else "-"
                for part, whole in (
                    (touched.documents, self.found.documents),
                    (touched.bytes, self.found.bytes),
                )
            ]
            lines.append(
                f"{name:<22}{touched.documents:>12,}{shares[0]:>9}{touched.bytes:>16,}{shares[1]:>9}"
            )
        return "\n".join(lines)


def _add(table: dict[str, Touched], name: str, n_bytes: int) -> None:
    touched = table.setdefault(name, Touched())
    touched.documents += 1
    touched.bytes += n_bytes


def clean(text: str, report: CleaningReport | None = None) -> str:
    """Apply every rule in turn; the ends are stripped of white space."""
    cleaned = _apply(RULES, text, report)
    if cleaned != text:
        cleaned = _apply(AGAIN, cleaned, report)
    return cleaned.strip()


def _apply(names: Iterable[str], text: str, report: CleaningReport | None) -> str:
    for name in names:
        cleaned = RULES[name](text)
        if report is not None and cleaned != text:
            report.removed(name, len(text.encode()) - len(cleaned.encode()))
        text = cleaned
    return text
