"""The dispatch loop: letters of a ledger to a relay, one run at a time.

terms      what a run is told, and what it says of itself
record     what happened to each letter, into the ledger; and when going on would do harm
loop       the workers, their letters and their connections
"""

from dispatcher.dispatch.loop import Dispatch
from dispatcher.dispatch.terms import Close, Prepare, Prepared, Report, Settings, Sign, Tally

__all__ = ["Close", "Dispatch", "Prepare", "Prepared", "Report", "Settings", "Sign", "Tally"]
