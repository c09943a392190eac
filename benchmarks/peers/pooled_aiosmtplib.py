"""aiosmtplib as a pool: so many connections, each kept and given letter after letter by `send_message`; on uvloop.

Reads job.json in the working directory, prints one line of JSON. Messages are built by the standard library, one by
one, as its manual shows; the report is read once.
"""

import asyncio
import json
import resource
import time
from collections.abc import Iterator
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Any

import aiosmtplib
import uvloop


def letter(job: dict[str, Any], n: int, report: bytes | None) -> EmailMessage:
    number = f"{n:07}"
    message = EmailMessage()
    message["From"] = job["sender"]
    message["To"] = job["to"].replace("{number}", number)
    message["Subject"] = job["subject"].replace("{number}", number)
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain="kms.example.org")
    message.set_content(job["text"].replace("{number}", number), cte="quoted-printable")
    message.add_alternative(job["html"].replace("{number}", number), subtype="html", cte="quoted-printable")
    if report is not None:
        message.add_attachment(report, maintype="application", subtype="pdf", filename=job["report"])
    for name, text in job["headers"].items():  # last, for Content-Language would go into the first part
        message[name] = text.replace("{number}", number)
    return message


async def worker(job: dict[str, Any], numbers: Iterator[int], report: bytes | None) -> int:
    done = 0
    client = aiosmtplib.SMTP(hostname=job["host"], port=job["port"], start_tls=False)
    async with client:
        for n in numbers:
            await client.send_message(letter(job, n, report), sender=job["return_path"])
            done += 1
    return done


async def send(job: dict[str, Any], report: bytes | None) -> int:
    numbers = iter(range(1, job["letters"] + 1))
    return sum(await asyncio.gather(*(worker(job, numbers, report) for _ in range(job["connections"]))))


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    job = json.loads(Path("job.json").read_text(encoding="utf-8"))
    report = Path(job["report"]).read_bytes() if job["report"] else None
    began, before = time.monotonic(), cpu()
    letters = uvloop.run(send(job, report))
    print(json.dumps({"letters": letters, "seconds": time.monotonic() - began, "cpu": cpu() - before}))


if __name__ == "__main__":
    main()
