"""campaign.toml and the folder: what is wrong is named with file, line and key, and nothing outside is touched."""

import os
import tomllib
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dispatcher.core.campaign import Campaign, Rate
from dispatcher.core.errors import CampaignError, Place, Problem, TemplateError
from dispatcher.core.toml import key_lines
from dispatcher.sources.attachments import Attachments
from dispatcher.sources.campaign import Folder, read_campaign, read_templates
from tests.campaigns import LETTER, RELAY, SENDER, settings, write_campaign


def problems(folder: Path) -> list[Problem]:
    with pytest.raises(CampaignError) as caught:
        read_campaign(folder)
    assert all(p.todo for p in caught.value.problems), "each says what to do"
    return list(caught.value.problems)


def line_with(text: str, part: str) -> int:
    """The line of a text in which `part` stands first."""
    return next(n for n, line in enumerate(text.split("\n"), 1) if part in line)


def test_a_whole_campaign(tmp_path: Path) -> None:
    campaign = read_campaign(write_campaign(tmp_path, pace='rate = "1,000/hr"\nquota = 300\n'))
    assert (campaign.id, campaign.date, campaign.on_unknown) == ("harvest-2026", date(2026, 3, 1), "hold")
    assert campaign.pace.rate == Rate(count=1000, seconds=3600)
    assert str(campaign.pace.rate) == "1,000/hr"
    assert campaign.printed_sender("fr")["function"] == "Secrétaire"
    assert campaign.printed_sender("de")["function"] == "Secretary"


def test_domains_have_rates_of_their_own(tmp_path: Path) -> None:
    """Written in any form; kept as they stand in an identity."""
    pace = '[pace.domains]\n"Example.COM" = "20/min"\n"bücher.example" = "1,000/hr"\n"*" = "60/min"\n'
    domains = read_campaign(write_campaign(tmp_path, pace=pace)).pace.domains
    assert {name: rate.interval for name, rate in domains.items()} == {
        "example.com": 3.0,
        "xn--bcher-kva.example": 3.6,
        "*": 1.0,
    }


def test_defaults(tmp_path: Path) -> None:
    sender = 'organisation = "O"\nname = "O"\naddress = "o@orchard.example.org"\nsignatory = "S"\n'
    campaign = read_campaign(write_campaign(tmp_path, sender=sender, relay='host = "mail.example.org"\n'))
    assert (campaign.relay.port, campaign.relay.security) == (587, "starttls")
    assert campaign.sender.mailbox("return_path").address == "o@orchard.example.org"
    assert campaign.printed_sender("en")["function"] == ""


def test_mailboxes_fall_back(tmp_path: Path) -> None:
    """Answers and unsubscriptions go to reply_to; bounces never do."""
    sender = SENDER.replace('return_path = "bounces@orchard.example.org"\n', "")
    campaign = read_campaign(write_campaign(tmp_path, sender=sender))
    assert campaign.sender.mailbox("unsubscribe").address == "answers@orchard.example.org"
    assert campaign.sender.mailbox("return_path").address == "office@orchard.example.org"


# -- every error has its line and key ---------------------------------------------------------------------------------

WRONG = {
    "unknown key at the top": ({"top": 'titel = "x"'}, "titel =", "key titel", "did you mean 'title'?"),
    "unknown table": ({"pace": "\n[rely]\nhost = 'x'"}, "[rely]", "key rely", "did you mean 'relay'?"),
    "unknown key in a table": ({"pace": "conections = 4"}, "conections", "key pace.conections", "'connections'?"),
    "unknown key in the second list": (
        {"recipients": 'source = "a.csv"\n[[recipients]]\nsource = "b.csv"\nwher = "x"'},
        "wher =",
        "key recipients.1.wher",
        "'where'?",
    ),
    "unknown key in an inline table": (
        {"relay": RELAY + "password = { evn = 'X' }"},
        "evn",
        "key relay.password.evn",
        "'env'?",
    ),
    "unknown nested table": (
        {"pace": "\n[sender.a]\nb.c = 1"},
        "[sender.a]",
        "key sender.a",
        "Known here: organisation",
    ),
    "dotted key": ({"pace": "x.y = 1"}, "x.y", "key pace.x", ""),
    "unknown key in other case": ({"pace": "Quota = 4"}, "Quota", "key pace.Quota", "did you mean 'quota'?"),
    "missing key": ({"sender": SENDER.replace("signatory", "#")}, "[sender]", "key sender.signatory", "add signatory"),
    "missing in the second list": (
        {"recipients": 'source = "a"\n[[recipients]]\nwhere = "x"'},
        "[[recipients]]",
        "key recipients.1.source",
        "add source",
    ),
    "number for text": ({"sender": SENDER.replace('"Ada Pomme"', "5")}, "signatory", "key sender.signatory", ""),
    "text for a number": ({"relay": 'host = "127.0.0.1"\nport = "587"'}, "port = ", "key relay.port", ""),
    "truth for a number": ({"pace": "connections = true"}, "connections", "key pace.connections", ""),
    "port too large": ({"relay": 'host = "127.0.0.1"\nport = 70000'}, "port = ", "key relay.port", ""),
    "no such security": ({"relay": RELAY.replace("none", "ssl")}, "security", "key relay.security", ""),
    "no such decision": ({"top": 'on_unknown = "guess"'}, "on_unknown", "key on_unknown", ""),
    "rate": ({"pace": 'rate = "30 per minute"'}, "rate", "key pace.rate", ""),
    "rate of nought": ({"pace": 'rate = "0/min"'}, "rate", "key pace.rate", ""),
    "rate as a number": ({"pace": "rate = 30"}, "rate", "key pace.rate", ""),
    "quota of nought": ({"pace": "quota = 0"}, "quota", "key pace.quota", ""),
    "domain": ({"pace": '[pace.domains]\n"not a domain" = "5/min"'}, "[pace.domains]", "key pace.domains", ""),
    "domain by address": ({"pace": 'domains = { "a@b.example" = "5/min" }'}, "domains", "key pace.domains", ""),
    "domain twice": (
        {"pace": '[pace.domains]\n"a.example" = "5/min"\n"A.Example" = "6/min"'},
        "[pace.domains]",
        "key pace.domains",
        "",
    ),
    "rate of a domain": (
        {"pace": '[pace.domains]\n"a.example" = "many"'},
        "a.example",
        "key pace.domains.a.example",
        "",
    ),
    "time without offset": ({"top": "not_after = 2026-01-01T00:00:00"}, "not_after", "key not_after", ""),
    "date for a time": ({"top": "not_after = 2026-01-01"}, "not_after", "key not_after", ""),
    "no address": ({"sender": SENDER.replace("office@", "office")}, "address =", "key sender.address", ""),
    "two addresses": (
        {"sender": SENDER.replace("office@", "a@x.example, b@")},
        "address =",
        "key sender.address",
        "",
    ),
    "line break in a name": (
        {"sender": SENDER.replace('"Ada Pomme"', '"Ada\\nBcc: x"')},
        "signatory",
        "key sender.signatory",
        "",
    ),
    "control character in the postal address": (
        {"sender": SENDER + 'postal_address = "a\\u001b[2J"'},
        "postal_address",
        "key sender.postal_address",
        "",
    ),
    "language code": ({"sender": SENDER.replace("fr =", "French =")}, "function", "key sender.function.French", ""),
    "empty condition": ({"recipients": 'source = "a"\nwhere = ""'}, "where", "key recipients.0.where", ""),
    "one attachment without list": (
        {"letter": LETTER.replace('["letters/report.pdf"]', '"x"')},
        "attachments",
        "key letter.attachments",
        "",
    ),
    "path in a list over lines": (
        {"letter": LETTER.replace('["letters/report.pdf"]', '[\n  "letters/report.pdf", # one\n  "../x",\n]')},
        '"../x"',
        "key letter.attachments.1",
        "",
    ),
    "token without user": ({"relay": RELAY + 'auth = "xoauth2"'}, "[relay]", "key relay", ""),
    "no such kind of login": ({"relay": RELAY + 'auth = "plain"'}, "auth =", "key relay.auth", ""),
    "user without password": ({"relay": 'host = "mail.example.org"\nuser = "u"'}, "[relay]", "key relay", ""),
    "two passwords": (
        {"relay": 'host = "mail.example.org"\nuser = "u"\npassword = { env = "A", file = "b" }'},
        "password",
        "key relay.password",
        "",
    ),
    "empty command": (
        {"relay": 'host = "mail.example.org"\nuser = "u"\npassword = { command = [] }'},
        "password",
        "key relay.password.command",
        "",
    ),
    "host with port": ({"relay": 'host = "mail.example.org:587"'}, "host", "key relay.host", ""),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_have_line_and_key(tmp_path: Path, name: str) -> None:
    sections, part, key, todo = WRONG[name]
    text = settings(**sections)
    found = problems(write_campaign(tmp_path, toml=text))
    line = text[: text.rfind(part)].count("\n") + 1
    hits = [p for p in found if p.where == Place("campaign.toml", line, key)]
    assert hits, [str(p) for p in found]
    assert todo in hits[0].todo


@pytest.mark.parametrize("id_", ["", "a b", "a/b", "ä", "x" * 49, "a..b", "a.", "-a", "a\\n"])
def test_ids_that_cannot_be(tmp_path: Path, id_: str) -> None:
    (found,) = problems(write_campaign(tmp_path, toml=settings().replace("harvest-2026", id_)))
    assert found.where == Place("campaign.toml", 1, "key id")


def test_all_errors_at_once(tmp_path: Path) -> None:
    found = problems(write_campaign(tmp_path, top='titel = "x"', pace="quota = 0", sender="name = 5"))
    assert len(found) == 6, "two extra or wrong, four missing or wrong in [sender]"


@pytest.mark.parametrize(
    ("text", "line"),
    [("id = \n", 1), ('id = "x"\ntitle = "y', 2), ('id = "x"\nid = "y"\n', 2), ("[a\n", 1), ('x = """\n\n', 3)],
)
def test_broken_toml_has_a_line(tmp_path: Path, text: str, line: int) -> None:
    (found,) = problems(write_campaign(tmp_path, toml=text))
    assert (found.where.file, found.where.line) == ("campaign.toml", line)


def test_no_campaign_here(tmp_path: Path) -> None:
    (found,) = problems(tmp_path)
    assert "dispatcher init" in found.todo


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "campaign.toml").write_bytes(b'id = "\xe9"')
    assert "UTF-8" in problems(tmp_path)[0].todo


def test_windows_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    folder = write_campaign(tmp_path, toml="\ufeff" + settings(top='titel = "x"').replace("\n", "\r\n"))
    assert problems(folder)[0].where.line == line_with(settings(top='titel = "x"'), "titel")


# -- where keys stand -------------------------------------------------------------------------------------------------


def test_key_lines() -> None:
    """Nested tables, arrays of tables and of inline tables, dotted and quoted keys, strings over lines."""
    text = '''\
a = """
b = 1 # not a key
"""  # """ nor does this begin one
c = \'\'\'x''y\'\'\' # '
d.e."f.g" = [1, [2,
  3], { h = "]", i.j = 4 },
]
[k]
l = 2026-01-01T00:00:00+01:00
[k.m]  # a comment
"n o" = "#" # x
[[p]]
q = 1.5
[[p]]
[p.r]
s = '\\'
[[p.t]]
[[p.t]]
u = -inf
'''
    tomllib.loads(text)
    lines = key_lines(text)
    assert lines == {
        ("a",): 1,
        ("c",): 4,
        ("d",): 5,
        ("d", "e"): 5,
        ("d", "e", "f.g"): 5,
        ("d", "e", "f.g", 0): 5,
        ("d", "e", "f.g", 1): 5,
        ("d", "e", "f.g", 1, 0): 5,
        ("d", "e", "f.g", 1, 1): 6,
        ("d", "e", "f.g", 2): 6,
        ("d", "e", "f.g", 2, "h"): 6,
        ("d", "e", "f.g", 2, "i"): 6,
        ("d", "e", "f.g", 2, "i", "j"): 6,
        ("k",): 8,
        ("k", "l"): 9,
        ("k", "m"): 10,
        ("k", "m", "n o"): 11,
        ("p",): 12,
        ("p", 0): 12,
        ("p", 0, "q"): 13,
        ("p", 1): 14,
        ("p", 1, "r"): 15,
        ("p", 1, "r", "s"): 16,
        ("p", 1, "t"): 17,
        ("p", 1, "t", 0): 17,
        ("p", 1, "t", 1): 18,
        ("p", 1, "t", 1, "u"): 19,
    }


@hypothesis_settings(max_examples=150)
@given(st.text(st.sampled_from("ab=.[]{},\"'#\n \\1"), max_size=60))
def test_key_lines_never_fail(text: str) -> None:
    """Of TOML every key is found; of anything else, whatever it may be, but it ends."""
    lines = key_lines(text)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert {path[0] for path in lines} == set(data)


# -- what is never allowed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["mail.example.org", "192.0.2.1", "localhost.example.org", "127.0.0.1.example.org", "0.0.0.0", "::"]
)
def test_nothing_goes_in_clear_to_another_machine(tmp_path: Path, host: str) -> None:
    (found,) = problems(write_campaign(tmp_path, relay=f'host = "{host}"\nsecurity = "none"'))
    assert found.where.column == "key relay.security"
    assert "starttls" in found.what


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "[::1]"])
def test_loopback(tmp_path: Path, host: str) -> None:
    assert read_campaign(write_campaign(tmp_path, relay=f'host = "{host}"\nsecurity = "none"')).relay.loopback


@pytest.mark.parametrize("host", ["127.999.0.1", "127.1", "mail.example.org"])
def test_not_loopback(tmp_path: Path, host: str) -> None:
    assert not read_campaign(write_campaign(tmp_path, relay=f'host = "{host}"')).relay.loopback


def test_no_login_in_clear_even_at_home(tmp_path: Path) -> None:
    folder = write_campaign(tmp_path, relay=RELAY + 'user = "u"\npassword = { env = "X" }')
    (found,) = problems(folder)
    assert (found.where.column, "in clear" in found.what) == ("key relay.user", True)


CANARY = "hunter2-Tr0ub4dor&3"


@pytest.mark.parametrize(
    "relay",
    [
        f'user = "u"\npassword = "{CANARY}"',
        f'user = "u"\npassword = ["{CANARY}"]',
        f'user = "u"\npassword = {{ env = "{CANARY}" }}',
        f'user = "u"\npassword = {{ text = "{CANARY}" }}',
        f'user = "u"\npassword = {{ env = ["{CANARY}"] }}',
        f'user = "u"\npassword = {{ file = "../{CANARY}" }}',
        f'user = "u"\npassword = {{ command = "{CANARY}" }}',
        f'user = "u"\npasword = "{CANARY}"',
        f'user = "u"\npassword = "{CANARY}\n',
        f'user = "u"\npassword = {CANARY}',
        f'password = """\n{CANARY}"""\n',
    ],
)
@pytest.mark.parametrize("host", ["mail.example.org", f"u:{CANARY}@mail.example.org"])
def test_a_password_as_text_is_refused_and_never_shown(tmp_path: Path, relay: str, host: str) -> None:
    folder = write_campaign(tmp_path, relay=f'host = "{host}"\n{relay}')
    with pytest.raises(CampaignError) as caught:
        read_campaign(folder)
    assert CANARY not in str(caught.value)
    assert CANARY not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert all(p.where.line for p in caught.value.problems)


OUTSIDE = [
    "../x",
    "a/../../x",
    "/etc/passwd",
    "~/x",
    "C:/x",
    "C:x",
    "\\\\\\\\server\\\\x",
    "a\\\\..\\\\..\\\\x",
    "",
    "a\\u0000b",
    "a\\nb",
]


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize(
    ("section", "text", "key"),
    [
        ("letter", 'template = "{}"', "key letter.template"),
        ("letter", 'template = "x"\nforms = "{}"', "key letter.forms"),
        ("letter", 'template = "x"\nlayout = "{}"', "key letter.layout"),
        ("letter", 'template = "x"\nattachments = ["{}"]', "key letter.attachments.0"),
        ("recipients", 'source = "{}"', "key recipients.0.source"),
        ("relay", 'host = "localhost"\nca_file = "{}"', "key relay.ca_file"),
        ("relay", 'host = "localhost"\nuser = "u"\npassword = {{ file = "{}" }}', "key relay.password.file"),
    ],
)
def test_paths_stay_inside(tmp_path: Path, path: str, section: str, text: str, key: str) -> None:
    sections = {section: text.format(path)}
    (found,) = problems(write_campaign(tmp_path, toml=settings(**sections)))
    assert found.where.column == key


# -- the files --------------------------------------------------------------------------------------------------------


def test_symbolic_links_stay_inside(tmp_path: Path) -> None:
    secret = tmp_path / "secret.pdf"
    secret.write_bytes(b"x")
    folder = write_campaign(tmp_path / "campaign", files={"letters/report.pdf": None})
    (folder / "letters" / "report.pdf").symlink_to(secret)
    (folder / "out").symlink_to(tmp_path)
    (folder / "within.pdf").symlink_to(folder / "people.csv")
    (folder / "round").symlink_to(folder / "round")
    reader = Folder(folder)
    for path in ("letters/report.pdf", "out/secret.pdf", "round"):
        with pytest.raises(CampaignError) as caught:
            Attachments(reader).read(path, "x.pdf", "letter", "attachments", 0)
        (found,) = caught.value.problems
        assert found.where == Place("campaign.toml", line_with(settings(), "report.pdf"), "key letter.attachments.0")
    assert reader.find("within.pdf").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="there are no such files")
def test_devices_and_folders_are_no_files(tmp_path: Path) -> None:
    """A pipe in a file's place is refused before it is opened, for reading it would wait for ever."""
    reader = Folder(write_campaign(tmp_path))
    os.mkfifo(tmp_path / "pipe.pdf")
    for path in ("letters", ".", "pipe.pdf"):
        with pytest.raises(CampaignError, match="is not a file") as caught:
            Attachments(reader).read(path, "x")
        assert [problem.todo for problem in caught.value.problems] == ["put a file in its place"]


def test_missing_and_empty_attachments(tmp_path: Path) -> None:
    reader = Attachments(Folder(write_campaign(tmp_path, files={"letters/empty.pdf": b""})))
    with pytest.raises(CampaignError, match=r"reprot\.pdf does not exist\n.*there is: report\.pdf"):
        reader.read("letters/reprot.pdf", "x")
    with pytest.raises(CampaignError, match=r"empty\.pdf is empty"):
        reader.read("letters/empty.pdf", "x")
    with pytest.raises(CampaignError, match="does not exist"):
        reader.read("no/such/folder.pdf", "x")


def test_attachment_is_described(tmp_path: Path) -> None:
    found, octets = Attachments(Folder(write_campaign(tmp_path))).read("letters/report.pdf", "Report.pdf")
    assert (found.name, found.media_type, found.size, found.path) == (
        "Report.pdf",
        "application/pdf",
        len(octets),
        "letters/report.pdf",
    )


def test_languages_are_found(tmp_path: Path) -> None:
    names = ["letter.pt-BR.md", "letter.EN.md", "letter.english.md", "letter.fr.md.bak", "letter.md"]
    reader = Folder(write_campaign(tmp_path, files={f"letters/{name}": "x" for name in names}))
    assert reader.languages("letters/letter.{language}.md") == ("en", "fr", "pt-BR")
    assert reader.languages("letters/letter.md") == ()


def test_language_in_a_folder_and_twice(tmp_path: Path) -> None:
    files = {"l/en/letter.en.md": "x", "l/fr/letter.fr.md": "x", "l/es/letter.fr.md": "x", "l/[x]/letter.en.md": "x"}
    reader = Folder(write_campaign(tmp_path, files=files))
    assert reader.languages("l/{language}/letter.{language}.md") == ("en", "fr")
    assert reader.languages("l/[x]/letter.{language}.md") == ("en",)


def campaign_in(folder: Path) -> tuple[Campaign, Folder]:
    return read_campaign(folder), Folder(folder)


def test_templates_are_read(tmp_path: Path) -> None:
    folder = write_campaign(tmp_path, files={"letters/letter.en.md": "\ufeffCafe\u0301\r\nx\ry"})
    found = read_templates(*campaign_in(folder))
    assert set(found.letters) == set(found.forms) == set(found.senders) == {"en", "fr"}
    assert found.letters["en"].text == "Café\nx\ny"


@pytest.mark.parametrize(
    ("files", "letter", "key", "words"),
    [
        ({"letters/letter.en.md": None}, LETTER, "key language", "no letter in 'en'"),
        ({"letters/forms.fr.toml": None}, LETTER, "key letter.forms", "forms.fr.toml does not exist"),
        ({"letters/layout.html": None}, LETTER, "key letter.layout", "layout.html does not exist"),
        ({}, LETTER.replace("letter.{language}", "lettre"), "key letter.template", "lettre.md does not exist"),
        ({}, LETTER.replace("letter.{language}", "x.{language}.{key}"), "key letter.template", "does not exist"),
    ],
)
def test_missing_templates(
    tmp_path: Path, files: dict[str, str | bytes | None], letter: str, key: str, words: str
) -> None:
    folder = write_campaign(tmp_path, files=files, letter=letter)
    with pytest.raises(CampaignError) as caught:
        read_templates(*campaign_in(folder))
    (found,) = caught.value.problems
    assert (found.where.column, words in found.what) == (key, True)
    assert found.where.line == line_with(settings(letter=letter), key.rpartition(".")[2].removeprefix("key ") + " =")


def test_template_in_another_encoding_has_a_line(tmp_path: Path) -> None:
    folder = write_campaign(tmp_path, files={"letters/letter.fr.md": b"+++\nsubject = 'x'\n+++\nr\xe9colte"})
    with pytest.raises(TemplateError) as caught:
        read_templates(*campaign_in(folder))
    assert caught.value.problems[0].where == Place("letters/letter.fr.md", 4)
