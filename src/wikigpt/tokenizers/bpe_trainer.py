"""Which pairs to merge, found as by `tokenizers`' BpeTrainer, in Python, in about the same time.

The naive way counts every pair of the text again before every merge. Four ideas replace that:

1. Equal pieces of text (` de`, ` la`) are merged alike, so each distinct piece is kept once, with
   its count as a weight.
2. A merge changes only the pairs that touch it. For each pair we know its positions; a merge
   visits those, and adds to and takes from the counts of its neighbours.
3. The most frequent pair is on top of a heap. Counts that went down are not searched for in the
   heap: whoever comes to the top with an old count goes back with the new one.
4. All pieces lie in one flat list, each byte at its place for ever. A token writes its id on its
   first and its last byte, so the token to the right starts where this one ends, and the token to
   the left has its id on the byte before: neighbours are found without links.

Rejected: a list of ids for each piece, rebuilt at every merge that touches it (twice as slow), and
`str.replace` over all pieces joined (fast for one merge, slow for thousands).
"""

import heapq
from array import array
from collections import defaultdict
from collections.abc import Mapping

_SHIFT = 32  # a pair is one number, left << 32 | right: smaller and faster to look up than a tuple
_BORDER = 0  # between pieces; no token that is merged has id 0, which is end-of-text


def learn_merges(
    pieces: Mapping[bytes, int], byte_ids: list[int], first_id: int, merges: int
) -> list[tuple[int, int]]:
    """The first `merges` merges; fewer if no pair is left.

    The next pair is the most frequent, and of several the one with the smallest left id, then the
    smallest right id. Windows overlap when they are counted ("aaa" holds the pair "aa" twice) and
    don't when they are merged, from the left. That is what `tokenizers` does (its counts end at
    2^31, these don't).

    Args:
        pieces: bytes that no merge may cross the border of -> how often they occur.
        byte_ids: the id of each of the 256 bytes, at least 1.
        first_id: the id of the first merge; above all byte ids.
    """
    ids, weights = [_BORDER], [0]
    for piece, count in pieces.items():
        ids += [byte_ids[byte] for byte in piece]
        ids.append(_BORDER)
        weights += [count] * (len(piece) + 1)

    counts: defaultdict[int, int] = defaultdict(int)
    positions: defaultdict[int, array] = defaultdict(lambda: array("q"))
    for position in range(1, len(ids) - 1):
        left, right = ids[position], ids[position + 1]
        if left and right:
            pair = left << _SHIFT | right
            counts[pair] += weights[position]
            positions[pair].append(position)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)

    lengths = [1] * first_id  # of each token, in bytes
    learnt: list[tuple[int, int]] = []
    while heap and len(learnt) < merges:
        old_count, pair = heapq.heappop(heap)
        count = counts.get(pair, 0)
        if count != -old_count:
            if count:
                heapq.heappush(heap, (-count, pair))
            continue
        left, right = pair >> _SHIFT, pair & (1 << _SHIFT) - 1
        new, width, new_width = len(lengths), lengths[left], lengths[left] + lengths[right]
        lengths.append(new_width)
        learnt.append((left, right))

        # The neighbours of the new token: how often, and where the pair with it starts.
        before: defaultdict[int, int] = defaultdict(int)
        after: defaultdict[int, int] = defaultdict(int)
        starts_before: defaultdict[int, list[int]] = defaultdict(list)
        starts_after: defaultdict[int, list[int]] = defaultdict(list)
        for start in positions[pair]:
            middle = start + width
            if ids[start] != left or ids[middle] != right:
                continue  # An earlier merge, or the last one in "aaa", took one of the two.
            weight, end = weights[start], start + new_width
            if neighbour := ids[start - 1]:
                before[neighbour] += weight
                starts_before[neighbour].append(start - lengths[neighbour])
            if neighbour := ids[end]:
                after[neighbour] += weight
                starts_after[neighbour].append(start)
            ids[middle] = -1  # no token starts here any more
            ids[start] = ids[end - 1] = new

        for neighbour, weight in after.items():
            counts[new << _SHIFT | neighbour] = weight
            positions[new << _SHIFT | neighbour] = array("q", starts_after[neighbour])
        for neighbour, weight in before.items():
            counts[neighbour << _SHIFT | new] = weight
            positions[neighbour << _SHIFT | new] = array("q", starts_before[neighbour])
        # In "abab" the second merge undoes what the first one noted, the pair (new, a): so first
        # everything is noted, then taken back.
        gone = [(right << _SHIFT | n, weight) for n, weight in after.items()]
        gone += [(n << _SHIFT | left, weight) for n, weight in before.items()]
        del counts[pair], positions[pair]
        for old, weight in gone:
            if old in counts:  # all but the pair itself, in "aaa"
                counts[old] -= weight
                if not counts[old]:
                    del counts[old], positions[old]
        for neighbour in after:
            if count := counts.get(new << _SHIFT | neighbour):
                heapq.heappush(heap, (-count, new << _SHIFT | neighbour))
        for neighbour in before:
            if count := counts.get(neighbour << _SHIFT | new):
                heapq.heappush(heap, (-count, neighbour << _SHIFT | new))
    return learnt
