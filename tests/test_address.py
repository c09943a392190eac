"""Cells of a list → mailboxes: what is taken, what is refused and in which words, what counts as the same mailbox."""

import unicodedata

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher.core.address import AddressError, is_reserved, parse_mailboxes
from dispatcher.core.headers import FORBIDDEN
from tests.naughty import CONTROLS, NAUGHTY

GOOD = [
    # cell, (address, name) of each mailbox
    ("jane@example.org", [("jane@example.org", "")]),
    ("  jane@example.org\u00a0 ", [("jane@example.org", "")]),
    ("<jane@example.org>", [("jane@example.org", "")]),
    ("Jane Doe <jane@example.org>", [("jane@example.org", "Jane Doe")]),
    ("Jane Doe<jane@example.org>", [("jane@example.org", "Jane Doe")]),
    ('"Doe, Jane" <jane@example.org>', [("jane@example.org", "Doe, Jane")]),
    ('"Doe; \\"J\\" \\\\ <x>" <jane@example.org>', [("jane@example.org", 'Doe; "J" \\ <x>')]),
    ("Iran (Islamic Republic of) <m@example.org>", [("m@example.org", "Iran (Islamic Republic of)")]),
    ("Dr. O'Brien <o'brien@example.org>", [("o'brien@example.org", "Dr. O'Brien")]),
    ("Tu\u0308rkiye <m@example.org>", [("m@example.org", "Türkiye")]),
    ("ខ្មែរ <m@example.org>", [("m@example.org", "ខ្មែរ")]),
    ("a@example.org,b@example.org", [("a@example.org", ""), ("b@example.org", "")]),
    (
        '"Doe, J" <j@a.example> , Ann <ann@b.example>, c@c.example',
        [("j@a.example", "Doe, J"), ("ann@b.example", "Ann"), ("c@c.example", "")],
    ),
    ("jane+tag.x@example.org", [("jane+tag.x@example.org", "")]),
    ("!#$%&'*+-/?=^_`{|}~@example.org", [("!#$%&'*+-/?=^_`{|}~@example.org", "")]),
    ("JANE@Mail.EXAMPLE.org", [("JANE@mail.example.org", "")]),
    ("Info@example.org", [("Info@example.org", "")]),
    ("jane@faß.example", [("jane@xn--fa-hia.example", "")]),
    ("jane@MÜNCHEN.example", [("jane@xn--mnchen-3ya.example", "")]),
    ("jane@mu\u0308nchen.example", [("jane@xn--mnchen-3ya.example", "")]),
    ("jane@xn--mnchen-3ya.example", [("jane@xn--mnchen-3ya.example", "")]),
    ("Ju\u0308rgen@example.org", [("Jürgen@example.org", "")]),
    ("jane@mission.invalid", [("jane@mission.invalid", "")]),
    ("jane@mission.test", [("jane@mission.test", "")]),
    ("jane@mission.example", [("jane@mission.example", "")]),
    ("jane@localhost", [("jane@localhost", "")]),
    ("jane@LOCALHOST", [("jane@localhost", "")]),
    ("jane@mail.localhost", [("jane@mail.localhost", "")]),
    ("x" * 64 + "@example.org", [("x" * 64 + "@example.org", "")]),
]

BAD = [
    # cell, what the message must say
    ("", "no address"),
    ("  ", "no address"),
    ("jane", "no @"),
    ("Doe, Jane <jane@example.org>", "double quotes"),
    ("jane.example.org", "no @"),
    ("jane＠example.org", "full-width"),
    ("@example.org", "before the @"),
    ("jane@", "after the @"),
    ("jane@@example.org", "more than one @"),
    ("a@example.org b@example.org", "space inside"),
    ("jane doe@example.org", "space inside"),
    ("jane@example .org", "space inside"),
    ("jane@exam\u00a0ple.org", "space inside"),
    ("a@example.org;b@example.org", "comma"),
    ("Group: a@example.org, b@example.org;", "comma"),
    ("a@example.org,", "comma with no address"),
    ("a@example.org,,b@example.org", "comma with no address"),
    ("a@example.org, A@EXAMPLE.org", "twice"),
    ('"Doe, Jane <jane@example.org>', "not closed"),
    ('Jane "JD" Doe <jane@example.org>', "in quotes"),
    ("Jane > Doe <jane@example.org>", "in quotes"),
    ("Jane <jane@example.org", "end with >"),
    ("Jane <jane@example.org> Doe", "end with >"),
    ("Jane <>", "between < and >"),
    ("jane@example.org>", "invalid characters"),
    ('"jane doe"@example.org', "space inside"),
    ('"jane"@example.org', "in quotes cannot"),
    ("jane@[192.0.2.1]", "IP number"),
    ("jane@192.0.2.1", "not an address|top-level"),
    ("jane@example", "period"),
    ("jane@test", "period"),
    ("jane@example..org", "two periods"),
    ("jane@example.org.", "period"),
    ("jane@-example.org", "hyphen"),
    ("jane@exa_mple.org", "invalid characters"),
    ("jane@xn--a.example", "IDNA|invalid"),
    (".jane@example.org", "start with a period"),
    ("jane.@example.org", "period immediately before"),
    ("ja..ne@example.org", "two periods"),
    ("jane(work)@example.org", "invalid characters"),
    ("jane@example.org (work)", "space inside"),
    ("mailto:jane@example.org", "leave out mailto"),
    ("=?utf-8?q?a=0D=0Ab?=@example.org", "encoded word"),
    ("x" * 65 + "@example.org", "64 octets"),
    ("é" * 33 + "@example.org", "64 octets"),
    ("x" * 100_000 + "@example.org", "254 octets"),
    ("xyz@" + ".".join(["y" * 60] * 4) + ".example", "too many|254 octets"),
    ("ja\u200bne@example.org", "ZERO WIDTH SPACE"),
    ("jane@exam\u00adple.org", "SOFT HYPHEN"),
    ("\ufeffjane@example.org", "ZERO WIDTH NO-BREAK SPACE"),
    ("ja\u202ene@example.org", "RIGHT-TO-LEFT OVERRIDE"),
    ("jane\u037eb@example.org", "normalization"),
    ("jane@example.org\n", "line feed"),
    ("jane@example.org\r\nRCPT TO:<victim@example.org>", "carriage return"),
    ("Ja\tne <jane@example.org>", "a tab"),
    ("Ja\0ne <jane@example.org>", "a NUL"),
    ("Ja\u2028ne <jane@example.org>", r"U\+2028"),
    ("Ja\ud800ne <jane@example.org>", r"U\+D800"),
]

TWINS = [
    ("Jane@Example.ORG", "jane@example.org"),
    ("JÜRGEN@example.org", "ju\u0308rgen@example.org"),
    ("jane@münchen.example", "jane@XN--MNCHEN-3YA.example"),
    ("jane@MÜNCHEN.example", "jane@mu\u0308nchen.example"),
    ("Jane Doe <jane@example.org>", "jane@example.org"),
]

STRANGERS = [
    ("jane+a@example.org", "jane@example.org"),
    ("ja.ne@example.org", "jane@example.org"),
    ("jane@faß.example", "jane@fass.example"),
    ("jane@example.org", "jane@mail.example.org"),
    ("jürgen@example.org", "jurgen@example.org"),
]


@pytest.mark.parametrize(("cell", "expected"), GOOD)
def test_good_cells(cell: str, expected: list[tuple[str, str]]) -> None:
    assert [(m.address, m.name) for m in parse_mailboxes(cell)] == expected


@pytest.mark.parametrize(("cell", "words"), BAD)
def test_bad_cells_are_refused_in_words_that_can_be_printed(cell: str, words: str) -> None:
    with pytest.raises(AddressError, match=words) as caught:
        parse_mailboxes(cell)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("one", "other"), TWINS)
def test_twins_have_one_identity(one: str, other: str) -> None:
    assert parse_mailboxes(one)[0].identity == parse_mailboxes(other)[0].identity


@pytest.mark.parametrize(("one", "other"), STRANGERS)
def test_strangers_have_two_identities(one: str, other: str) -> None:
    """Plus-tags and dots are not ours to interpret, and IDNA 2008 keeps ß apart from ss."""
    assert parse_mailboxes(one)[0].identity != parse_mailboxes(other)[0].identity


@pytest.mark.parametrize("control", CONTROLS)
def test_no_control_character_anywhere_in_a_cell(control: str) -> None:
    for cell in (f"{control}a@example.org", f"a@example.org{control}", f"N{control} <a@example.org>", control):
        with pytest.raises(AddressError):
            parse_mailboxes(cell)


@pytest.mark.parametrize("text", NAUGHTY)
def test_naughty_cells_never_make_an_unsafe_mailbox(text: str) -> None:
    """Whatever stands in a cell: it is refused, or every part of what comes of it is safe in an SMTP command."""
    for cell in (text, f"{text}@example.org", f"jane@{text}.example", f"{text} <jane@example.org>"):
        _require_safe(cell)


@given(st.text(max_size=40))
@example("a@b.example\u2028")
def test_any_text_at_all_is_refused_or_safe(text: str) -> None:
    for cell in (text, f"{text}@example.org", f"jane@{text}.example", f"{text} <jane@example.org>"):
        _require_safe(cell)


@given(st.text("aZ9.-_é\u3002@xn", max_size=12), st.sampled_from(["", ".example", ".org", ".9", "." + "y" * 250]))
@example("xn--mnchen-3ya", ".example")
@example("xn--a", ".example")
@example("localhost", "")
@example("a.local", "host")
def test_what_is_known_of_a_domain_is_what_the_library_says_of_each_address_there(start: str, end: str) -> None:
    """The verdict on a domain is kept, for a list has many addresses there."""
    for local in ("jane", "x", "a.b+c", "y" * 60):
        spec = f"{local}@{start}{end}"
        try:
            known = validate_email(spec, check_deliverability=False, globally_deliverable=spec[-9:] != "localhost")
        except EmailNotValidError:
            with pytest.raises(AddressError):
                parse_mailboxes(spec)
        else:
            assert parse_mailboxes(spec)[0].address == f"{local}@{known.ascii_domain}"


def _require_safe(cell: str) -> None:
    try:
        mailboxes = parse_mailboxes(cell)
    except AddressError:
        with pytest.raises(AddressError) as caught:
            parse_mailboxes(cell)
        assert str(caught.value).isprintable()
        return
    for mailbox in mailboxes:
        local, _, domain = mailbox.address.partition("@")
        assert not any(c.isspace() or c in '<>()[],;:"\\@' for c in local)
        assert domain.isascii()
        assert domain == domain.lower()
        assert "." in domain or domain == "localhost"
        assert all(label.replace("-", "").isalnum() for label in domain.split("."))
        assert mailbox.address == unicodedata.normalize("NFC", mailbox.address)
        assert len(local.encode()) <= 64
        assert len(mailbox.address.encode()) <= 254
        assert not FORBIDDEN.search(mailbox.name)


@given(st.text("abcXYZ.-+_éßΣİǅ", min_size=1, max_size=12), st.sampled_from(["Example.org", "faß.example", "b.test"]))
def test_what_was_parsed_parses_to_itself(local: str, domain: str) -> None:
    """The address and the identity are fixed points: a list written from a list is the same list."""
    try:
        (mailbox,) = parse_mailboxes(f"{local}@{domain}")
    except AddressError:
        return
    assert parse_mailboxes(mailbox.address) == (mailbox,)
    assert parse_mailboxes(mailbox.identity)[0].identity == mailbox.identity
    assert parse_mailboxes(mailbox.address.swapcase())[0].identity == mailbox.identity or not local.isascii()


@pytest.mark.parametrize(
    "domain",
    [
        "example", "a.example", "example.com", "example.net", "example.org", "mail.example.org", "EXAMPLE.Org",
        "invalid", "a.b.invalid", "test", "a.test", "localhost", "a.localhost", "example.org.", "jane@example.org",
        "jane@deep.below.example.com",
    ],
)  # fmt: skip
def test_reserved(domain: str) -> None:
    assert is_reserved(domain)


@pytest.mark.parametrize(
    "domain",
    ["", "@", "notexample.org", "example.org.zz", "example.zz", "org", "example@a.zz", "latest", "mytest", "local"],
)
def test_not_reserved(domain: str) -> None:
    assert not is_reserved(domain)
