"""The sender's domain against a real name server on the loopback interface: good zones, broken, slow, lame, hostile."""

import asyncio
import base64
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dispatcher.core.posture import key_bits
from dispatcher.core.preflight import Line, Status
from dispatcher.desk.posture import sender_lines
from dispatcher.lookups import Lookups
from dispatcher.relays.profiles import profiles
from dispatcher.sources.campaign import read_campaign
from tests.campaigns import SENDER, write_campaign
from tests.command import dispatcher, edit, new_campaign, set_relay
from tests.servers.names import NameServer, Odd
from tests.smtp_server import SmtpServer

RELAY = 'host = "127.0.0.1"\nport = 2525\nsecurity = "none"\n\n[preflight]\nrelay_addresses = ["192.0.2.25"]\n'
SIGNED = f'{RELAY}dkim_selectors = ["s1"]\n'


def rsa(bits: int) -> str:
    """A public key of so many bits, as it is published."""
    key = RSAPublicNumbers(65537, 2 ** (bits - 1) + 1).public_key()
    return base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def strings(text: str) -> str:
    return " ".join(f'"{text[n : n + 200]}"' for n in range(0, len(text), 200))


GOOD = f"""\
@ MX 10 mail
@ TXT "v=spf1 ip4:192.0.2.0/24 -all"
mail A 192.0.2.25
bounces MX 10 mail
s1._domainkey TXT {strings("v=DKIM1; k=rsa; p=" + rsa(2048))}
_dmarc TXT "v=DMARC1; p=reject; rua=mailto:reports@orchard.example.org"
_mta-sts TXT "v=STSv1; id=1"
"""


def without(*names: str, more: str = "", zone: str = GOOD) -> str:
    """The good zone, less the records whose lines hold one of these."""
    return "\n".join([*(row for row in zone.splitlines() if not any(name in row for name in names)), more])


def posture(
    folder: Path,
    zone: str | Mapping[str, str],
    *,
    relay: str = SIGNED,
    sender: str = "",
    odd: Mapping[str, Odd] | None = None,
) -> Mapping[str, list[Line]]:
    """The lines by what they are about; whoever sends is office@orchard.example.org."""
    write_campaign(folder, relay=f'{relay}resolver = "127.0.0.1"\n', sender=sender or SENDER)
    campaign = read_campaign(folder, profiles())
    zones = {"orchard.example.org": zone} if isinstance(zone, str) else zone
    zones = {**zones, "org": "", "example": ""}

    async def run(server: NameServer) -> Iterable[Line]:
        return await sender_lines(campaign, Lookups(server.address, seconds=0.8, each=0.2))

    found: dict[str, list[Line]] = {}
    with NameServer(zones, odd) as server:
        for line in asyncio.run(run(server)):
            found.setdefault(line.subject, []).append(line)
    return found


def one(found: Mapping[str, list[Line]], subject: str) -> Line:
    (line,) = found[subject]
    return line


# A good one.


def test_a_good_domain(tmp_path: Path) -> None:
    found = posture(tmp_path, GOOD)
    assert {line.status for lines in found.values() for line in lines} == {Status.OK}, found
    said = {subject: one(found, subject).what for subject in found}
    assert said["MX"] == "orchard.example.org: mail.orchard.example.org"
    assert said["SPF"] == "lets this relay send: 192.0.2.25 by ip4:192.0.2.0/24 of orchard.example.org"
    assert said["SPF look-ups"].startswith("orchard.example.org takes 0 of 10 look-ups: v=spf1 ")
    assert said["DKIM"] == "s1._domainkey.orchard.example.org: RSA, 2,048 bits"
    assert said["DMARC"].startswith("_dmarc.orchard.example.org: v=DMARC1; p=reject")
    assert said["alignment"].endswith("the From address passes by SPF and DKIM")
    assert said["MTA-STS"] == "v=STSv1; id=1; it is about mail to you, not these letters"
    assert said["TLS-RPT"].startswith("none; ")
    assert said["BIMI"].startswith("none; ")


# MX.


@pytest.mark.parametrize(
    ("zone", "status", "words"),
    [
        (without("@ MX"), Status.PROBLEM, "takes no mail: it has neither MX nor address"),
        (without("@ MX", more="@ A 192.0.2.80"), Status.WARNING, "has no MX; mail goes to its own address"),
        (without("@ MX", more="@ MX 0 ."), Status.PROBLEM, "says that it takes no mail (null MX)"),
    ],
)
def test_a_domain_that_takes_no_mail(tmp_path: Path, zone: str, status: Status, words: str) -> None:
    line = one(posture(tmp_path, zone), "MX")
    assert (line.status, words in line.what) == (status, True), line
    assert line.todo


def test_a_domain_that_does_not_exist(tmp_path: Path) -> None:
    line = one(posture(tmp_path, {"example.org": "@ TXT x"}), "MX")
    assert line.status is Status.PROBLEM
    assert line.what == "orchard.example.org, the domain of your address, does not exist"


def test_the_return_paths_domain_is_another(tmp_path: Path) -> None:
    """Its own MX and SPF are asked for; below the From domain it is aligned, elsewhere not."""
    sender = (
        'organisation = "O"\nname = "O"\naddress = "office@orchard.example.org"\nsignatory = "A"\n'
        'return_path = "b@{}"\nreply_to = "x@{}"\n'
    )
    below = "bounces.orchard.example.org"
    zone = without("_domainkey", more='bounces TXT "v=spf1 a:mail.orchard.example.org -all"')
    found = posture(tmp_path / "1", zone, sender=sender.format(below, below), relay=RELAY)
    assert one(found, "return path").status is Status.OK
    assert one(found, "alignment").what.endswith("the From address passes by SPF")
    strict = zone.replace("p=reject;", "p=reject; aspf=s;")
    relay = f'{RELAY}dkim_selectors = ["s2"]\n'
    line = one(posture(tmp_path / "strict", strict, sender=sender.format(below, below), relay=relay), "alignment")
    assert line.status is Status.PROBLEM
    assert "SPF does not count: it is about another domain" in line.what
    away = {"orchard.example.org": GOOD, "mailer.example": '@ MX 0 .\n@ TXT "v=spf1 ip4:192.0.2.25 -all"'}
    sender = sender.format("mailer.example", "answers.mailer.example")
    found = posture(tmp_path / "2", away, sender=sender, relay=relay)
    assert "null MX" in one(found, "return path").what
    assert one(found, "replies").what == "answers.mailer.example, the domain that answers go to, does not exist"
    assert one(found, "SPF").status is Status.OK
    line = one(found, "alignment")
    assert line.status is Status.PROBLEM
    assert "p=reject; SPF does not count: it is about another domain" in line.what


# SPF.


def spf(text: str) -> str:
    return without("v=spf1", more=f"@ TXT {strings(text)}")


@pytest.mark.parametrize(
    ("text", "status", "words", "record"),
    [
        (
            "v=spf1 mx:nobody.orchard.example.org -all",
            Status.PROBLEM,
            "192.0.2.25 gets fail: -all of orchard.example.org",
            "v=spf1 mx:nobody.orchard.example.org ip4:192.0.2.25 -all",
        ),
        ("v=spf1 ~all", Status.WARNING, "192.0.2.25 gets softfail", "v=spf1 ip4:192.0.2.25 ~all"),
        ("v=spf1 nonsense", Status.PROBLEM, "the record of orchard.example.org is wrong: ", ""),
        ("v=spf1 include:nobody.orchard.example.org -all", Status.PROBLEM, "which publishes no SPF record", ""),
    ],
)
def test_spf_that_does_not_let_the_relay_send(
    tmp_path: Path, text: str, status: Status, words: str, record: str
) -> None:
    line = one(posture(tmp_path, spf(text)), "SPF")
    assert (line.status, words in line.what) == (status, True), line
    assert line.records == ((f'orchard.example.org. 3600 IN TXT "{record}"',) if record else ())


def test_no_spf_at_all(tmp_path: Path) -> None:
    line = one(posture(tmp_path, without("v=spf1")), "SPF")
    assert (line.status, line.what) == (Status.WARNING, "orchard.example.org publishes no SPF record")
    assert line.records == ('orchard.example.org. 3600 IN TXT "v=spf1 ip4:192.0.2.25 ~all"',)


def test_two_spf_records(tmp_path: Path) -> None:
    line = one(posture(tmp_path, GOOD + '@ TXT "v=spf1 +all"'), "SPF")
    assert line.status is Status.PROBLEM
    assert line.what == "orchard.example.org publishes 2 SPF records; there must be one"


def test_too_many_look_ups(tmp_path: Path) -> None:
    includes = [f"include:s{n}.orchard.example.org" for n in range(11)]
    more = "\n".join(f's{n} TXT "v=spf1 ip4:198.51.100.{n} -all"' for n in range(11))
    line = one(posture(tmp_path, spf(f"v=spf1 ip4:192.0.2.25 {' '.join(includes)} -all") + "\n" + more), "SPF look-ups")
    assert line.status is Status.PROBLEM
    assert line.what.startswith("orchard.example.org takes 11 of 10 look-ups: v=spf1 ip4:192.0.2.25 include:")


def test_a_service_in_a_record_that_nobody_reads_to_its_end(tmp_path: Path) -> None:
    """It is named there, and yet it does not pass: then the From address does not pass by SPF either."""
    includes = " ".join(f"include:s{n}.orchard.example.org" for n in range(10))
    more = "\n".join(f's{n} TXT "v=spf1 ip4:198.51.100.{n} -all"' for n in range(10))
    zone = spf(f"v=spf1 include:nets.orchard.example.org {includes} -all") + f'\n{more}\nnets TXT "v=spf1 -all"\n'
    found = posture(tmp_path, zone, relay=INCLUDED)
    assert one(found, "SPF look-ups").status is Status.PROBLEM
    assert "passes by SPF" not in one(found, "alignment").what
    assert one(found, "alignment").status is not Status.OK


def test_spf_that_lets_everybody_send(tmp_path: Path) -> None:
    found = posture(tmp_path, spf("v=spf1 +all"))["SPF"]
    assert [line.status for line in found] == [Status.OK, Status.WARNING]
    assert found[1].what == "the record of orchard.example.org lets everybody send: +all"


INCLUDED = (
    'host = "127.0.0.1"\nport = 2525\nsecurity = "none"\n\n[preflight]\nrelay_include = "Nets.orchard.example.org"\n'
)


def test_a_service_by_its_include(tmp_path: Path) -> None:
    """Anywhere in the record's tree it counts; where it is missing, the whole record is ready to paste."""
    zone = spf("v=spf1 include:a.orchard.example.org -all") + (
        '\na TXT "v=spf1 redirect=nets.orchard.example.org"\nnets TXT "v=spf1 ip4:198.51.100.0/24 -all"\n'
    )
    line = one(posture(tmp_path / "1", zone, relay=INCLUDED), "SPF")
    assert (line.status, line.what) == (Status.OK, "lets this relay send: includes nets.orchard.example.org")
    line = one(posture(tmp_path / "2", GOOD, relay=INCLUDED), "SPF")
    what = "orchard.example.org does not include nets.orchard.example.org, where this relay's addresses are"
    assert (line.status, line.what) == (Status.PROBLEM, what)
    assert line.records == (
        'orchard.example.org. 3600 IN TXT "v=spf1 ip4:192.0.2.0/24 include:nets.orchard.example.org -all"',
    )


def test_a_profile_knows_its_include_and_selectors(tmp_path: Path) -> None:
    login = 'user = "o@orchard.example.org"\npassword = { env = "X" }\n\n[preflight]\n'
    found = posture(tmp_path, GOOD, relay=f'profile = "microsoft365"\n{login}')
    assert "does not include spf.protection.outlook.com" in one(found, "SPF").what
    assert [line.what for line in found["DKIM"]] == [
        f"selector{n}._domainkey.orchard.example.org is not published" for n in (1, 2)
    ]
    assert {line.status for line in found["DKIM"]} == {Status.WARNING}, "one of them is enough"


@pytest.mark.parametrize(("profile", "host"), [("postmark", ""), ("amazon-ses", 'host = "mail.orchard.example.org"\n')])
def test_a_service_with_a_return_path_of_its_own(tmp_path: Path, profile: str, host: str) -> None:
    """SPF is asked about its domain: ours neither stops nor helps; DKIM alone is sure, or what campaign.toml says."""
    login = f'profile = "{profile}"\n{host}user = "o"\npassword = {{ env = "X" }}\n\n[preflight]\n'
    forbids = spf("v=spf1 -all")
    found = posture(tmp_path / "1", forbids, relay=f'{login}dkim_selectors = ["s1"]\n')
    line = one(found, "SPF")
    assert (line.status, line.what.endswith("return path, not about orchard.example.org")) == (Status.OK, True), line
    assert one(found, "alignment").what.endswith("the From address passes by DKIM")
    found = posture(tmp_path / "2", GOOD, relay=f'{login}dkim_selectors = ["s2"]\n')
    line = one(found, "alignment")
    assert (line.status, line.what.partition(":")[0]) == (Status.WARNING, "unknown")
    found = posture(tmp_path / "3", forbids, relay=f'{login}relay_addresses = ["192.0.2.25"]\n')
    assert one(found, "SPF").status is Status.PROBLEM


def test_fastmails_include_and_its_three_selectors(tmp_path: Path) -> None:
    login = 'profile = "fastmail"\nuser = "o@orchard.example.org"\npassword = { env = "X" }\n\n[preflight]\n'
    found = posture(tmp_path, GOOD, relay=login)
    assert one(found, "SPF").records == (
        'orchard.example.org. 3600 IN TXT "v=spf1 ip4:192.0.2.0/24 include:spf.messagingengine.com -all"',
    )
    assert [line.what.partition(".")[0] for line in found["DKIM"]] == ["fm1", "fm2", "fm3"]


def test_a_relay_whose_way_out_is_not_known(tmp_path: Path) -> None:
    """Never guessed: what would have to be said is said."""
    relay = 'host = "127.0.0.1"\nport = 2525\nsecurity = "none"\n\n[preflight]\n'
    found = posture(tmp_path / "1", without("_domainkey"), relay=relay)
    line = one(found, "SPF")
    assert line.status is Status.WARNING
    assert line.what.startswith("unknown: whether this relay may send: the relay is this machine")
    assert "relay_addresses" in line.todo
    assert one(found, "DKIM").what.startswith("unknown: nobody has said by which selector")
    assert one(found, "alignment").what.startswith("unknown: ")
    zone = GOOD + "\nrelay A 198.51.100.25"
    found = posture(tmp_path / "2", zone, relay='host = "relay.orchard.example.org"\n\n[preflight]\n')
    line = one(found, "SPF")
    assert (line.status, "198.51.100.25 gets fail" in line.what) == (Status.WARNING, True), "it may send from another"
    named = 'server_name = "mail.orchard.example.org"'
    ways = ('host = "mail.orchard.example.org"', f'host = "127.0.0.1"\n{named}', f'host = "unix:/relay.sock"\n{named}')
    for number, way in enumerate(ways):
        found = posture(tmp_path / f"way {number}", GOOD, relay=f"{way}\n\n[preflight]\n")
        assert one(found, "SPF").status is Status.OK, "the relay is who is behind the tunnel"


def published(zone: str, line: Line) -> str:
    """The zone after somebody pasted what a line says, in place of the SPF record there was."""
    assert line.records
    of_spf = any("v=spf1" in record for record in line.records)
    old = [row for row in zone.splitlines() if not (of_spf and row.startswith('@ TXT "v=spf1'))]
    return "\n".join([*old, *line.records])


@pytest.mark.parametrize(
    ("zone", "relay", "subject"),
    [
        (spf("v=spf1 mx:nobody.orchard.example.org -all"), SIGNED, "SPF"),
        (spf("v=spf1 ~all"), SIGNED, "SPF"),
        (spf("v=spf1 redirect=other.orchard.example.org") + '\nother TXT "v=spf1 -all"', SIGNED, "SPF"),
        (spf("v=spf1 " + " ".join(f"ip4:198.51.100.{n}" for n in range(30)) + " -all"), SIGNED, "SPF"),
        (without("v=spf1"), SIGNED, "SPF"),
        (GOOD + '\nnets TXT "v=spf1 ip4:198.51.100.0/24 -all"', INCLUDED, "SPF"),
        (without("v=spf1") + '\nnets TXT "v=spf1 ip4:198.51.100.0/24 -all"', INCLUDED, "SPF"),
        (without("_dmarc"), SIGNED, "DMARC"),
    ],
)
def test_what_is_to_be_published_can_be_pasted_and_mends_it(
    tmp_path: Path, zone: str, relay: str, subject: str
) -> None:
    """In a zone file, as it stands; then all is well, and what stood in the old record stands in the new one."""
    line = one(posture(tmp_path / "1", zone, relay=relay), subject)
    assert line.status is not Status.OK
    mended = published(zone, line)
    assert one(posture(tmp_path / "2", mended, relay=relay), subject).status is Status.OK
    for term in ("mx:nobody.orchard.example.org", "redirect=other.orchard.example.org", "ip4:198.51.100.29"):
        assert (term in zone) is (term in mended.replace('" "', ""))


# What is for information.


@pytest.mark.parametrize(
    ("more", "subject", "status", "words"),
    [
        ('_smtp._tls TXT "v=TLSRPTv1; rua=mailto:r@orchard.example.org"', "TLS-RPT", Status.OK, "v=TLSRPTv1; rua=mail"),
        ('_smtp._tls TXT "v=TLSRPTv1;rua=https://orchard.example.org/r"', "TLS-RPT", Status.OK, "v=TLSRPTv1;rua=https"),
        (
            '_smtp._tls TXT "v=TLSRPTv1; r=x"',
            "TLS-RPT",
            Status.WARNING,
            "names nobody who gets the reports: v=TLSRPTv1",
        ),
        ('_smtp._tls TXT "other"', "TLS-RPT", Status.OK, "none; it is about mail to you"),
        ('default._bimi TXT "v=BIMI1; l=https://orchard.example.org/l.svg"', "BIMI", Status.OK, "v=BIMI1; l=https:"),
        ('default._bimi TXT "v=BIMI1; nonsense"', "BIMI", Status.OK, "v=BIMI1; nonsense; it is about your logo"),
        ("", "BIMI", Status.OK, "none; it is about your logo beside your letters"),
    ],
)
def test_what_is_said_of_reports_and_logos(tmp_path: Path, more: str, subject: str, status: Status, words: str) -> None:
    line = one(posture(tmp_path, f"{GOOD}\n{more}"), subject)
    assert (line.status, line.what.startswith(words)) == (status, True), line


def test_information_that_is_unknown_worries_nobody(tmp_path: Path) -> None:
    names = ("_mta-sts", "_smtp._tls", "default._bimi")
    found = posture(tmp_path, GOOD, odd={f"{name}.orchard.example.org": Odd.SERVFAIL for name in names})
    for subject in ("MTA-STS", "TLS-RPT", "BIMI"):
        line = one(found, subject)
        assert (line.status, line.what.startswith("unknown: ")) == (Status.OK, True)


# DKIM.


ED25519 = base64.b64encode(
    Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
).decode()


@pytest.mark.parametrize(
    ("records", "status", "words"),
    [
        ((), Status.PROBLEM, "is not published"),
        (("v=DKIM1; p=",), Status.PROBLEM, "is revoked: its key is empty"),
        (("v=DKIM1; p=bm8ga2V5",), Status.PROBLEM, "holds no key that can be read"),
        (("v=DKIM1; p=%%%",), Status.PROBLEM, "holds no key that can be read"),
        ((f"p={rsa(1024)}", f"p={rsa(2048)}"), Status.PROBLEM, "has 2 records"),
        ((f"v=DKIM1; p={rsa(768)}",), Status.PROBLEM, "RSA, 768 bits"),
        ((f"v=DKIM1; k=rsa; p={rsa(1024)}",), Status.WARNING, "RSA, 1,024 bits"),
        ((f"v=DKIM1; t=s:y; p={rsa(2048)}",), Status.WARNING, "RSA, 2,048 bits, as a test (t=y)"),
        ((f"k=rsa; p={rsa(4096)}",), Status.OK, "RSA, 4,096 bits"),
        ((f"v=DKIM1; k=ed25519; p={ED25519}",), Status.WARNING, "Ed25519, which not every receiver knows"),
    ],
)
def test_what_is_said_of_a_key(tmp_path: Path, records: tuple[str, ...], status: Status, words: str) -> None:
    more = "\n".join(f"s1._domainkey TXT {strings(record)}" for record in records)
    line = one(posture(tmp_path, without("_domainkey", more=more)), "DKIM")
    assert (line.status, line.what.endswith(words)) == (status, True), line


@pytest.mark.parametrize("bits", [512, 768, 1024, 1536, 2047, 2048, 4096])
def test_the_length_of_a_key(bits: int) -> None:
    key = base64.b64decode(rsa(bits)) if bits >= 768 else b""
    if key:
        assert key_bits(rsa(bits)) == bits
    number = (2 ** (bits - 1) + 1).to_bytes(bits // 8 + 1, "big")
    bare = b"\x02\x82" + len(number).to_bytes(2, "big") + number + b"\x02\x03\x01\x00\x01"
    whole = b"\x30\x82" + len(bare).to_bytes(2, "big") + bare
    assert key_bits(base64.b64encode(whole).decode()) == bits, "RSAPublicKey alone"


@pytest.mark.parametrize(
    ("above", "dmarc", "status", "words"),
    [
        ("p=reject", "", Status.OK, "passes by DKIM"),
        ("p=reject; adkim=s", "", Status.PROBLEM, "neither SPF nor DKIM passes"),
        ("p=reject; psd=y", "", Status.PROBLEM, "neither SPF nor DKIM passes"),
        ("p=none", "p=reject; psd=n", Status.PROBLEM, "neither SPF nor DKIM passes"),
    ],
)
def test_a_key_of_the_domain_above(tmp_path: Path, above: str, dmarc: str, status: Status, words: str) -> None:
    """Whoever signs may sign for that; it counts where both are one organisation's."""
    key = f"s1._domainkey TXT {strings('v=DKIM1; p=' + rsa(2048))}"
    own = f'_dmarc TXT "v=DMARC1; {dmarc}"' if dmarc else ""
    zones = {
        "orchard.example.org": without("_domainkey", "_dmarc", "v=spf1", more=f'@ TXT "v=spf1 -all"\n{own}'),
        "example.org": f'_dmarc TXT "v=DMARC1; {above}"\n{key}',
    }
    found = posture(tmp_path, zones)
    assert (one(found, "DKIM").status, one(found, "DKIM").what) == (
        Status.OK,
        "s1._domainkey.example.org: RSA, 2,048 bits",
    )
    line = one(found, "alignment")
    assert (line.status, words in line.what) == (status, True), line


def test_a_key_that_may_be_above_is_unknown(tmp_path: Path) -> None:
    line = one(posture(tmp_path, without("_domainkey"), odd={"s1._domainkey.example.org": Odd.SERVFAIL}), "DKIM")
    assert line.what.startswith("unknown: s1._domainkey.example.org: ")
    assert line.status is Status.WARNING


# DMARC and alignment.


def test_no_policy(tmp_path: Path) -> None:
    line = one(posture(tmp_path, without("_dmarc")), "DMARC")
    assert (line.status, line.what) == (Status.WARNING, "orchard.example.org publishes no policy")
    assert line.records == (
        '_dmarc.orchard.example.org. 3600 IN TXT "v=DMARC1; p=none; rua=mailto:answers@orchard.example.org"',
    )


@pytest.mark.parametrize(
    ("zone", "status", "words"),
    [
        (without("_dmarc", more='_dmarc TXT "v=DMARC1; p=maybe"'), Status.WARNING, "has no good p="),
        (GOOD + '_dmarc TXT "v=DMARC1; p=none"', Status.PROBLEM, "has 2 policies"),
    ],
)
def test_a_bad_policy(tmp_path: Path, zone: str, status: Status, words: str) -> None:
    line = one(posture(tmp_path, zone), "DMARC")
    assert (line.status, words in line.what) == (status, True)


def test_the_policy_of_the_domain_above(tmp_path: Path) -> None:
    zones = {
        "orchard.example.org": spf("v=spf1 -all").replace("_dmarc TXT", "not TXT"),
        "example.org": '_dmarc TXT "v=DMARC1; p=none; sp=quarantine"',
    }
    found = posture(tmp_path, zones, relay=f'{RELAY}dkim_selectors = ["none"]\n')
    assert one(found, "DMARC").what.startswith("_dmarc.example.org: ")
    line = one(found, "alignment")
    assert line.status is Status.PROBLEM
    assert "neither SPF nor DKIM passes, and your own policy is sp=quarantine" in line.what


def test_a_policy_of_none_lets_it_pass_with_a_word(tmp_path: Path) -> None:
    zone = spf("v=spf1 ~all").replace("p=reject", "p=none")
    line = one(posture(tmp_path, zone, relay=f'{RELAY}dkim_selectors = ["none"]\n'), "alignment")
    assert (line.status, "neither SPF nor DKIM passes" in line.what) == (Status.WARNING, True)


@pytest.mark.parametrize(
    ("record", "at", "status", "said"),
    [
        ("p=reject; sp=none", "example.org", Status.OK, "; for orchard.example.org it is sp=none"),
        ("p=quarantine", "example.org", Status.OK, "; for orchard.example.org it is p=quarantine"),
        ("p=reject; np=none", "example.org", Status.OK, "; for orchard.example.org it is p=reject"),
        ("p=quarantine; t=y", "orchard.example.org", Status.OK, "; a test (t=y), to be taken for none"),
        ("p=reject; sp=always", "example.org", Status.WARNING, "_dmarc.example.org has no good sp=: v=DMARC1; "),
    ],
)
def test_what_a_policy_is_for_this_domain(tmp_path: Path, record: str, at: str, status: Status, said: str) -> None:
    zones = {"orchard.example.org": without("_dmarc"), "example.org": ""}
    zones[at] += f'\n_dmarc TXT "v=DMARC1; {record}"'
    line = one(posture(tmp_path, zones), "DMARC")
    assert (line.status, said in line.what) == (status, True), line


def test_two_policies_of_which_none_counts(tmp_path: Path) -> None:
    """Those of the domain itself are named though the one above then counts; those above are nobody's matter else."""
    two = '_dmarc TXT "v=DMARC1; p=none"\n_dmarc TXT "v=DMARC1; p=reject"'
    one_above = {"orchard.example.org": without("_dmarc", more=two), "example.org": '_dmarc TXT "v=DMARC1; p=none"'}
    line = one(posture(tmp_path / "1", one_above), "DMARC")
    assert (line.status, line.what) == (Status.PROBLEM, "_dmarc.orchard.example.org has 2 policies")
    assert one(posture(tmp_path / "2", {"orchard.example.org": GOOD, "example.org": two}), "DMARC").status is Status.OK
    line = one(posture(tmp_path / "3", {"orchard.example.org": without("_dmarc"), "example.org": two}), "DMARC")
    assert (line.status, line.what) == (Status.PROBLEM, "_dmarc.example.org has 2 policies")


AWAY = (
    'organisation = "O"\nname = "O"\naddress = "office@orchard.example.org"\nsignatory = "A"\n'
    'return_path = "b@mailer.example.org"\n'
)


@pytest.mark.parametrize(
    ("above", "status", "words"),
    [
        ('_dmarc TXT "v=DMARC1; p=none"', Status.OK, "passes by SPF"),
        ('_dmarc TXT "v=DMARC1; p=reject; psd=y"', Status.PROBLEM, "SPF does not count"),
        ("", Status.PROBLEM, "SPF does not count"),
    ],
)
def test_a_sister_domain_counts_below_an_organisation_alone(
    tmp_path: Path, above: str, status: Status, words: str
) -> None:
    """Under a registry's name, or where nothing joins the two, SPF is about another domain."""
    zones = {
        "orchard.example.org": without("_domainkey"),
        "mailer.example.org": '@ MX 10 m\n@ TXT "v=spf1 ip4:192.0.2.25 -all"',
        "example.org": above,
    }
    line = one(posture(tmp_path, zones, sender=AWAY, relay=f'{RELAY}dkim_selectors = ["s1"]\n'), "alignment")
    assert (line.status, words in line.what) == (status, True), line


def test_what_joins_two_domains_may_be_unknown(tmp_path: Path) -> None:
    zones = {
        "orchard.example.org": without("_domainkey"),
        "mailer.example.org": '@ MX 10 m\n@ TXT "v=spf1 ip4:192.0.2.25 -all"',
        "example.org": "",
    }
    odd = {"_dmarc.example.org": Odd.SERVFAIL}
    found = posture(tmp_path, zones, sender=AWAY, relay=f'{RELAY}dkim_selectors = ["s1"]\n', odd=odd)
    assert one(found, "DMARC").status is Status.OK, "the domain's own policy is known"
    line = one(found, "alignment")
    assert (line.status, line.what.partition(":")[0]) == (Status.WARNING, "unknown")


# Name servers that misbehave.


@pytest.mark.parametrize("odd", [Odd.SILENT, Odd.SERVFAIL, Odd.REFUSED, Odd.LAME, Odd.GARBAGE, Odd.FOREIGN])
def test_what_was_not_answered_is_unknown(tmp_path: Path, odd: Odd) -> None:
    """For each record by itself; never missing, never a problem, and what depends on it is unknown as well."""
    names = {"MX": "", "SPF": "", "DKIM": "s1._domainkey.", "DMARC": "_dmarc."}
    for subject, name in names.items():
        folder = tmp_path / f"{subject}"
        line = one(posture(folder, GOOD, odd={f"{name}orchard.example.org": odd}), subject)
        assert line.status is Status.WARNING
        assert line.what.startswith("unknown: "), line
        assert line.records == ()
    zone = without("v=spf1", more='@ TXT "v=spf1 -all"')
    found = posture(tmp_path / "all", zone, odd={"s1._domainkey.orchard.example.org": odd})
    assert one(found, "alignment").what.startswith("unknown: ")
    assert one(found, "alignment").status is Status.WARNING


def test_a_slow_server_and_a_long_record_are_waited_for(tmp_path: Path) -> None:
    odd = {"orchard.example.org": Odd.LATE, "s1._domainkey.orchard.example.org": Odd.LARGE}
    found = posture(tmp_path, GOOD, odd=odd)
    assert {line.status for lines in found.values() for line in lines} == {Status.OK}, found


@pytest.mark.parametrize(
    "text",
    ["v=spf1 " + "a " * 2000 + "-all", "v=spf1 \\027[2Jall", "v=spf1 include:%{s}{s}{s} exists:%{zz}", "\\255" * 200],
)
def test_a_hostile_record_breaks_nothing(tmp_path: Path, text: str) -> None:
    rows = " ".join(f'"{text[n : n + 200]}"' for n in range(0, len(text), 200))
    found = posture(tmp_path, without("v=spf1", more=f"@ TXT {rows}"))
    assert any(line.status is not Status.OK for line in found["SPF"] + found.get("SPF look-ups", []))


def test_a_chain_without_an_end(tmp_path: Path) -> None:
    zone = without(
        "_dmarc", "_domainkey", more="_dmarc CNAME _dmarc\ns1._domainkey CNAME other\nother CNAME s1._domainkey"
    )
    found = posture(tmp_path, zone)
    assert one(found, "DMARC").what.startswith("unknown: ")
    assert one(found, "DKIM").what.startswith("unknown: ")


# By the command line.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return new_campaign(tmp_path / "campaign")


def test_examples_are_not_looked_up(folder: Path) -> None:
    with SmtpServer() as relay:
        set_relay(folder, f'host = "127.0.0.1"\nport = {relay.port}\nsecurity = "none"')
        done = dispatcher("preflight", folder=folder)
    assert done.code == 0
    assert re.search(r"(?m)^  ok +domain +kms\.example\.org is an example, and not looked up$", done.out)


def test_the_table_with_a_record_to_paste(folder: Path) -> None:
    zone = '@ MX 10 mail\nmail A 192.0.2.25\n@ TXT "v=spf1 -all"'
    with SmtpServer() as relay, NameServer({"kms.example.org": zone}) as server:
        set_relay(
            folder,
            f'host = "127.0.0.1"\nport = {relay.port}\nsecurity = "none"\n\n[preflight]\n'
            f'relay_addresses = ["192.0.2.25"]\nresolver = "{server.address}"',
        )
        done = dispatcher("preflight", folder=folder)
        assert done.code == 2
        assert re.search(
            r"(?m)^  problem +SPF +192\.0\.2\.25 gets fail: -all of kms\.example\.org\n"
            r" +→ publish it in place of the old record\n"
            r' +publish: kms\.example\.org\. 3600 IN TXT "v=spf1 ip4:192\.0\.2\.25 -all"$',
            done.out,
        ), done.out
        rows = dispatcher("preflight", "--json", folder=folder).json["lines"]
        (row,) = (row for row in rows if row["subject"] == "SPF")
        assert row["records"] == ['kms.example.org. 3600 IN TXT "v=spf1 ip4:192.0.2.25 -all"']


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('resolver = "ns.example.org"', "write the address of a name server"),
        ('resolver = "127.0.0.1:99999"', "write the address of a name server"),
        ('resolver = "[::1]:x"', "write the address of a name server"),
        ('relay_addresses = ["relay.example.org"]', "write IP addresses"),
        ('dkim_selectors = ["s1 ; x"]', "a selector is letters"),
        ('dkim_selector = "s1"', "unknown key 'dkim_selector'"),
    ],
)
def test_mistakes_in_campaign_toml_are_named(folder: Path, line: str, words: str) -> None:
    edit(folder / "campaign.toml", "[pace]", f"[preflight]\n{line}\n\n[pace]")
    done = dispatcher("check", folder=folder)
    assert done.code == 2
    assert words in done.err


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:5353", "::1", "[::1]", "[::1]:5353"])
def test_a_resolver_is_named_by_its_address(folder: Path, address: str) -> None:
    edit(folder / "campaign.toml", "[pace]", f'[preflight]\nresolver = "{address}"\n\n[pace]')
    assert dispatcher("check", folder=folder).code == 0
