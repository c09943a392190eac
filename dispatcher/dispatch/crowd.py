"""How many connections at once a relay is glad of, learnt from what it says. Pure.

It begins with two and follows the relay's answers: one more after as many good ones as there are connections, one
fewer after as many refusals (Postfix calls it feedback of 1/N), never fewer than one nor more than the cap. A relay
that turns a connection away while others stand has said how many it takes.
"""

from typing import Final

_FIRST: Final = 2


class Crowd:
    """`cap` is what the campaign allows."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._share = float(min(_FIRST, cap))

    @property
    def allowed(self) -> int:
        """Connections that may stand now."""
        return int(self._share)

    def welcomed(self) -> None:
        """A letter was answered in order."""
        if self._share < self._cap:
            self._share = min(self._cap, self._share + 1 / self.allowed)

    def refused(self) -> None:
        """The relay wants fewer connections, or slower ones."""
        self._share = max(1.0, self._share - 1 / self.allowed)

    def turned_away(self, standing: int) -> None:
        """The relay let no other in beside those that stand."""
        self._cap = max(1, min(self._cap, standing))
        self._share = min(self._share, float(self._cap))
