"""mailmerge, its own command in this process, so that its imports are not counted as sending.

Reads job.json in the working directory, writes mailmerge's three files, and prints one line of JSON. mailmerge shows
every letter on stdout, which goes nowhere here; it sends one letter after the other, each on a connection of its own.
"""

import contextlib
import csv
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

from mailmerge.__main__ import main as mailmerge

_TEMPLATE = """\
TO: {to}
SUBJECT: {subject}
FROM: {sender}
{headers}MIME-Version: 1.0
Content-Type: multipart/alternative; boundary="boundary"

--boundary
Content-Type: text/plain; charset=utf-8

{text}
--boundary
Content-Type: text/html; charset=utf-8

{html}
--boundary--
"""


def write_files(job: dict[str, Any]) -> None:
    parts = {name: job[name].replace("{number}", "{{number}}") for name in ("to", "subject", "text", "html")}
    headers = {**job["headers"], **({"ATTACHMENT": job["report"]} if job["report"] else {})}
    lines = "".join(f"{name}: {text}\n" for name, text in headers.items()).replace("{number}", "{{number}}")
    template = _TEMPLATE.format(**parts, sender=job["sender"], headers=lines)
    Path("mailmerge_template.txt").write_text(template, encoding="utf-8")
    server = f"[smtp_server]\nhost = {job['host']}\nport = {job['port']}\n"
    Path("mailmerge_server.conf").write_text(server, encoding="utf-8")
    with Path("mailmerge_database.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["number"])
        rows.writerows([f"{n:07}"] for n in range(1, job["letters"] + 1))


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    job = json.loads(Path("job.json").read_text(encoding="utf-8"))
    write_files(job)
    began, before = time.monotonic(), cpu()
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
        mailmerge(["--no-dry-run", "--no-limit", "--output-format", "text"], standalone_mode=False)
    seconds, spent = time.monotonic() - began, cpu() - before
    print(json.dumps({"letters": job["letters"], "seconds": seconds, "cpu": spent}))


if __name__ == "__main__":
    main()
