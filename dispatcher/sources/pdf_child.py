"""Opens PDF files for `sources.pdf`, in a process of its own, which may be ended if a file takes too long.

Started by its path, so that it loads nothing of ours. A line of JSON comes in for each file: a path, and of how many
pages the text is wanted. A line goes out: `pages`, and the `text` of the first ones; or `fault`, why it does not open,
in words. Ends with its input.
"""

import json
import logging
import signal
import sys
from contextlib import suppress
from typing import Any

CHARACTERS = 200_000
MEMORY = 2 * 1024**3


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us hears it, and ends us
    with suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415 (not on Windows)

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.modules["cryptography"] = None  # type: ignore[assignment]  # slow to load, and nothing is decrypted here
    import pypdf  # noqa: PLC0415 (only now)

    logging.disable()
    for line in sys.stdin:
        path, wanted = json.loads(line)
        try:
            found = _look(pypdf.PdfReader(path), wanted)
        except RecursionError:
            found = {"fault": "it is nested too deeply"}
        except MemoryError:
            found = {"fault": "it takes more than 2 GB to open"}
        except Exception as error:  # noqa: BLE001 (a damaged file makes pypdf raise nearly anything)
            found = {"fault": " ".join(str(error).split())[:200] or type(error).__name__}
        print(json.dumps(found), flush=True)


def _look(reader: Any, wanted: int) -> dict[str, Any]:
    if reader.is_encrypted:
        return {"fault": "encrypted"}
    pages = len(reader.pages)
    if not pages:
        return {"fault": "it has no page"}
    text = ""
    for number in range(min(pages, wanted)):
        with suppress(Exception):  # a page whose text cannot be had, and that is shown all the same
            text += reader.pages[number].extract_text()[: CHARACTERS - len(text)] + "\n"
    return {"pages": pages, "text": text}


if __name__ == "__main__":
    main()
