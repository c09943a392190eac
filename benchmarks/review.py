"""How soon the page of `dispatcher review` answers at many letters: `make bench-review`.

A campaign with so many letters is sent to an smtp-sink; then every kind of page is asked for over HTTP, and the first
answer and the rest are timed. The last line is JSON: milliseconds by address, and the page's peak memory.
"""

import csv
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.measured import LONGEST, ROOT, environment, measure
from benchmarks.receiver import sink
from benchmarks.workload import Job, write_campaign

_TIMES: Final = 7
_GROUPS: Final = ("African Group", "Asia-Pacific Group", "Eastern European Group", "GRULAC", "WEOG", "")
_CITIES: Final = ("Geneva", "New York", "Vienna", "Nairobi", "Bern", "Brussels", "Phnom Penh")
ADDRESSES: Final = (
    "/",
    "/overview/live",
    "/letters",
    "/letters?after={middle}",
    "/letters?q=mission+1234",
    "/letters?q=geneva",
    "/letters?state=accepted",
    "/letters?order=state&down=1",
    "/letters?order=name",
    "/letters?order=field:city&column=field:group&value=grulac&q=1&state=accepted&down=1",
    "/letters/{middle}",
    "/letters/{middle}?q=geneva&order=field:city",
    "/letters/{middle}?view=compared",
    "/letters/{middle}?view=paper",
    "/letters/{middle}?view=source",
    "/letters/{middle}/html",
    "/letters/{middle}/page/1",
    "/letters/{middle}/pdf",
    "/log",
    "/log?after={middle}",
    "/log?text=1234",
    "/log?text=example",
    "/log?outcome=accepted&order=oldest",
    "/log?code=5.1.1&order=oldest",
    "/settle",
    "/settle/printed",
    "/settle/skipped",
    "/settle/suppressed",
)


def widened(folder: Path) -> None:
    """The list with more columns, as staff's lists have them, and the house's page on paper."""
    path = folder / "recipients.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row |= {"group": _GROUPS[number % 6], "city": _CITIES[number * 7 % 11 % 7], "code": str(number * 7919 % 99991)}
        row |= {"contact": f"Person {number % 9973}", "remark": "" if number % 1000 else "looked at by hand"}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    shutil.copy(ROOT / "templates/house/letter.typ", folder / "templates/house")


def asked(port: int, address: str, cookie: str = "") -> tuple[float, int, str]:
    """Milliseconds to the whole answer, its status, and the cookie it sets."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST)
    began = time.perf_counter()
    connection.request("GET", address, headers={"Cookie": cookie} if cookie else {})
    answer = connection.getresponse()
    answer.read()
    took = (time.perf_counter() - began) * 1000
    connection.close()
    return took, answer.status, answer.getheader("Set-Cookie", "").partition(";")[0]


def spent(process: int) -> float:
    """Milliseconds of CPU that a process has used: what says more than the clock where others are at work."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def timed(folder: Path, letters: int) -> dict[str, object]:
    """The page, begun and asked."""
    env = {**environment(), "DISPATCHER_STATE": str(folder.with_name(f"{folder.name}-state"))}
    argv = [sys.executable, "-m", "dispatcher", "review", "--no-open", "--json"]
    page = subprocess.Popen(argv, cwd=folder, env=env, stdout=subprocess.PIPE)
    try:
        assert page.stdout
        link = json.loads(page.stdout.readline())["url"]
        port = int(link.split(":")[2].partition("/")[0])
        cookie = asked(port, "/" + link.partition("/?")[2].join(("?", "")))[2]
        found: dict[str, object] = {}
        for pattern in ADDRESSES:
            address = pattern.replace("{middle}", str(letters // 2))
            before = spent(page.pid)
            answers = [asked(port, address, cookie) for _ in range(_TIMES)]
            cpu = (spent(page.pid) - before) / _TIMES
            assert {status for _, status, _ in answers} <= {200, 404, 409}, (address, answers)
            first, *rest = [took for took, _, _ in answers]
            found[pattern] = {
                "first": round(first),
                "median": round(median(rest)),
                "most": round(max(rest)),
                "cpu": round(cpu),
            }
            note = "" if answers[0][1] == 200 else f"   (status {answers[0][1]})"
            print(f"{first:8.0f} {median(rest):8.0f} {max(rest):8.0f} {cpu:8.0f}  {pattern}{note}", flush=True)
        status = Path(f"/proc/{page.pid}/status").read_text(encoding="ascii")
        found["peak"] = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024
        return found
    finally:
        page.kill()
        page.communicate()


def main() -> None:
    """`python -m benchmarks.review [letters]`."""
    letters = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as place, sink() as receiver:
        folder = write_campaign(Path(place) / "campaign", Job(letters, receiver.port))
        widened(folder)
        began = time.monotonic()
        send = (sys.executable, "-m", "dispatcher", "send", "--confirm", str(letters), "--json")
        measure(send, folder)
        print(f"{letters:,} letters sent in {time.monotonic() - began:.0f} s; milliseconds:")
        print("   first   median     most  CPU of each")
        print(json.dumps({"letters": letters, **timed(folder, letters)}))


if __name__ == "__main__":
    main()
