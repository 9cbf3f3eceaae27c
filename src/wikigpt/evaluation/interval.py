"""How far a figure measured on n texts may be off: 95 % intervals."""

import math
from collections.abc import Sequence
from statistics import stdev

Z = 1.959964
"""Standard errors on either side."""


def wilson(hits: float, n: int) -> tuple[float, float]:
    """The interval of a share, hits / n; it makes sense at 0 and at 1 too (Wilson, 1927)."""
    share, zz = hits / n, Z * Z
    middle = (share + zz / (2 * n)) / (1 + zz / n)
    half = Z / (1 + zz / n) * math.sqrt(share * (1 - share) / n + zz / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def half_width(values: Sequence[float]) -> float:
    """Of a mean: it is the mean plus or minus this; NaN for a single value, which tells nothing."""
    return Z * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
