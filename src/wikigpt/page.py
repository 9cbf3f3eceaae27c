"""A page of HTML from plain strings: tables, pictures inside, nothing to fetch, no script.

Rejected: a template library, for a page that is a heading and a table, eight times.
"""

import base64
import io
import unicodedata
from collections.abc import Sequence
from html import escape

from matplotlib.figure import Figure

STYLE = """
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif;
       color: #222; background: #fff }
h1 { margin-bottom: 0 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .8rem; border-bottom: 1px solid #e4e4e4; text-align: right }
th:first-child, td:first-child, .words td { text-align: left }
img { max-width: 100% } pre { white-space: pre-wrap; font-size: 13px }
blockquote { margin: 1rem 0; padding-left: 1rem; border-left: 3px solid #ccc;
             white-space: pre-wrap }
footer { color: #777; font-size: 13px; margin-top: .3rem }
.main td, .main th { border: 0; text-align: left; padding-left: 0; padding-right: 3rem }
.main td { font-size: 1.8rem } .main th { font-weight: normal; color: #555 }
"""


def page(title: str, body: str) -> str:
    """A whole document; `body` is HTML, `title` is text."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{body}
</body>
</html>
"""


def table(rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """Rows of text, the first as heading unless it is empty; `kind` names a style: `words` or
    `main`."""
    heading, *rest = rows
    lines = [_row("th", heading)] if any(heading) else []
    lines += [_row("td", row) for row in rest]
    return f'<table class="{kind}">\n' + "\n".join(lines) + "\n</table>"


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{plain(cell)}</{tag}>" for cell in cells) + "</tr>"


def paragraph(text: str) -> str:
    return f"<p>{plain(text)}</p>"


def picture(figure: Figure, about: str) -> str:
    """A figure as PNG inside the page; `about` is read out to who can't see it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="{escape(about)}" src="data:image/png;base64,{data}">'


def quotation(text: str, language: str, prompt: str = "", note: str = "") -> str:
    """What a model wrote, the prompt before it in bold, the note below it small."""
    footer = f"<footer>{plain(note)}</footer>" if note else ""
    written = f"<b>{plain(prompt)}</b>{plain(text)}" if prompt else plain(text)
    return f'<blockquote lang="{escape(language)}">{written}{footer}</blockquote>'


def plain(text: str) -> str:
    """What a model writes must not become mark-up, nor break the page with control characters."""
    kept = (c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") else "�" for c in text)
    return escape("".join(kept))
