"""How old something must be, as people write it: `2y`, `18m`, `90d`."""

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from dispatcher.core.errors import Problem, UsageError

_AGE: Final = re.compile(r"([1-9][0-9]{0,4})\s*([ymd])", re.IGNORECASE)
_WORDS: Final = {"y": "year", "m": "month", "d": "day"}


@dataclass(frozen=True, slots=True)
class Age:
    """So many years, months or days of the calendar."""

    count: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> "Age":
        """Raises UsageError."""
        found = _AGE.fullmatch(text.strip())
        if not found:
            todo = "write years, months or days, such as 2y, 18m or 90d"
            raise UsageError(Problem(f"--older-than '{text}' is no length of time", todo=todo))
        return cls(int(found[1]), found[2].lower())

    def __str__(self) -> str:
        return f"{self.count} {_WORDS[self.unit]}" + ("" if self.count == 1 else "s")

    def before(self, now: datetime) -> datetime:
        """The moment that long ago; on the last day of a month that has no such day. Raises UsageError."""
        try:
            if self.unit == "d":
                return now - timedelta(days=self.count)
            months = self.count * (12 if self.unit == "y" else 1)
            year, month = divmod(now.year * 12 + now.month - 1 - months, 12)
            return now.replace(year=year, month=month + 1, day=min(now.day, monthrange(year, month + 1)[1]))
        except (ValueError, OverflowError):
            todo = "nothing is as old as that; write less"
            raise UsageError(Problem(f"{self} ago there was no calendar", todo=todo)) from None
