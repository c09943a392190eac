"""The command line: each command is one call to the desk, and printing. `main` is the entry point.

Exit codes: 0 all accepted · 1 our error · 2 what was given cannot be used · 3 finished with letters not accepted or
unknown · 4 relay or ledger unavailable · 5 plan conflict or another run is active · 130 interrupted.
"""

import sys

from dispatcher.core.errors import DispatcherError


def main() -> None:
    """Run the command line and exit with its code; an error people can meet is shown without a traceback."""
    from dispatcher.cli.app import app  # noqa: PLC0415 (what a command needs is loaded when it runs)
    from dispatcher.cli.output import report_error  # noqa: PLC0415

    try:
        app()
    except DispatcherError as error:
        sys.exit(report_error(error))
    except BrokenPipeError:
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
