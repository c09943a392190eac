"""The letters: a campaign folder for us, and from our own first letter the same content for the peers.

Each letter differs from all others by a number of seven digits, in its address, subject, text and HTML.
"""

import csv
import email
import email.policy
import json
import random
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

from benchmarks.measured import ROOT
from benchmarks.receiver import HOST

REPORT: Final = "report.pdf"
REPORT_SIZE: Final = 200_000
_WRITTEN_BY_ALL: Final = {"from", "to", "subject", "date", "message-id", "mime-version", "content-type"}
"""Headers that each sender writes in its own way; the others are given to it."""
_FIRST: Final = "0000001"
_MARK: Final = "{number}"
_LETTER: Final = """\
+++
subject = "Submission {{ number }} to the Universal Periodic Review"
address = "{{ name }}"
+++
{{ salutation }}

**{{ sender.organisation }}** has the honour to send to {{ name }} in Genève its submission on the situation of human
rights in Cambodia, under the number {{ number }}, for the sixth session of the Universal Periodic Review.

1. *Courts.* Judges are appointed and moved by the executive; of the cases we observed in the last four years, none that
   touched a person of influence was decided against that person.
2. *Land.* More than one hundred thousand people live under notice of eviction in the provinces that we could visit.
3. *Speech.* Three newspapers were closed, and eleven journalists were charged, since the last review.
4. *Assembly.* Permits are refused without reasons; nine marches were broken up.

We would be grateful if {{ name }} raised these points in the dialogue, and stand ready to answer your questions at
[{{ sender.reply_to }}](mailto:{{ sender.reply_to }}).

{{ close }}
"""
_LAYOUT: Final = """\
<!doctype html>
<html lang="{{ language }}" dir="{{ direction }}">
<head>
<meta charset="utf-8">
<title>{{ subject }}</title>
<style>
body { font-family: Georgia, serif; font-size: 16px; line-height: 1.5; }
p, ol { margin: 0 0 1em; }
</style>
</head>
<body>
<p>{{ letter.date_line }}</p>
<p>{{ letter.address }}</p>
<h1>{{ letter.subject }}</h1>
{{ body }}
<p>{{ letter.signature }}</p>
<p>{{ letter.footer }}</p>
</body>
</html>
"""
"""Plain, so that a letter has the 4 kB of the small one whatever the house's layout comes to."""
_CAMPAIGN: Final = """\
id = "bench"
title = "Benchmark"
date = 2009-10-01

[sender]
organisation = "Khmer M'Chas Srok"
name = "Khmer M'Chas Srok"
address = "upr@kms.example.org"
reply_to = "secretariat@kms.example.org"
return_path = "bounces@kms.example.org"
signatory = "Dr. Sakhonn CHAK"
function = "President"
postal_address = "1 Example Street, 1200 Geneva"

[letter]
template = "templates/letter.md"
attachments = [{attachments}]

[[recipients]]
source = "recipients.csv"

[relay]
host = "{host}"
port = {port}
security = "none"

[pace]
connections = {connections}
"""


@dataclass(frozen=True)
class Job:
    """One run of one sender: what it sends, to which port, over how many connections."""

    letters: int
    port: int
    connections: int = 10
    report: bool = False


@dataclass(frozen=True)
class Content:
    """What a peer needs to write the same letters: its parts, with a mark where the number goes; and one, whole."""

    sender: str
    return_path: str
    headers: Mapping[str, str]
    to: str
    subject: str
    text: str
    html: str
    whole: bytes


@lru_cache(maxsize=1)
def report() -> bytes:
    """A PDF of one empty page; most of it does not compress, as in real ones."""
    head = b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n"
    head += b"2 0 obj\n<< /Type /Pages /Kids [3 0 R] /Count 1 /MediaBox [0 0 595 842] >>\nendobj\n"
    head += b"3 0 obj\n<< /Type /Page /Parent 2 0 R >>\nendobj\n"
    places = [head.index(b"%d 0 obj" % number) for number in (1, 2, 3)]
    table = b"\nxref\n0 4\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    end = table + b"trailer\n<< /Size 4 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
    end = end % (REPORT_SIZE - len(end % REPORT_SIZE) + 1)
    return head + random.Random(1).randbytes(REPORT_SIZE - len(head) - len(end)) + end


def write_campaign(folder: Path, job: Job) -> Path:
    """A campaign folder for this job."""
    folder.mkdir(parents=True)
    templates = folder / "templates"
    (templates / "forms").mkdir(parents=True)
    (templates / "house").mkdir()
    shutil.copy(ROOT / "templates/forms/en.toml", templates / "forms")
    (templates / "house/layout.html").write_text(_LAYOUT, encoding="utf-8")
    (templates / "letter.md").write_text(_LETTER, encoding="utf-8")
    attachments = f'"{REPORT}"' if job.report else ""
    if job.report:
        (folder / REPORT).write_bytes(report())
    settings = _CAMPAIGN.format(attachments=attachments, host=HOST, port=job.port, connections=job.connections)
    (folder / "campaign.toml").write_text(settings, encoding="utf-8")
    write_list(folder / "recipients.csv", job.letters)
    return folder


def write_list(path: Path, letters: int) -> None:
    """So many rows."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("key", "email", "name", "number"))
        for n in range(1, letters + 1):
            writer.writerow((f"M{n:07}", f"mission{n:07}@missions.example.org", f"Permanent Mission {n:07}", f"{n:07}"))


def content_of(octets: bytes) -> Content:
    """The parts of our first letter, as a peer's template."""
    message = email.message_from_bytes(octets, policy=email.policy.default)
    text, html = (message.get_body((kind,)) for kind in ("plain", "html"))
    if text is None or html is None or _FIRST not in str(message["Subject"]):
        raise ValueError("our own letter is not what it was: text, HTML or number are missing")

    def marked(words: object) -> str:
        return str(words).replace(_FIRST, _MARK).replace("\r\n", "\n")

    headers = {name: marked(words) for name, words in message.items() if name.lower() not in _WRITTEN_BY_ALL}
    to, subject, plain, rich = map(marked, (message["To"], message["Subject"], text.get_content(), html.get_content()))
    return Content(str(message["From"]), "bounces@kms.example.org", headers, to, subject, plain, rich, octets)


def write_job(folder: Path, job: Job, content: Content) -> Path:
    """What a peer's program reads: job.json, and the report beside it."""
    folder.mkdir(parents=True)
    if job.report:
        (folder / REPORT).write_bytes(report())
    parts: Mapping[str, object] = asdict(replace(content, whole=b""))
    told = {**asdict(job), **parts, "host": HOST, "report": REPORT if job.report else None}
    del told["whole"]
    (folder / "job.json").write_text(json.dumps(told), encoding="utf-8")
    return folder
