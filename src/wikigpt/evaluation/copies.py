"""Which words of a text are in the training text, and how long a piece of it was copied.

Both are exact, and found in one pass over the training text, of which nothing is held: only the
texts to be judged are in memory, as a suffix automaton (Blumer et al., 1985). That is the smallest
machine that recognises every stretch of them; the training text runs through it word by word, about
a million words a second, and each state remembers the longest stretch with which it was met.
Rejected: an index of the training text, which is as large as that; hashes of n-grams, which need n
beforehand, and room for every n.

A word is a run of letters, a number a run of digits; any other visible character stands for itself.
So « l’été 1905, » is l, ’, été, 1905 and a comma, whatever tokens a model has. A word exists if the
training text holds it, in capitals or not; misprints there exist too. Copies keep to capitals, pass
over white space, and end where an article ends.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import regex

_WORD = regex.compile(r"[\p{L}\p{M}]+|\p{N}+|[^\s\p{L}\p{M}\p{N}]")


def words_of(text: str) -> list[str]:
    """The words, numbers and signs of a text, in order."""
    return _WORD.findall(text)


def cut(text: str, count: int) -> str:
    """The beginning of a text, up to and with its `count`-th word; all of it if it has no more."""
    end = 0
    for number, match in enumerate(_WORD.finditer(text), start=1):
        if number > count:
            return text[:end]
        end = match.end()
    return text if count else ""


@dataclass(frozen=True)
class Origin:
    """What of a text was in the training text."""

    words: int
    """Words of letters only."""
    unknown: tuple[str, ...]
    """Those of them that the training text never holds, in order, as often as they stand there."""
    copied: int
    """Length of the longest stretch that stands in the training text word by word, in words,
    numbers and signs."""
    copy: str
    """That stretch."""


def origins(texts: Sequence[str], training: Iterable[str]) -> list[Origin]:
    """For each text what of it is in the training text, which is read once and not held."""
    spans = [[match.span() for match in _WORD.finditer(text)] for text in texts]
    words = [words_of(text) for text in texts]
    # A number after each text, which is no word, so that no stretch goes across.
    automaton = SuffixAutomaton([w for i, found in enumerate(words) for w in [*found, i]])
    unknown = {w.lower() for found in words for w in found if w[0].isalpha()}
    longest = [0] * len(automaton)
    for document in training:
        found = words_of(document)
        unknown.difference_update(w.lower() for w in found)
        automaton.meet(found, longest)
    automaton.settle(longest)
    result = []
    for text, found, places in zip(texts, words, spans, strict=True):
        copied, last, state = 0, 0, 0
        for i, w in enumerate(found):
            state = automaton.edges[state][w]
            if longest[state] > copied:
                copied, last = longest[state], i
        copy = text[places[last - copied + 1][0] : places[last][1]] if copied else ""
        letters = [w for w in found if w[0].isalpha()]
        missing = tuple(w for w in letters if w.lower() in unknown)
        result.append(Origin(len(letters), missing, copied, copy))
    return result


class SuffixAutomaton:
    """All stretches of a sequence; one state for those that end at the same places."""

    def __init__(self, sequence: Iterable[object]) -> None:
        self.edges: list[dict[object, int]] = [{}]
        self.link = [-1]
        """The state of the longest suffix that ends at more places."""
        self.length = [0]
        """Of the longest stretch in the state; the shortest is one longer than that of its link."""
        self.first = [0]
        """Where its first occurrence ends, counted from 1."""
        last = 0
        for item in sequence:
            last = self._append(last, item)

    def __len__(self) -> int:
        return len(self.edges)

    def _append(self, last: int, item: object) -> int:
        new = self._add({}, self.length[last] + 1, self.length[last] + 1)
        state = last
        while state >= 0 and item not in self.edges[state]:
            self.edges[state][item] = new
            state = self.link[state]
        if state < 0:
            self.link[new] = 0
            return new
        target = self.edges[state][item]
        if self.length[target] != self.length[state] + 1:
            # Its longest stretches end at fewer places than the others from now on: split it.
            copy = self._add(dict(self.edges[target]), self.length[state] + 1, self.first[target])
            self.link[copy] = self.link[target]
            self.link[target] = copy
            while state >= 0 and self.edges[state].get(item) == target:
                self.edges[state][item] = copy
                state = self.link[state]
            target = copy
        self.link[new] = target
        return new

    def _add(self, edges: dict[object, int], length: int, first: int) -> int:
        self.edges.append(edges)
        self.link.append(0)
        self.length.append(length)
        self.first.append(first)
        return len(self.edges) - 1

    def from_longest(self) -> list[int]:
        """All states but the first, those with the longest stretches before the others."""
        return sorted(range(1, len(self)), key=self.length.__getitem__, reverse=True)

    def meet(self, sequence: Iterable[object], longest: list[int]) -> None:
        """Run another sequence through; `longest` has for each state the longest stretch met."""
        edges, link, lengths = self.edges, self.link, self.length
        state = length = 0
        for item in sequence:
            while state and item not in edges[state]:
                state = link[state]
                length = lengths[state]
            state = edges[state].get(item, 0)
            if state:
                length += 1
                if length > longest[state]:
                    longest[state] = length

    def settle(self, longest: list[int]) -> None:
        """After `meet`: what was met has suffixes, which were met too; what was not, may have."""
        order = self.from_longest()
        for state in order:
            if longest[state] and (suffix := self.link[state]):
                longest[suffix] = self.length[suffix]
        for state in reversed(order):
            longest[state] = longest[state] or longest[self.link[state]]

    def longest_repeat(self) -> int:
        """Length of the longest stretch that stands at two places without overlap."""
        last, best = self.first[:], 0
        for state in self.from_longest():
            best = max(best, min(self.length[state], last[state] - self.first[state]))
            suffix = self.link[state]
            last[suffix] = max(last[suffix], last[state])
        return best
