"""A second opinion by checkdmarc, asked of a real name server; it speaks to nobody else, and is not needed."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from dispatcher.core.opinion import Opinion, opinion_lines
from dispatcher.core.preflight import Line, Status
from dispatcher.desk.posture import sender_lines
from dispatcher.doctor import opinions
from dispatcher.lookups import Lookups
from dispatcher.relays.profiles import profiles
from dispatcher.sources.campaign import read_campaign
from tests.campaigns import write_campaign
from tests.command import REPOSITORY, dispatcher, environment, new_campaign, set_relay
from tests.servers.names import NameServer, Odd
from tests.smtp_server import SmtpServer
from tests.test_posture import GOOD, SIGNED, without

PLAIN = without("_mta-sts")
ALL = ("SPF", "DMARC", "TLS-RPT", "MTA-STS")


def consulted(folder: Path, zone: str, odd: Mapping[str, Odd] | None = None) -> tuple[list[Line], list[Line]]:
    """Our own lines, and those of the second opinion."""
    consult = partial(opinions, seconds=3.0, each=0.4)
    with NameServer({"orchard.example.org": zone, "org": "", "example": ""}, odd) as server:
        write_campaign(folder, relay=f'{SIGNED}resolver = "{server.address}"\n')
        campaign = read_campaign(folder, profiles())

        async def run() -> list[Line]:
            dns = Lookups(server.address, seconds=0.8, each=0.2)
            return list(await sender_lines(campaign, dns, consult=consult))

        found = asyncio.run(run())
    theirs = [line for line in found if line.subject == "checkdmarc"]
    return [line for line in found if line not in theirs], theirs


# What it says.


def test_what_both_find_is_one_line(tmp_path: Path) -> None:
    zone = PLAIN + '\n_mta-sts TXT "v=STSv1; id=1"\n_smtp._tls TXT "v=TLSRPTv1; rua=mailto:x@orchard.example.org"'
    _, theirs = consulted(tmp_path, zone)
    expected = "finds as above: SPF, DMARC, TLS-RPT, MTA-STS good"
    assert [(line.status, line.what) for line in theirs] == [(Status.OK, expected)]


def test_what_is_missing_is_missing_to_both(tmp_path: Path) -> None:
    _, theirs = consulted(tmp_path, without("v=spf1", "_dmarc", zone=PLAIN))
    (line,) = theirs
    expected = "finds as above: SPF, DMARC, TLS-RPT, MTA-STS missing or wrong"
    assert (line.status, line.what) == (Status.OK, expected)


def test_it_knows_what_we_do_not_look_at(tmp_path: Path) -> None:
    """A name in SPF that leads nowhere; reports for a domain that has not said it wants them (RFC 9990)."""
    zone = PLAIN.replace("-all", "mx:nobody.orchard.example.org -all")
    zone = zone.replace("reports@orchard.example.org", "reports@nobody.example")
    ours, theirs = consulted(tmp_path, zone)
    assert {line.status for line in ours if line.subject in ("SPF", "DMARC")} == {Status.OK}
    warned = [line.what for line in theirs if line.status is Status.WARNING]
    assert any(what.startswith("SPF: ") and "nobody.orchard.example.org" in what for what in warned)
    assert any(what.startswith("DMARC: ") and "nobody.example" in what for what in warned)


def test_where_it_differs_both_are_shown(tmp_path: Path) -> None:
    """More than two names of a record that lead nowhere end SPF for receivers that get so far (RFC 7208 §4.6.4)."""
    record = "v=spf1 ip4:192.0.2.25 " + " ".join(f"a:n{n}.orchard.example.org" for n in range(3)) + " -all"
    ours, theirs = consulted(tmp_path, without("v=spf1", more=f'@ TXT "{record}"', zone=PLAIN))
    assert [line.status for line in ours if line.subject == "SPF"] == [Status.OK]
    (line,) = (line for line in theirs if line.what.startswith("finds SPF wrong: "))
    assert line.status is Status.WARNING
    assert line.what.endswith("; above it is good")
    assert "look at the record" in line.todo


@pytest.mark.parametrize("odd", [Odd.SILENT, Odd.SERVFAIL, Odd.REFUSED])
def test_without_an_answer_it_is_unknown(tmp_path: Path, odd: Odd) -> None:
    _, theirs = consulted(tmp_path, PLAIN, {"_dmarc.orchard.example.org": odd})
    unknown = [line.what for line in theirs if line.what.startswith("unknown: ")]
    assert len(unknown) == 1
    assert unknown[0].startswith("unknown: DMARC: no answer about _dmarc.orchard.example.org: ")
    assert any(line.what.startswith("finds as above: SPF good; ") for line in theirs)


def test_it_is_given_up_after_a_while() -> None:
    """However many names there are to ask about."""
    record = "v=spf1 " + " ".join(f"a:n{n}.orchard.example.org" for n in range(9)) + " -all"
    odd = {f"n{n}.orchard.example.org": Odd.SILENT for n in range(9)}
    with NameServer({"orchard.example.org": f'@ TXT "{record}"'}, odd) as server:
        found = asyncio.run(
            opinions("orchard.example.org", "orchard.example.org", server.address, seconds=0.3, each=0.2)
        )
        assert len({name for name, _ in server.asked if name.startswith("n")}) <= 3
    assert [opinion.subject for opinion in found] == list(ALL)
    assert all(opinion.unknown for opinion in found)


@pytest.mark.parametrize(
    "text", ["v=spf1 include:%{s}{s}{s} exists:%{zz}", "v=spf1 \\027[2Jall", "v=spf1 " + "a " * 300]
)
def test_a_hostile_record_breaks_nothing(tmp_path: Path, text: str) -> None:
    rows = " ".join(f'"{text[n : n + 200]}"' for n in range(0, len(text), 200))
    _, theirs = consulted(tmp_path, without("v=spf1", more=f"@ TXT {rows}", zone=PLAIN))
    assert any("SPF" in line.what for line in theirs)
    assert all(len(line.what) <= 401 for line in theirs)


def test_many_remarks_are_cut() -> None:
    found = opinion_lines("x", [Opinion("SPF", "", tuple(f"remark {n}" for n in range(13)))], {"SPF": True})
    said = [line.what for line in found]
    assert len(said) == 12
    assert said[10] == "SPF: 3 more remarks"
    (line,) = opinion_lines("x", [Opinion("SPF", "", ())], {"SPF": None})
    assert line.what == "finds SPF good; above it is unknown"


LISTEN = """
import asyncio, json, sys
met = []
def heard(event, words):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        met.append([event, str(words[1] if event in ("socket.connect", "socket.sendto") else words[0])])
    elif event in ("subprocess.Popen", "os.system", "urllib.Request"):
        met.append([event, ""])
from dispatcher.doctor import opinions
sys.addaudithook(heard)
found = asyncio.run(opinions(sys.argv[1], sys.argv[1], sys.argv[2], each=0.5))
print(json.dumps([met, [[each.subject, each.error, each.unknown] for each in found]]))
"""


def test_it_speaks_to_the_resolver_alone(tmp_path: Path) -> None:
    """Nobody's web server, MX host or name server; whatever its records ask for."""
    terms = "a mx ptr exists:%{i}.orchard.example.org include:nets.orchard.example.org"
    zone = GOOD.replace("-all", f"{terms} -all") + 'nets TXT "v=spf1 ip4:198.51.100.0/24 -all"\n'
    zone += 'mta-sts A 127.0.0.1\n_smtp._tls TXT "v=TLSRPTv1; rua=https://127.0.0.1/r"\n'
    zone += 'default._bimi TXT "v=BIMI1; l=https://127.0.0.1/x.svg"\n'
    with NameServer({"orchard.example.org": zone, "org": ""}) as server:
        words = [sys.executable, "-c", LISTEN, "orchard.example.org", server.address]
        env = {**environment(), "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, timeout=60, check=True)
        assert server.asked
    assert done.stderr == b""
    met, found = json.loads(done.stdout)
    assert {address for _, address in met} == {str(("127.0.0.1", server.port))}, met
    assert [row[0] for row in found] == list(ALL)
    assert [row[0] for row in found if row[1] or row[2]] in ([], ["SPF"])
    assert {name for name, _ in server.asked} >= {"nets.orchard.example.org", "_smtp._tls.orchard.example.org"}


# By the command line.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return new_campaign(tmp_path / "campaign")


def test_only_if_somebody_asks(folder: Path) -> None:
    zone = '@ MX 10 mail\nmail A 192.0.2.25\n@ TXT "v=spf1 ip4:192.0.2.25 -all"\n'
    zone += '_dmarc TXT "v=DMARC1; p=none; rua=mailto:x@kms.example.org"'
    with SmtpServer() as relay, NameServer({"kms.example.org": zone, "org": ""}) as names:
        set_relay(
            folder,
            f'host = "127.0.0.1"\nport = {relay.port}\nsecurity = "none"\n\n[preflight]\n'
            f'relay_addresses = ["192.0.2.25"]\nresolver = "{names.address}"',
        )
        rows = dispatcher("preflight", "--json", folder=folder).json["lines"]
        assert not [row for row in rows if row["subject"] == "checkdmarc"]
        done = dispatcher("preflight", "--doctor", folder=folder)
        assert done.code == 0
        assert (
            "  ok       checkdmarc     finds as above: SPF, DMARC good; TLS-RPT, MTA-STS missing or wrong" in done.out
        )
        assert done.err == ""


def test_without_the_extra_it_says_how_to_get_it(folder: Path, tmp_path: Path) -> None:
    """Before anything else is looked at."""
    (tmp_path / "checkdmarc.py").write_text("raise ImportError('no such thing here')\n", encoding="utf-8")
    path = f"{tmp_path}:{REPOSITORY}" if sys.platform != "win32" else f"{tmp_path};{REPOSITORY}"
    done = dispatcher("preflight", "--doctor", folder=folder, env={"PYTHONPATH": path}, anew=True)
    assert done.code == 2
    assert done.out == ""
    assert "a second opinion is checkdmarc's, which is not installed" in done.err
    assert "pip install 'dispatcher[doctor]'; or leave --doctor out" in done.err


def test_a_rehearsal_asks_nobody(folder: Path) -> None:
    done = dispatcher("preflight", "--doctor", "--sandbox", folder=folder)
    assert done.code == 2
    assert "--doctor asks the DNS, and --sandbox asks nobody" in done.err
