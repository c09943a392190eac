"""The command line: each command is one call to the desk, and printing. `main` is the entry point.

Exit codes: 0 all accepted · 1 our error · 2 what was given cannot be used · 3 finished with letters not accepted or
unknown · 4 relay, ledger or disk unavailable · 5 plan conflict, approvals missing or another run is active ·
130 interrupted.

An error people can meet is shown without a traceback; with --json it is JSON, too. A traceback is a fault of ours.
"""

import os
import sys
from typing import Any

from dispatcher.core.errors import DispatcherError, Problem, Unavailable, UsageError


def main() -> None:
    """Run the command line and exit with its code."""
    code = _run()
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:  # whoever read us went away, or the disk is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        broken = isinstance(error, BrokenPipeError)
        if not broken:
            print(f"dispatcher: the output could not be written: {error.strerror}", file=sys.stderr)
        code = code or (1 if broken else Unavailable.exit_code)
    sys.exit(code)


def _run() -> Any:
    """One command, to its exit code."""
    from typer import TyperException

    from dispatcher.cli.app import app
    from dispatcher.cli.output import prepare_streams, report_error

    prepare_streams()
    as_json = "--json" in sys.argv
    error: DispatcherError
    try:
        return app(prog_name="dispatcher", standalone_mode=not as_json)
    except SystemExit as done:
        return done.code
    except DispatcherError as known:
        error = known
    except TyperException as misused:  # with --json alone; else typer shows it
        error = UsageError(Problem(misused.format_message(), todo="see: dispatcher --help"))
    except OSError as refused:
        file = f"{refused.filename}: " if refused.filename else ""
        error = Unavailable(f"{file}{refused.strerror or refused}. Check the disk and the folder's rights")
    return report_error(error, as_json=as_json)
