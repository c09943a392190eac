"""Messages as octets. The standard library's two parsers are the readers; the gate is the last word."""

import binascii
import email
import hashlib
import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.message import Message as OldMessage
from email.policy import compat32, default
from email.utils import format_datetime, getaddresses
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher.core.address import AddressError, parse_mailboxes
from dispatcher.core.compose import (
    Composer,
    ContentError,
    Headers,
    boundary,
    date_line,
    dated,
    envelope_of,
    letter_digest,
    message_id,
)
from dispatcher.core.gate import GateError, gate, has_longer_line
from dispatcher.core.headers import (
    FORBIDDEN,
    HeaderError,
    address_list,
    clean_file_name,
    encoded_words,
    line,
    parameterised,
    unstructured,
)
from dispatcher.core.model import Attachment, Envelope, Mailbox, Message, Recipient, Rendering
from tests.naughty import FILE_NAMES, NAUGHTY

GOLDEN = Path(__file__).parent / "golden" / "compose"
WHEN = datetime(2009, 10, 1, 9, 30, tzinfo=timezone(timedelta(hours=2)))
REPORT = bytes(range(256)) * 40
HEADERS = Headers(
    organisation="Example Movement",
    from_=Mailbox("kms@example.org", "Khmer M’Chas Srok"),
    reply_to=Mailbox("office@example.org"),
    unsubscribe=Mailbox("stop@example.org"),
    return_path="bounces@example.org",
    boundary=boundary("upr-2009"),
)
MISSION = Recipient("CIV", (Mailbox("mission@example.org", "Côte d'Ivoire", "mission@example.org"),), language="en")
RENDERING = Rendering("Universal Periodic Review", "Dear Excellency,\n\nhello.\n", "<p>Dear Excellency,</p>\n", "en")

HEADER_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\u2028\u2029"), max_size=120).filter(
    lambda text: not FORBIDDEN.search(text)
)
BODY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=300)


def attached(octets: bytes = REPORT, name: str = "report.pdf", media_type: str = "application/pdf") -> Attachment:
    return Attachment(name, media_type, hashlib.sha256(octets).hexdigest(), len(octets))


def report(digest: str) -> bytes:
    assert digest == hashlib.sha256(REPORT).hexdigest()
    return REPORT


def composed(
    recipient: Recipient = MISSION,
    rendering: Rendering = RENDERING,
    *attachments: Attachment,
    headers: Headers = HEADERS,
) -> tuple[Message, tuple[str, ...]]:
    """A dated message of a new composer, and the fields planned for it."""
    composer = Composer(headers)
    identifier = message_id("upr-2009", "CIV", "example.org")
    message = composer.compose(recipient, rendering, identifier, attachments, report)
    return dated(message, WHEN), composer.planned(recipient)


def passed(message: Message, planned: tuple[str, ...], *, eight_bit: bool = False) -> EmailMessage:
    """The message as read, after the gate and after two parsers saw the same fields, those planned."""
    gate(message, planned, eight_bit=eight_bit)
    new, old = read(message.octets), email.message_from_bytes(message.octets, policy=compat32)
    assert tuple(new.keys()) == tuple(old.keys()) == planned
    assert [part.get_content_type() for part in new.walk()] == [part.get_content_type() for part in old.walk()]
    return new


def read(octets: bytes) -> EmailMessage:
    return email.message_from_bytes(octets, policy=default)


def read_old(octets: bytes) -> OldMessage:
    return email.message_from_bytes(octets, policy=compat32)


def decoded(raw: object) -> str:
    """A field of the old parser, unfolded and decoded by RFC 2047."""
    return str(make_header(decode_header(str(raw).replace("\r\n", ""))))


def texts(message: EmailMessage) -> tuple[str, str]:
    plain, html = (part for part in message.walk() if part.get_content_maintype() == "text")
    return plain.get_content().replace("\r\n", "\n"), html.get_content().replace("\r\n", "\n")


# ---- header fields --------------------------------------------------------------------------------------------------


def check_lines(field: bytes) -> None:
    assert field.isascii()
    assert field.endswith(b"\r\n")
    assert field.count(b"\n") == field.count(b"\r") == field.count(b"\r\n")
    for index, text in enumerate(field[:-2].split(b"\r\n")):
        assert len(text) <= 76
        assert text.strip()
        assert (text[:1] == b" ") == (index > 0)


@given(HEADER_TEXT)
@example("a" * 66 + " " * 70 + "b")
@example("=?utf-8?q?x?= y")
def test_subject_comes_back_as_it_went(text: str) -> None:
    check_subject(text)


@pytest.mark.parametrize("text", NAUGHTY)
def test_naughty_subject_is_refused_or_comes_back(text: str) -> None:
    if FORBIDDEN.search(text):
        with pytest.raises(HeaderError, match=r"^Subject: .*(U\+[0-9A-F]{4}|control)"):
            unstructured("Subject", text)
    else:
        check_subject(text)


def check_subject(text: str) -> None:
    field = unstructured("Subject", text)
    check_lines(field) if text else None
    assert read(field + b"\r\n")["Subject"] == text
    assert decoded(read_old(field + b"\r\n")["Subject"]) == text


@given(HEADER_TEXT.map(str.strip))  # a list's cells are read without blanks at their ends
@example("Iran (Islamic Republic of)")
@example('x\\" <victim@example.org>, "')
def test_display_names_come_back_as_they_went(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", NAUGHTY)
def test_naughty_display_name_is_refused_or_comes_back(name: str) -> None:
    if FORBIDDEN.search(name):
        with pytest.raises(HeaderError, match=r"^To: "):
            address_list("To", [Mailbox("jane@example.org", name)])
    else:
        check_name(name)


def check_name(name: str) -> None:
    """Both neighbours are untouched, too: no name reaches beyond its own mailbox."""
    field = address_list(
        "To", [Mailbox("a@example.org"), Mailbox("b@example.org", name), Mailbox("c@example.org", "C, c")]
    )
    check_lines(field)
    new = read(field + b"\r\n")["To"].addresses
    assert [a.addr_spec for a in new] == ["a@example.org", "b@example.org", "c@example.org"]
    # This parser puts a blank between the encoded words of a name, which RFC 2047 §6.2 says are to be joined.
    found, expected = (
        (new[1].display_name, name)
        if field.count(b"=?") < 2
        else (
            new[1].display_name.replace(" ", ""),
            name.replace(" ", ""),
        )
    )
    assert found == expected
    old = getaddresses([str(read_old(field + b"\r\n")["To"]).replace("\r\n", "")])
    assert [(decoded(n) if "=?" in n else n, a) for n, a in old] == [
        ("", "a@example.org"),
        (name, "b@example.org"),
        ("C, c", "c@example.org"),
    ]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("", b"To: jane@example.org\r\n"),
        ("Jane Doe", b"To: Jane Doe <jane@example.org>\r\n"),
        ("Dr. Doe", b'To: "Dr. Doe" <jane@example.org>\r\n'),
        ('J "D"', b'To: "J \\"D\\"" <jane@example.org>\r\n'),
        ("Doe, Jane", b'To: "Doe, Jane" <jane@example.org>\r\n'),
        ("Iran (Islamic Republic of)", b'To: "Iran (Islamic Republic of)" <jane@example.org>\r\n'),
        ("Türkiye", b"To: =?utf-8?q?T=C3=BCrkiye?= <jane@example.org>\r\n"),
        ("柬埔寨", b"To: =?utf-8?b?5p+s5Z+U5a+o?= <jane@example.org>\r\n"),
    ],
)
def test_forms_of_a_display_name(name: str, form: bytes) -> None:
    assert address_list("To", [Mailbox("jane@example.org", name)]) == form


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=150), st.integers(40, 75))
def test_each_encoded_word_decodes_by_itself(text: str, room: int) -> None:
    """No character is split between two words (RFC 2047 §5), and none is over the length."""
    words = encoded_words(text, room)
    assert max(map(len, words)) <= room
    assert "".join(decode_header(word)[0][0].decode("utf-8") for word in words) == text


@pytest.mark.parametrize(
    "address",
    [
        "", "jane", "jane@", "@example.org", "a b@example.org", "a@b@example.org", "jane@example.org>",
        "<jane@example.org", "a@example.org, b@example.org", "jane@exämple.org", '"jane"@example.org',
        "ja\r\nne@example.org", "jane@[192.0.2.1]", "=?utf-8?q?a=0D=0Ab?=@example.org",
    ],
)  # fmt: skip
def test_address_field_takes_nothing_but_an_address(address: str) -> None:
    with pytest.raises(HeaderError, match=r"^To: "):
        address_list("To", [Mailbox(address)])


def test_address_field_needs_an_address() -> None:
    with pytest.raises(HeaderError, match=r"^To: there is no address"):
        address_list("To", [])


def test_line_takes_ascii_of_bounded_length_only() -> None:
    assert line("X-Test", "y" * 990) == b"X-Test: " + b"y" * 990 + b"\r\n"
    for value in ("y" * 991, "é", "a\nb"):
        with pytest.raises(HeaderError, match=r"^X-Test: "):
            line("X-Test", value)


# ---- file names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\report.pdf", "report.pdf"),
        ("report.pdf/", "report.pdf"),
        ("report.pdf" + " " * 120 + ".exe", "report.pdf.exe"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("re\r\nport\0.pdf", "report.pdf"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        (".hidden", "hidden"),
        ("", "attachment"),
        ("..", "attachment"),
        ('a"b?.pdf', "a_b_.pdf"),
        ("Re\u0301sume\u0301.pdf", "Résumé.pdf"),
        ("ខ្មែរ.pdf", "ខ្មែរ.pdf"),
        ("می\u200cخواهم.pdf", "می\u200cخواهم.pdf"),
        ("a" * 300 + ".pdf", "a" * 95 + ".pdf"),
    ],
)
def test_clean_file_name(name: str, clean: str) -> None:
    assert clean_file_name(name) == clean


@pytest.mark.parametrize("name", NAUGHTY)
def test_naughty_file_names_are_made_clean_and_come_back(name: str) -> None:
    check_file_name(name)


@given(st.text(max_size=130))
@example("a\u200b\u0301.pdf")
@example("x" * 94 + ". .pdf")
@example("con.\u200b")
def test_any_file_name_is_made_clean_and_comes_back(name: str) -> None:
    check_file_name(name)


def check_file_name(name: str) -> None:
    clean = clean_file_name(name)
    assert 0 < len(clean) <= 100
    assert clean == clean_file_name(clean) == clean.strip(" .")
    assert not re.search(r'[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff/\\<>:"|?*]', clean)
    for field in (
        parameterised("Content-Disposition", "attachment", filename=clean),
        parameterised("Content-Type", "application/pdf", old=True, name=clean),
    ):
        assert field.isascii()
        assert max(map(len, field.split(b"\r\n"))) <= (130 if clean.isascii() else 76)
        assert read(field + b"\r\n").get_filename() == clean
        assert decoded(read_old(field + b"\r\n").get_filename()) == clean


def test_a_name_is_written_for_readers_that_know_rfc_2231_and_for_those_that_do_not() -> None:
    assert parameterised("Content-Disposition", "attachment", filename="Résumé.pdf") == (
        b"Content-Disposition: attachment; filename*=utf-8''R%C3%A9sum%C3%A9.pdf\r\n"
    )
    assert parameterised("Content-Type", "application/pdf", old=True, name="Résumé.pdf") == (
        b'Content-Type: application/pdf; name="=?utf-8?b?UsOpc3Vtw6kucGRm?="\r\n'
    )
    plain = parameterised("Content-Type", "application/pdf", old=True, charset="utf-8", name="a b.pdf")
    assert plain == b'Content-Type: application/pdf; charset="utf-8"; name="a b.pdf"\r\n'


def test_parameter_that_looks_like_an_encoded_word_is_shown_as_it_is() -> None:
    """Many readers decode encoded words even in quotes, so the look-alike never stands there."""
    field = parameterised("Content-Disposition", "attachment", filename="=?utf-8?q?x?=.pdf")
    assert b"=?" not in field
    assert read(field + b"\r\n").get_filename() == "=?utf-8?q?x?=.pdf"


@pytest.mark.parametrize("value", ["a\r\nBcc: x", "a\0", "a\u2028", "\ud800"])
def test_parameter_refuses_what_could_end_the_line(value: str) -> None:
    with pytest.raises(HeaderError, match=r"^Content-Disposition: filename: "):
        parameterised("Content-Disposition", "attachment", filename=value)


# ---- whole messages -------------------------------------------------------------------------------------------------


def test_golden_letter() -> None:
    message, planned = composed()
    passed(message, planned)
    assert message.octets == (GOLDEN / "letter.eml").read_bytes()


def test_golden_letter_with_attachment() -> None:
    recipient = replace(MISSION, cc=(Mailbox("jane@example.org", "Doe, Jane"),))
    rendering = Rendering("ការពិនិត្យ", "ឯកឧត្តម៖\n" * 9, "<p>Excellency — 3 = 3</p>\n", "km")
    report_km = attached(b"%PDF-1.7 a short one\n", "របាយការណ៍ 2009.pdf")
    composer = Composer(HEADERS)
    message = composer.compose(
        recipient,
        rendering,
        message_id("upr-2009", "CIV", "example.org"),
        [report_km],
        lambda _: b"%PDF-1.7 a short one\n",
    )
    message = dated(message, WHEN)
    passed(message, composer.planned(recipient))
    assert message.octets == (GOLDEN / "attachment.eml").read_bytes()


def test_tree_of_parts() -> None:
    """Alternative alone without attachments, mixed around it with them, in the order given."""
    plain = passed(*composed())
    assert [part.get_content_type() for part in plain.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    mixed = passed(*composed(MISSION, RENDERING, attached(), attached(name="again.bin", media_type="application/x-b")))
    assert [part.get_content_type() for part in mixed.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "application/pdf",
        "application/x-b",
    ]
    assert [part.get_filename() for part in mixed.iter_attachments()] == ["report.pdf", "again.bin"]
    assert all(part.get_content() == REPORT for part in mixed.iter_attachments())
    assert not any(part.defects for message in (plain, mixed) for part in message.walk())


def test_fields_of_a_letter() -> None:
    message = passed(*composed(replace(MISSION, key="CIV/a&b c", cc=(Mailbox("cc@example.org"),))))
    assert dict(message.items()) == {
        "Date": "Thu, 01 Oct 2009 09:30:00 +0200",
        "From": "Khmer M’Chas Srok <kms@example.org>",
        "To": "Côte d'Ivoire <mission@example.org>",
        "Cc": "cc@example.org",
        "Reply-To": "office@example.org",
        "Subject": "Universal Periodic Review",
        "Message-ID": message_id("upr-2009", "CIV", "example.org"),
        "Organization": "Example Movement",
        "Content-Language": "en",
        "Auto-Submitted": "auto-generated",
        "List-Unsubscribe": "<mailto:stop@example.org?subject=unsubscribe%20CIV%2Fa%26b%20c>",
        "X-Auto-Response-Suppress": "All",
        "MIME-Version": "1.0",
        "Content-Type": message["Content-Type"],
    }


def test_fields_left_out() -> None:
    message = passed(*composed(headers=replace(HEADERS, organisation="", reply_to=None)))
    assert not {"Organization", "Reply-To", "Cc"} & set(message.keys())


def test_shared_parts_are_encoded_once_and_are_one_object() -> None:
    asked: list[str] = []

    def content(digest: str) -> bytes:
        asked.append(digest)
        return REPORT

    composer = Composer(HEADERS)
    one, two = (
        composer.compose(replace(MISSION, key=key), RENDERING, "<a@example.org>", [attached()], content) for key in "AB"
    )
    assert len(asked) == 1
    assert one.own != two.own
    assert all(a is b for a, b in zip(one.shared, two.shared, strict=True))


def test_only_the_last_attachments_are_kept() -> None:
    asked: list[str] = []
    files = {hashlib.sha256(octets).hexdigest(): octets for octets in (b"one", b"two", b"three")}

    def content(digest: str) -> bytes:
        asked.append(digest)
        return files[digest]

    composer = Composer(HEADERS, keep=2)
    first, second, third = (attached(octets) for octets in files.values())
    for attachment in (first, second, first, third, first, second):
        composer.compose(MISSION, RENDERING, "<a@example.org>", [attachment], content)
    assert asked == [first.digest, second.digest, third.digest, second.digest]


def test_an_attachment_that_changed_since_planning_is_refused() -> None:
    with pytest.raises(ContentError, match=r"report\.pdf.*changed"):
        Composer(HEADERS).compose(MISSION, RENDERING, "<a@example.org>", [attached()], lambda _: REPORT + b"!")


@pytest.mark.parametrize(
    "media_type", ["", "pdf", "a/b/c", "text/plain; x=y", "message/rfc822", "multipart/mixed", "a/b\r\nX: y"]
)
def test_media_types_that_cannot_be_attached(media_type: str) -> None:
    with pytest.raises(HeaderError, match=r"^Content-Type: "):
        composed(MISSION, RENDERING, attached(media_type=media_type))


@given(BODY_TEXT, BODY_TEXT)
@example("trailing blank \nand tab\t\n", ".\n..\nFrom here\n--\n")
@example("From here\n", "x \t")
@example("x" * 999 + "\nFrom " + "x" * 72, "é" + "x" * 73 + "From here")
@example("é " * 300, "x" * 999)
@example(f"--{HEADERS.boundary}--\n", f"--=_alternative_{HEADERS.boundary[2:]}\n")
@example("", "\n\n")
def test_texts_come_back_as_they_went(text: str, html: str) -> None:
    message, planned = composed(MISSION, replace(RENDERING, text=text, html=html), attached())
    parsed = passed(message, planned)
    assert texts(parsed) == (text, html)
    # What programs on the way may change, and break a signature with it (RFC 8551 §3.1.2).
    lines = message.own.partition(b"\r\n\r\n")[2].split(b"\r\n")
    assert not [line for line in lines if line.endswith((b" ", b"\t")) or line.startswith(b"From ")]


@pytest.mark.parametrize("text", NAUGHTY)
def test_naughty_texts_come_back_or_are_refused(text: str) -> None:
    rendering = replace(RENDERING, text=text, html=text)
    if "\0" in text or any(unicodedata.category(c) == "Cs" for c in text):
        with pytest.raises(ContentError, match=r"^text/plain: U\+"):
            composed(MISSION, rendering)
        return
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    assert texts(passed(*composed(MISSION, rendering))) == (lines, lines)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("plain\n", "7bit"),
        ("x" * 998 + "\n", "7bit"),
        ("x" * 999 + "\n", "quoted-printable"),
        ("Côte d'Ivoire\n", "quoted-printable"),
        ("ខ្មែរ\n", "base64"),
        ("an escape \x1b[31m\n", "quoted-printable"),
        ("é" + "x" * 67 + " \n", "quoted-printable"),
        ("é" + "x" * 68 + " \n", "base64"),
        (f"--{HEADERS.boundary}\n", "quoted-printable"),
        ("From here\n", "quoted-printable"),
        ("here, From there\n", "7bit"),
        ("a blank \n", "quoted-printable"),
        ("\ta blank, within\n", "7bit"),
        ("", "7bit"),
    ],
)
def test_encoding_of_a_text(text: str, encoding: str) -> None:
    parsed = passed(*composed(MISSION, replace(RENDERING, text=text)))
    plain = next(part for part in parsed.walk() if part.get_content_type() == "text/plain")
    assert plain["Content-Transfer-Encoding"] == encoding
    assert plain.get_content().replace("\r\n", "\n") == text
    raw = str(read_old(plain.as_bytes(policy=default.clone(linesep="\r\n"))).get_payload()).splitlines()
    assert encoding == "7bit" or max(map(len, raw)) <= 76


@given(st.lists(st.sampled_from(["é", "x" * 70, "\n", ".", " ", "\t", "=", "From ", "yy yy", "\x0c"]), max_size=12))
def test_quoted_printable_is_made_line_by_line_as_of_the_whole(pieces: list[str]) -> None:
    """Lines that were met before are remembered; none may come out otherwise for that."""
    text = "".join(["é", *pieces, "\n"])
    message, _ = composed(MISSION, replace(RENDERING, text=text))
    encoding, _, body = message.own.partition(b"text/plain")[2].partition(b"\r\n\r\n")
    if b"quoted-printable" in encoding:
        whole = binascii.b2a_qp(text.replace("\nFrom ", "\n\0rom ").replace("\n", "\r\n").encode(), istext=True)
        whole = whole.replace(b"\r\n=00rom", b"\r\n=46rom")
        assert body.startswith(whole + b"\r\n--")


# ---- header injection -----------------------------------------------------------------------------------------------

FIELDS: dict[str, Callable[[str], tuple[Message, tuple[str, ...]]]] = {
    "From": lambda text: composed(headers=replace(HEADERS, from_=Mailbox("kms@example.org", text))),
    "Reply-To": lambda text: composed(headers=replace(HEADERS, reply_to=Mailbox("kms@example.org", text))),
    "Organization": lambda text: composed(headers=replace(HEADERS, organisation=text)),
    "List-Unsubscribe": lambda text: composed(replace(MISSION, key=text)),
    "To": lambda text: composed(replace(MISSION, to=(Mailbox("m@example.org", text),))),
    "Cc": lambda text: composed(replace(MISSION, cc=(Mailbox("m@example.org", text),))),
    "Subject": lambda text: composed(MISSION, replace(RENDERING, subject=text)),
    "Content-Language": lambda text: composed(MISSION, replace(RENDERING, language=text)),
    "Content-Disposition": lambda text: composed(MISSION, RENDERING, attached(name=text)),
    "Content-Type": lambda text: composed(MISSION, RENDERING, attached(media_type=f"application/{text}")),
}


@pytest.mark.parametrize("field", FIELDS)
def test_no_text_in_any_field_adds_or_takes_a_field(field: str) -> None:
    """Every naughty string in every field: refused with the field named, or the planned fields and nothing else."""
    refused = 0
    for text in NAUGHTY:
        try:
            message, planned = FIELDS[field](text)
        except HeaderError as error:
            refused += 1
            assert error.header == field  # noqa: PT017
            continue
        parsed = passed(message, planned)
        assert "Bcc" not in parsed
        assert not any(part.defects for part in parsed.walk())
        assert texts(parsed) == (RENDERING.text, RENDERING.html)
    assert refused or field == "Content-Disposition"


@pytest.mark.parametrize("text", NAUGHTY)
def test_no_cell_of_addresses_adds_or_takes_a_field(text: str) -> None:
    """The whole way from a cell: what the address parser lets through gives the planned fields and mailboxes."""
    for cell in (text, f"{text}@example.org", f"{text} <jane@example.org>"):
        try:
            mailboxes = parse_mailboxes(cell)
        except AddressError:
            continue
        parsed = passed(
            *composed(replace(MISSION, to=mailboxes)), eight_bit=not all(m.address.isascii() for m in mailboxes)
        )
        assert len(parsed["To"].addresses) == len(mailboxes)


@pytest.mark.parametrize(
    "identifier", ["", "a@example.org", "<a b@example.org>", "<a@example.org>\r\nBcc: x", "<a>", "<@>"]
)
def test_message_id_must_be_one(identifier: str) -> None:
    with pytest.raises(HeaderError, match=r"^Message-ID: "):
        Composer(HEADERS).compose(MISSION, RENDERING, identifier)


@pytest.mark.parametrize("text", ["", "short", "=_short", "=_" + "x" * 60, '=_0123456789abcdef"', "0123456789abcdef01"])
def test_boundary_must_be_ours(text: str) -> None:
    with pytest.raises(HeaderError, match=r"^Content-Type: "):
        Composer(replace(HEADERS, boundary=text))


# ---- SMTPUTF8 -------------------------------------------------------------------------------------------------------


def test_a_local_part_beyond_ascii_stands_raw_in_its_field_and_needs_leave() -> None:
    recipient = replace(MISSION, to=parse_mailboxes("Jürgen <jürgen@example.org>"))
    message, planned = composed(recipient)
    assert envelope_of("a@example.org", recipient.mailboxes).smtputf8
    assert "To: =?utf-8?q?J=C3=BCrgen?= <jürgen@example.org>\r\n".encode() in message.own
    gate(message, planned, eight_bit=True)
    with pytest.raises(GateError, match=r"^To: an octet over 127"):
        gate(message, planned, eight_bit=False)


# ---- the gate -------------------------------------------------------------------------------------------------------


def own(old: bytes, new: bytes) -> Callable[[Message], Message]:
    """A breach: the first `old` in a message's own octets becomes `new`."""

    def breach(message: Message) -> Message:
        assert old in message.own
        return replace(message, own=message.own.replace(old, new, 1))

    return breach


def tail(octets: bytes) -> Callable[[Message], Message]:
    return lambda message: replace(message, shared=(*message.shared, octets))


def date(octets: bytes) -> Callable[[Message], Message]:
    return lambda message: replace(message, date=octets)


BREACHES: list[tuple[str, Callable[[Message], Message], str]] = [
    ("a field more", own(b"Subject:", b"X-More: y\r\nSubject:"), "the fields are"),
    ("Bcc", own(b"Subject:", b"Bcc: victim@example.org\r\nSubject:"), "the fields are"),
    ("a field less", own(b"Auto-Submitted: auto-generated\r\n", b""), "the fields are"),
    ("a field twice", own(b"Subject:", b"Subject: x\r\nSubject:"), "the fields are"),
    ("From twice", own(b"To:", b"From: x@example.org\r\nTo:"), "the fields are"),
    ("another order", own(b"MIME-Version: 1.0\r\n", b"") , "the fields are"),
    ("another case", own(b"Subject:", b"SUBJECT:"), "the fields are"),
    ("Date twice", own(b"From:", b"Date: x\r\nFrom:"), "the fields are"),
    ("Date missing", date(b""), "^Date: "),
    ("Date of two fields", date(b"Date: x\r\nBcc: y@example.org\r\n"), "^Date: it is not one field"),
    ("Date without an end", date(b"Date: x"), "^Date: it does not end in CRLF"),
    ("Date that ends the header", date(b"Date: x\r\n\r\n"), "^Date: it is not one field"),
    ("own part continues the Date", own(b"From:", b" From:"), "^Date: it is not one field"),
    ("own part begins with an empty line", own(b"From:", b"\r\nFrom:"), "^Date: it is not one field"),
    ("a line that is no field", own(b"Subject:", b"no field\r\nSubject:"), "a line that is no field, after Reply-To"),
    ("a blank in a field's name", own(b"Subject:", b"Subject :"), "a line that is no field, after Reply-To"),
    ("a blank folded line", own(b"Subject:", b" \r\nSubject:"), "^Reply-To: a folded line is blank"),
    ("no body", lambda m: replace(m, own=m.own.partition(b"\r\n\r\n")[0] + b"\r\n"), "no empty line"),
    ("bare LF in the header", own(b"Subject:", b"X: y\nSubject:"), "^own part: a LF without CR"),
    ("bare CR in the header", own(b"Subject:", b"X: y\rSubject:"), "^own part: a CR without LF"),
    ("bare LF in the body", own(b"hello.", b"hello\n."), "^own part: a LF without CR"),
    ("a smuggled end", own(b"hello.", b"hello\n.\r\n"), "^own part: a LF without CR"),
    ("CR CR LF", own(b"hello.", b"hello\r\r\n."), "^own part: a CR without LF"),
    ("LF CR", own(b"hello.", b"hello\n\r."), "without"),
    ("NUL in the header", own(b"Subject: ", b"Subject: \0"), "^own part: a NUL"),
    ("NUL in the body", own(b"hello.", b"\0"), "^own part: a NUL"),
    ("long line in the header", own(b"Subject: ", b"Subject: " + b"x" * 990), "^own part: a line of more than 998"),
    ("long line in the body", own(b"hello.", b"x" * 999), "^own part: a line of more than 998"),
    ("8-bit in the header", own(b"Subject: ", "Subject: é".encode()), "^Subject: an octet over 127"),
    ("8-bit in an address field", own(b"<mission@", "<missión@".encode()), "^To: an octet over 127"),
    ("8-bit in the body", own(b"hello.", "é".encode()), "^body: an octet over 127"),
    ("own part without an end", lambda m: replace(m, own=m.own[:-2]), "^own part: it does not end in CRLF"),
    ("shared part without an end", tail(b"x"), "^shared part: it does not end in CRLF"),
    ("shared part with a bare LF", tail(b"x\n.\r\n"), "^shared part: a LF without CR"),
    ("shared part with a bare CR", tail(b"x\r.\r\n"), "^shared part: a CR without LF"),
    ("shared part with a NUL", tail(b"\0\r\n"), "^shared part: a NUL"),
    ("shared part with 8-bit", tail(b"\xe9\r\n"), "^shared part: an octet over 127"),
    ("shared part with a long line", tail(b"x" * 999 + b"\r\n"), "^shared part: a line of more than 998"),
]  # fmt: skip


@pytest.mark.parametrize(("breach", "words"), [b[1:] for b in BREACHES], ids=[b[0] for b in BREACHES])
def test_the_gate_stops(breach: Callable[[Message], Message], words: str) -> None:
    message, planned = composed(MISSION, RENDERING, attached())
    gate(message, planned, eight_bit=False)
    with pytest.raises(GateError, match=words):
        gate(breach(message), planned, eight_bit=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Subject: é".encode(), "^Subject: an octet over 127"),
        (b"Subject: \xff", "^Subject: an octet over 127"),
    ],
)
def test_leave_for_eight_bit_is_for_address_fields_alone(text: bytes, words: str) -> None:
    message, planned = composed()
    with pytest.raises(GateError, match=words):
        gate(own(b"Subject: ", text)(message), planned, eight_bit=True)
    with pytest.raises(GateError, match=r"^To: not UTF-8"):
        gate(own(b"<mission@", b"<missi\xf3n@")(message), planned, eight_bit=True)
    with pytest.raises(GateError, match=r"^body: "):
        gate(own(b"hello.", "é".encode())(message), planned, eight_bit=True)


@pytest.mark.parametrize("name", ["Bcc", "bcc", "Subject", "subject"])
def test_not_even_a_plan_may_ask_for_bcc_or_a_field_twice(name: str) -> None:
    message, planned = composed()
    worse = own(b"MIME-Version:", f"{name}: x@example.org\r\nMIME-Version:".encode())(message)
    index = planned.index("MIME-Version")
    with pytest.raises(GateError, match=r"Bcc"):
        gate(worse, (*planned[:index], name, *planned[index:]), eight_bit=False)


@pytest.mark.parametrize("name", ["From", "To", "Subject", "Message-ID"])
def test_not_even_a_plan_may_do_without(name: str) -> None:
    message, planned = composed()
    worse = replace(message, own=re.sub(rb"(?m)^%s:.*\r\n( .*\r\n)*" % name.encode(), b"", message.own))
    with pytest.raises(GateError, match=f"{name}.* missing"):
        gate(worse, tuple(n for n in planned if n != name), eight_bit=False)


LINES = st.sampled_from(
    [
        b"X-A: 1", b"X-B:", b"X-A:x:y", b" folded", b"\tfolded", b" ", b"\t \x0b", b" \x0c\t", b"no field", b": x",
        b"X A: 1", b"X\x7f: 1", b"X-\xe9: 1", b"X-C: \xe9", b" \xe9", b"\x0bX: 1", b"X-D: \x1c", b" \x1c", b" :",
        b"X-E:\x85",
    ]
)  # fmt: skip


@given(st.lists(LINES, max_size=6))
def test_the_gate_takes_a_header_for_what_its_lines_are_one_by_one(lines: list[bytes]) -> None:
    """The gate looks at a header as a whole where it can; here the lines are gone through in the slowest way."""
    message, planned = composed()
    names = []
    for text in lines:
        name, colon, _ = text.partition(b":")
        if text[:1] in (b" ", b"\t"):
            good = bool(text.strip())
        else:
            good = bool(colon and name) and all(33 <= octet <= 126 for octet in name)
            names.append(name.decode(errors="replace"))
        if not good or not text.isascii():
            names = ["refused"]
            break
    worse = own(b"MIME-Version:", b"".join(text + b"\r\n" for text in lines) + b"MIME-Version:")(message)
    index = planned.index("MIME-Version")
    wanted = (*planned[:index], *names, *planned[index:])
    if names == ["refused"] or len(set(names)) < len(names):
        with pytest.raises(GateError):
            gate(worse, wanted, eight_bit=False)
    else:
        gate(worse, wanted, eight_bit=False)
        with pytest.raises(GateError):
            gate(worse, (*wanted, "X-More"), eight_bit=False)


@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"x", b"xx"]), max_size=12), st.integers(1, 5))
def test_whether_a_line_is_longer_is_what_cutting_the_text_into_lines_says(pieces: list[bytes], room: int) -> None:
    octets = b"".join(pieces)
    assert has_longer_line(octets, room) == any(len(each) > room for each in octets.split(b"\r\n"))


# ---- digest, Message-ID, boundary, envelope, Date -------------------------------------------------------------------


def test_digest_covers_everything_but_the_date() -> None:
    message = Message(b"Date: 1\r\n", b"own", (b"part", b"end"))
    sealed = Envelope("r@example.org", ("a@example.org", "b@example.org"))
    first = letter_digest(sealed, message)
    assert first == letter_digest(sealed, replace(message, date=b"Date: 2\r\n"))
    others = [
        (replace(sealed, return_path="x@example.org"), message),
        (replace(sealed, forward_paths=("a@example.org",)), message),
        (replace(sealed, forward_paths=("b@example.org", "a@example.org")), message),
        (replace(sealed, forward_paths=("a@example.orgb@example.org",)), message),
        (sealed, replace(message, own=b"other")),
        (sealed, replace(message, shared=(b"part",))),
        (sealed, replace(message, shared=(b"end", b"part"))),
        (sealed, replace(message, shared=(b"partend",))),
        (sealed, replace(message, own=b"ownpart", shared=(b"end",))),
        (replace(sealed, return_path="r@example.orga@example.org", forward_paths=("b@example.org",)), message),
    ]
    assert len({first, *(letter_digest(*other) for other in others)}) == len(others) + 1
    assert re.fullmatch("[0-9a-f]{64}", first)


def test_same_input_same_octets() -> None:
    assert composed(MISSION, RENDERING, attached()) == composed(MISSION, RENDERING, attached())


def test_message_id_is_stable_and_of_one_letter() -> None:
    one = message_id("upr-2009", "CIV", "example.org")
    assert re.fullmatch(r"<[0-9a-f]{24}\.upr-2009@example\.org>", one)
    assert one == message_id("upr-2009", "CIV", "example.org")
    assert len({message_id(c, k, "example.org") for c, k in (("ab", "c"), ("a", "bc"), ("abc", ""), ("a", "c"))}) == 4


@pytest.mark.parametrize(
    ("campaign", "domain"), [("a b", "example.org"), ("a", "exämple.org"), ("a", ""), ("a>\r\nX: y", "b.example")]
)
def test_message_id_refuses_what_is_no_atom(campaign: str, domain: str) -> None:
    with pytest.raises(HeaderError, match=r"^Message-ID: "):
        message_id(campaign, "CIV", domain)


@given(st.text(max_size=30).filter(lambda t: not FORBIDDEN.search(t)), st.binary(max_size=300))
def test_no_encoded_text_can_hold_a_boundary(campaign: str, octets: bytes) -> None:
    """`=_` is in every boundary and never in quoted-printable or base64 (RFC 2045 §6.7, §6.8)."""
    found = boundary(campaign).encode()
    assert found.startswith(b"=_")
    assert b"=_" not in binascii.b2a_qp(octets + found, istext=True)
    assert b"=_" not in binascii.b2a_base64(octets + found)


def test_envelope_has_one_path_a_mailbox() -> None:
    """A mailbox named in To and in Cc, in whatever case, gets one copy."""
    recipient = replace(
        MISSION,
        to=parse_mailboxes("Ann <a@example.org>, b@example.org"),
        cc=parse_mailboxes("A@Example.ORG, c@example.org"),
    )
    assert envelope_of("r@example.org", recipient.mailboxes) == Envelope(
        "r@example.org", ("a@example.org", "b@example.org", "c@example.org")
    )


@given(
    st.datetimes(datetime(1970, 1, 1), datetime(2199, 12, 31)),  # noqa: DTZ001
    st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_date_line_is_what_the_standard_library_writes(when: datetime, zone: timezone) -> None:
    when = when.replace(tzinfo=zone, microsecond=0)
    assert read(date_line(when) + b"\r\n")["Date"].datetime == when
    assert date_line(when).decode() == f"Date: {format_datetime(when).replace(', 0', ', ')}\r\n"


def test_date_line_needs_an_offset_in_whole_minutes() -> None:
    odd = datetime(1890, 1, 1, tzinfo=timezone(timedelta(seconds=2046)))
    assert date_line(odd) == date_line(odd.astimezone(UTC))
    with pytest.raises(ValueError, match=r"offset"):
        date_line(datetime(2009, 10, 1))  # noqa: DTZ001


def test_file_names_of_the_list_are_all_tried() -> None:
    assert set(FILE_NAMES) <= set(NAUGHTY)
