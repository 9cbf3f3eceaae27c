"""The nested `sections` of the Kaggle layout -> lines of text.

A part is an object with a `type` (section, paragraph, list, list_item), perhaps a `name`, a `value`
or `values`, and perhaps parts of its own in `has_parts`. Every key may be absent or null, and real
dumps hold lists where one expects text and the other way round. So the walk asks of each thing what
it is, takes what text it finds and never fails. It keeps its own stack: a recursive function, which
would say the same in fewer lines, ends at Python's limit of a thousand levels.
"""

import unicodedata
from functools import lru_cache
from typing import Any, NamedTuple

LEFT_OUT = {
    "fr": ["Notes et références", "Notes", "Références", "Notes et sources", "Voir aussi",
           "Liens externes", "Lien externe", "Bibliographie", "Bibliographie sélective",
           "Articles connexes", "Article connexe", "Annexes", "Sources et bibliographie",
           "Sources bibliographiques", "Liens internes", "Pour approfondir"],
    "en": ["References", "Notes", "Notes and references", "Footnotes", "Citations", "See also",
           "External links", "Bibliography", "Further reading", "Sources", "Works cited"],
    "es": ["Referencias", "Notas", "Notas y referencias", "Véase también", "Enlaces externos",
           "Bibliografía", "Bibliografía adicional", "Fuentes"],
    "de": ["Einzelnachweise", "Anmerkungen", "Siehe auch", "Weblinks", "Literatur"],
    "it": ["Note", "Bibliografia", "Voci correlate", "Altri progetti", "Collegamenti esterni"],
    "pt": ["Referências", "Notas", "Ver também", "Ligações externas", "Bibliografia"],
}  # fmt: skip
"""Sections that hold lists of links and sources rather than prose; matched whatever the case."""

LEAD = "Abstract"
"""The name that the dumps of every language give to the first section, the lead."""


class Merged(NamedTuple):
    """The text of an article's sections."""

    lines: list[str]
    """In order; a section's title is a line of its own with an empty line before it."""
    left_out: list[str]
    """The text of the sections that were left out."""
    has_lead: bool
    """Whether the first lines are the lead."""


@lru_cache(maxsize=4096)  # most titles are « Biographie », « Géographie », …
def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).replace("’", "'").strip(" \u00a0:").casefold()


_LEFT_OUT = {lang: frozenset(map(_key, names)) for lang, names in LEFT_OUT.items()}


def merge_sections(sections: Any, lang: str) -> Merged:
    """The text of `sections`, whatever that is, in reading order.

    A title is written once there is text below it; a section without text leaves no trace. Sections
    that LEFT_OUT names for the language are left out, at every level.
    """
    unwanted = _LEFT_OUT.get(lang.lower(), frozenset())
    parts = sections if isinstance(sections, list) else [sections]
    lines: list[str] = []
    left_out: list[str] = []
    has_lead = False
    if parts and isinstance(parts[0], dict) and parts[0].get("name") == LEAD:
        _walk([parts[0] | {"name": None}], unwanted, lines, left_out)
        parts, has_lead = parts[1:], bool(lines)
    _walk(parts, unwanted, lines, left_out)
    return Merged(lines, left_out, has_lead)


def _walk(
    parts: list[Any], unwanted: frozenset[str], lines: list[str], left_out: list[str]
) -> None:
    """Append what the parts say to `lines`, or to `left_out` where it is unwanted."""
    titles: list[tuple[int, str]] = []  # of the sections we are in, not written yet: depth, title

    def say(text: str, depth: int, is_unwanted: bool) -> None:
        text = text.strip()
        if text and is_unwanted:
            left_out.append(text)
        elif text:
            if titles:
                leave(depth)
                for _, title in titles:
                    lines.extend(("", title))
                titles.clear()
            lines.append(text)

    def leave(depth: int) -> None:
        while titles and titles[-1][0] >= depth:
            titles.pop()

    stack = [(iter(parts), 0, False)]
    while stack:
        inside, depth, is_unwanted = stack[-1]
        for part in inside:
            if isinstance(part, dict):
                get = part.get
                unwanted_here, below = is_unwanted, depth
                if get("type", "section") == "section" and isinstance(name := get("name"), str):
                    leave(depth)
                    below = depth + 1  # what it says is its own; a paragraph's is its section's
                    unwanted_here = is_unwanted or _key(name) in unwanted
                    if not unwanted_here and (title := name.strip()):
                        titles.append((depth, title))
                # Nearly every part is a paragraph that is one string: no detour for it.
                if isinstance(value := get("value"), str):
                    say(value, below, unwanted_here)
                    value = None
                values, children = get("values"), get("has_parts")
                if value or values:
                    stack.append((iter((value, values, children)), below, unwanted_here))
                    break
                if children:
                    inner = children if isinstance(children, list) else [children]
                    stack.append((iter(inner), below, unwanted_here))
                    break
            elif isinstance(part, list):
                stack.append((iter(part), depth, is_unwanted))
                break
            elif isinstance(part, str):
                say(part, depth, is_unwanted)
        else:
            stack.pop()
