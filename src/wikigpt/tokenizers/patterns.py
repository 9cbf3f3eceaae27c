"""Split patterns: where a text is cut into pieces before byte pairs are merged inside them.

GPT2 and GPT4 are OpenAI's, as published. They speak of `\\p{L}`, and what that is depends on the
Unicode version of whoever reads the pattern: of Python's `regex`, Oniguruma (inside `tokenizers`)
or Rust (inside `tiktoken`). In the pinned versions `regex` knows 17,480 letters, digits and marks
more than the two others, none of them `SETTLED`, so there the twins agree.

FRENCH is ours. It says by explicit ranges what is a space, a digit and a mark; a letter is
whatever is none of these. No class depends on a Unicode version, no rule looks ahead, so all
three engines cut every string alike. What it does for French:

* an elision is a piece, off the next word: `l'|homme`, ` qu’|elle`; `aujourd'hui` stays whole;
* a no-break space goes with the mark it belongs to, `«\\u00a0|ami|\\u00a0»`, and is a piece of its
  own elsewhere, `10|\\u00a0|000|\\u00a0|km`, so it makes no second form of a word or number.

On held-out leads, vocabulary 8,192: 4.07 bytes a token, with GPT2 3.91, with GPT4 3.98, with FRENCH
without its elisions 3.93.

Rejected: any word before an apostrophe as an elision (4.07 too, but doubles what stands before a
closing quote), numbers cut after three digits (4.06), a hyphen that goes with the next word (4.09,
but makes a second form of it), GPT-2's look-ahead that gives the last of many spaces to the next
word (runs of spaces are rare in prose, and without it Rust's engine needs no backtracking).
"""

import re
from collections.abc import Callable
from difflib import get_close_matches

import regex
from tokenizers import Regex, pre_tokenizers

from wikigpt.errors import UserError

GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

GPT4 = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)

# White_Space of Unicode, but for U+00A0 and U+202F, the spaces that French puts before marks.
_NO_BREAK = "\u00a0\u202f"
_SPACES = "\t-\r \u0085\u1680\u2000-\u200a\u2028\u2029\u205f\u3000"
_DIGITS = "0-9"
_MARKS = (
    r"\x00-\x08\x0e-\x1f!-/:-@\[-`{-\x7f"  # ASCII
    "\u0080-\u0084\u0086-\u009f¡-©¬-´¶-¹»-¿×÷"  # Latin-1 without ª, µ, º and without «
    "\u200b\u200e-\u2027\u202a-\u202e\u2030-\u205e\u2060-\u206f"  # General Punctuation
    "⁰-₟₠-⃏℀-⯿"  # superscripts, currencies, letterlike, arrows, mathematics, shapes
    "⸀-⹿、-〿\ufe00-\ufe0f\ufeff"  # more marks; variation selectors
    "！-／：-＠［-｀｛-･\ufff0-\uffff"  # wide marks, specials
    "\U0001f000-\U0001faff"  # pictures
)
_LETTER = f"[^{_NO_BREAK}{_SPACES}{_DIGITS}{_MARKS}«]"


def _any_case(word: str) -> str:
    """`qu` -> `[qQ][uU]`: `(?i)` folds case by the Unicode version of the engine."""
    return "".join(f"[{c}{c.upper()}]" for c in word)


_BEFORE_QU = ["", *map(_any_case, ("jus", "lors", "puis", "quoi", "quel", "pres"))]
_ELISIONS = [f"{before}{_any_case('qu')}['’]" for before in _BEFORE_QU]
_ELISIONS.append(f"[{'cçdjlmnst' + 'cçdjlmnst'.upper()}]['’]")
_ELISIONS.append(f"{_any_case('aujourd')}['’]{_any_case('hui')}")
FRENCH = "|".join(
    [
        # One group and a flat list: half again as fast as groups with a space each.
        f" ?(?:{'|'.join(_ELISIONS)}|{_LETTER}+)",
        f" ?[{_DIGITS}]+",
        f" ?«[{_NO_BREAK}]?",
        f"[ {_NO_BREAK}]?[{_MARKS}]+",
        f"[{_NO_BREAK}]",
        f"[{_SPACES}]+",
    ]
)

PATTERNS = {"gpt2": GPT2, "gpt4": GPT4, "french": FRENCH}

# Latin with its diacritics, Greek, Cyrillic and Western typography: here the three engines agree on
# every class. Not ſ and the Kelvin sign, which `(?i)` may take for s and k.
SETTLED = (
    "\x00-\u017e\u0180-\u036f\u0386-\u03ff\u0400-\u052f\u1e00-\u1eff"
    "\u2000-\u206f\u20a0-\u20bf\u2100-\u2129\u212b-\u214f"
)


def named(pattern: str) -> str:
    """`gpt2`, `gpt4` or `french` -> that pattern; any other string is taken for a pattern.

    Raises:
        UserError: it looks like one of the names, mistyped.
    """
    if pattern not in PATTERNS and (near := get_close_matches(pattern, PATTERNS, n=1)):
        raise UserError(f"There is no split pattern {pattern!r}; did you mean {near[0]}?")
    return PATTERNS.get(pattern, pattern)


def splitter(pattern: str) -> Callable[[str], list[str]]:
    """A function that cuts a text in pieces; joined, they are the text again.

    A pattern of your own is read by Oniguruma, the engine that will read it in tokenizer.json:
    `\\w` holds ² there and not in `regex`, `^` stands at every line and not in Python, and so on.
    What it does not match stays as the pieces between the matches.

    Raises:
        UserError: `pattern` is not a regular expression.
    """
    if pattern == FRENCH:  # no \\p{…} in it, so the faster engine will do
        return re.compile(pattern).findall
    if pattern in (GPT2, GPT4):  # they match every character
        return regex.compile(pattern).findall
    try:
        compiled = Regex(pattern)
    except Exception as error:  # the only class that `tokenizers` raises
        raise UserError(
            f"The split pattern {pattern!r} is not a regular expression: {error}; write one, or "
            f"one of the names {', '.join(PATTERNS)}."
        ) from None
    cut = pre_tokenizers.Split(compiled, "isolated").pre_tokenize_str
    return lambda text: [piece for piece, _ in cut(text)]
