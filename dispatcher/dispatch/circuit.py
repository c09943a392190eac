"""When to knock again at a relay that is down, or refuses us as a whole (its login, our sender). Pure.

Letters are unharmed meanwhile. A relay that was there before in this run gets a few quick tries, for it may only have
restarted. Then the circuit is open: a run that stays (`wait`) tries again after 30 s, doubling to 15 min, each time up
to a fifth sooner or later; any other run ends, and says how to go on.
"""

from collections.abc import Callable
from typing import Final

FIRST: Final = 30.0
LONGEST: Final = 900.0


class Circuit:
    """`spread` gives numbers in [-1, 1]; `quick` are the seconds before each quick try."""

    def __init__(self, spread: Callable[[], float], *, wait: bool, quick: tuple[float, ...]) -> None:
        self._spread = spread
        self._wait = wait
        self._quick = quick
        self.failures = 0
        self.reached = False
        self._stands = False  # the last failure was of a kind that stands

    def closed(self) -> None:
        """The relay is there, and takes letters."""
        self.reached, self.failures = True, 0

    def failed(self, *, stands: bool) -> bool:
        """Note a failure, one that `stands` until a person has changed something. Whether to try again in this run."""
        self.failures += 1
        self._stands = stands
        quick = self.reached and not stands and self.failures <= len(self._quick)
        return self._wait or quick

    def pause(self) -> float:
        """Seconds until the next try."""
        quick = self._quick if self.reached and not self._stands else ()
        return pause_after(self.failures, quick) * (1 + 0.2 * self._spread())


def pause_after(failures: int, quick: tuple[float, ...]) -> float:
    """Seconds to stay away after so many failures in a row: the quick ones first, then 30 s doubling to 15 min."""
    beyond = failures - 1 - len(quick)
    return quick[failures - 1] if beyond < 0 else min(LONGEST, FIRST * 2.0 ** min(beyond, 10))
