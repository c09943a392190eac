"""What the torture tests of a session came to, told in one line at its end (see `conftest`).

    COUNTS["kills"] += 1                 summed up over all tests
    at_most("unknown", 3, "of 8")        the largest there was, with a word on the bound it was held against

A letter that was lost or taken twice fails its test; so the line says `lost 0, double 0` only if every test passed.
"""

import os
import random
from collections import Counter

SEED = int(os.environ.setdefault("DISPATCHER_SEED", str(random.SystemRandom().getrandbits(32))))
"""Of every choice that is left to chance; DISPATCHER_SEED repeats those of an earlier round. Set for what we begin too:
tests in several processes share it.
"""
FULL = os.environ.get("DISPATCHER_TORTURE") == "full"
"""Whether this is the long round (`make torture-full`), or the small one that is part of the suite."""

COUNTS: Counter[str] = Counter()
_LARGEST: dict[str, tuple[int, str]] = {}

Told = tuple[dict[str, int], dict[str, tuple[int, str]]]
"""What one process hands to another."""


def at_most(what: str, number: int, bound: str = "") -> None:
    """Keep the largest number there was."""
    if what not in _LARGEST or number > _LARGEST[what][0]:
        _LARGEST[what] = number, bound


def told() -> Told:
    """All figures of this process."""
    return dict(COUNTS), dict(_LARGEST)


def add(others: Told) -> None:
    """Take in those of another process."""
    counts, largest = others
    COUNTS.update(counts)
    for what, (number, bound) in largest.items():
        at_most(what, number, bound)


def line(*, passed: bool) -> str:
    """All figures in one line; '' if there are none."""
    words = [f"{what} {number}" for what, number in COUNTS.items()]
    if not words:
        return ""
    words[1:1] = ["lost 0", "double 0"] if passed else ["FAILED, see above"]
    words += [f"{what} at most {number} {bound}".rstrip() for what, (number, bound) in _LARGEST.items()]
    return f"torture: {', '.join(words)} (seed {SEED})"
