"""Look-ups against a real name server: what it says, and everything it may do instead of answering."""

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from dispatcher.core.dns import Answer, Inquiry, Kind, Question, ask
from dispatcher.lookups import Lookups
from tests.servers.names import NameServer, Odd

ZONE = """\
@ MX 20 backup
@ MX 10 Mail
mail A 192.0.2.25
mail AAAA 2001:db8::25
@ TXT "one " "record" " of three strings"
@ TXT "caf\\195\\169 \\255"
alias CNAME mail
lost CNAME nowhere.orchard.example.
round CNAME round
deep.below TXT "x"
null MX 0 .
huge TXT {strings}
silent A 192.0.2.1
servfail A 192.0.2.1
refused A 192.0.2.1
lame A 192.0.2.1
garbage A 192.0.2.1
foreign A 192.0.2.1
deaf A 192.0.2.1
late A 192.0.2.1
""".format(strings=" ".join(['"' + "y" * 250 + '"'] * 40))
ODD = {f"{each.value}.orchard.example": each for each in Odd} | {"huge.orchard.example": Odd.LARGE}


def asked(*questions: tuple[str, Kind], server: NameServer) -> Sequence[Answer]:
    """All at once, of a resolver that is not waited for long."""

    async def run() -> Sequence[Answer]:
        dns = Lookups(server.address, seconds=0.8, each=0.2)
        return await asyncio.gather(*(dns.answer(Question(name, kind)) for name, kind in questions))

    return asyncio.run(run())


@pytest.fixture(scope="module")
def server() -> Iterator[NameServer]:
    with NameServer({"orchard.example": ZONE}, ODD) as running:
        yield running


@pytest.mark.parametrize(
    ("name", "kind", "records"),
    [
        ("orchard.example", "MX", ("20 backup.orchard.example", "10 mail.orchard.example")),
        ("null.orchard.example", "MX", ("0 .",)),
        ("mail.orchard.example", "A", ("192.0.2.25",)),
        ("mail.orchard.example", "AAAA", ("2001:db8::25",)),
        ("orchard.example", "TXT", ("one record of three strings", "café \\xff")),
        ("alias.orchard.example", "A", ("192.0.2.25",)),
        ("mail.orchard.example", "MX", ()),
        ("below.orchard.example", "TXT", ()),
    ],
)
def test_what_there_is(server: NameServer, name: str, kind: Kind, records: tuple[str, ...]) -> None:
    (answer,) = asked((name, kind), server=server)
    assert (set(answer.records), answer.exists, answer.unknown) == (set(records), True, "")


@pytest.mark.parametrize("name", ["nobody.orchard.example", "lost.orchard.example"])
def test_what_there_is_not(server: NameServer, name: str) -> None:
    assert asked((name, "A"), server=server) == [Answer(exists=False)]


def test_a_record_too_long_for_udp_comes_over_tcp_and_is_cut(server: NameServer) -> None:
    (answer,) = asked(("huge.orchard.example", "TXT"), server=server)
    assert len(answer.records[0]) == 4096


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("silent", "no answer within 0.8 s"),
        ("servfail", "SERVFAIL"),
        ("refused", "REFUSED"),
        ("garbage", "no answer"),
        ("foreign", "no answer"),
        ("deaf", "no answer"),
        ("round", "CNAME chain is too long"),
        ("lame", "sends on to others"),
    ],
)
def test_what_is_no_answer_is_unknown(server: NameServer, name: str, why: str) -> None:
    """Never "there is none": that would be a guess."""
    (answer,) = asked((f"{name}.orchard.example", "A"), server=server)
    assert answer.records == ()
    assert why in answer.unknown


def test_a_late_answer_is_one(server: NameServer) -> None:
    (answer,) = asked(("late.orchard.example", "A"), server=server)
    assert answer.records == ("192.0.2.1",)


def test_another_zone_is_refused_not_missing(server: NameServer) -> None:
    (answer,) = asked(("elsewhere.example", "MX"), server=server)
    assert "REFUSED" in answer.unknown


def test_each_question_is_asked_once() -> None:
    with NameServer({"orchard.example": ZONE}) as server:
        asked(*(("orchard.example", "MX") for _ in range(50)), server=server)
        assert server.asked == [("orchard.example", "MX")]


def test_whoever_never_answers_is_given_up() -> None:
    """A hundred names do not take a hundred time-outs."""
    names = [f"silent{n}.orchard.example" for n in range(100)]
    with NameServer({"orchard.example": ZONE}, dict.fromkeys(names, Odd.SILENT)) as server:
        found = asked(*((name, "MX") for name in names), server=server)
        assert len({name for name, _ in server.asked}) <= 20
    assert all(answer.unknown for answer in found)
    assert found[-1].unknown == "the resolver does not answer"


def test_a_resolver_that_is_not_there_is_unknown() -> None:
    with NameServer({}) as server:
        pass
    (answer,) = asked(("orchard.example", "MX"), server=server)
    assert answer.unknown


@pytest.mark.parametrize("name", ["a" * 64 + ".example", "x..example", "\u00e4.example", ""])
def test_a_name_that_cannot_be_asked_is_unknown_or_missing(server: NameServer, name: str) -> None:
    (answer,) = asked((name, "A"), server=server)
    assert not answer.records
    assert answer.unknown or not answer.exists or name == ""


def test_an_inquiry_is_settled(server: NameServer) -> None:
    def inquiry() -> Inquiry[tuple[str, ...]]:
        first = yield from ask("orchard.example", "MX")
        host = min(first.records).split()[1]
        second = yield from ask(host, "A")
        return second.records

    async def run() -> tuple[str, ...]:
        return await Lookups(server.address).settle(inquiry())

    assert asyncio.run(run()) == ("192.0.2.25",)
