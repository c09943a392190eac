"""A folder of mailmerge becomes a campaign that `check` accepts; what cannot be carried over is said, with what to do.

The folders here have the shapes of all examples in mailmerge's own README (2.3.0): simple, advanced, HTML, HTML beside
plain text, Markdown, attachments, inline images. The words are ours.
"""

import re
from collections.abc import Mapping
from datetime import date
from email import message_from_bytes, policy
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.core.as_markdown import of_html, of_typed
from dispatcher.core.errors import TemplateError, UsageError
from dispatcher.core.markdown import Source, twins
from dispatcher.core.merge import Merged
from dispatcher.core.tags import Tags
from dispatcher.core.text import finish
from dispatcher.desk import Desk
from dispatcher.desk.checking import check_folder
from dispatcher.desk.draft import Draft
from dispatcher.desk.starting import convert_mailmerge
from dispatcher.sources.table import open_table
from tests.command import captured, dispatcher, tree

TODAY: Final = date(2026, 3, 1)
HEAD: Final = "TO: {{email}}\nSUBJECT: The harvest in {{town}}\nFROM: Orchard Society <office@orchard.example.org>\n"
ROWS: Final = "email,name,town,apples\nada@press.example,Ada,Bern,17\nbo@radio.example,Bo,Sion,4\n"

JPEG: Final = b"\xff\xd8\xff\xe0"
NONE: Final[Mapping[str, str | bytes]] = {}


def folder(
    root: Path, template: str, rows: str = ROWS, server: str | None = None, files: Mapping[str, str | bytes] = NONE
) -> list[str]:
    """A folder of mailmerge; the names of its files as they are given to `init`."""
    names = {"mailmerge_template.txt": template, "mailmerge_database.csv": rows}
    if server is not None:
        names["mailmerge_server.conf"] = server
    for name, content in {**names, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(names)


def moved(
    root: Path, template: str, rows: str = ROWS, server: str | None = None, files: Mapping[str, str | bytes] = NONE
) -> "Moved":
    """Convert. What is there stays as it was, and `check` finds nothing wrong with what comes of it."""
    names = folder(root, template, rows, server, files)
    before = tree(root)
    count, notes = convert_mailmerge(root / "moved", [root / name for name in names], TODAY)
    assert {path: found for path, found in tree(root).items() if not path.startswith("moved")} == before
    assert all(note.what and note.todo for note in notes)
    found = Moved(root / "moved", [str(note).split("\n")[0].replace(f"{root}/", "") for note in notes])
    found.todos = [note.todo for note in notes]
    assert count == len(found.rows)
    assert check_folder(Desk(root / "moved", sandbox=True)).problems == []
    return found


class Moved:
    def __init__(self, root: Path, notes: list[str]) -> None:
        self.root = root
        self.notes = notes
        self.todos: list[str] = []
        self.draft = Draft(root)
        self.letters = [item for item in self.draft.items() if isinstance(item, Merged)]

    def text(self, number: int = 0) -> str:
        """What the writer wrote, between the subject line and the signature of the house."""
        whole = self.letters[number].rendering.text
        subject = self.letters[number].rendering.subject
        return whole.partition(f"{subject}\n\n")[2].partition("\n\nOrchard Society\n")[0]

    @property
    def rows(self) -> list[dict[str, str]]:
        path = self.root / self.draft.campaign.recipients[0].source
        return [dict(row.values) for row in open_table(path, path.name)[1]]


# -- the examples -----------------------------------------------------------------------------------------------------


def test_on_the_command_line(tmp_path: Path) -> None:
    """What is said, and that the folder can be rehearsed at once."""
    names = folder(tmp_path, HEAD + "BCC: boss@home.example\n\nHi, {{name}},\n\nYou have {{apples}} apples.\n")
    done = dispatcher("init", "moved", "--from-mailmerge", *names, folder=tmp_path)
    assert done.code == 0, done
    assert done.out.startswith("moved is a campaign folder now, made of mailmerge_template.txt; its list has 2 rows.")
    assert "  mailmerge_template.txt:4: BCC: boss@home.example is not carried over" in done.out
    assert re.search(r"(?m)^    → who is to get a letter stands in the list", done.out)
    assert "cd moved && dispatcher check" in done.out
    again = dispatcher("init", "again", "--from-mailmerge", *names, "--json", folder=tmp_path).json
    assert (again["folder"], again["rows"], len(again["notes"])) == ("again", 2, done.out.count("→"))
    assert again["notes"][0]["where"] == "mailmerge_template.txt:4"
    assert dispatcher("init", "again", "--json", folder=tmp_path).json["problems"][0]["todo"] == "name a new folder"
    assert dispatcher("check", folder=tmp_path / "moved").code == 0
    assert dispatcher("send", "--sandbox", folder=tmp_path / "moved").code == 0
    (first, _) = (message_from_bytes(octets, policy=policy.SMTP) for octets in captured(tmp_path / "moved"))
    assert (first["From"], first["To"]) == ("Orchard Society <office@orchard.example.org>", "Ada <ada@press.example>")


def test_the_simple_example(tmp_path: Path) -> None:
    found = moved(tmp_path, HEAD + "\nHi, {{name}},\n\nYou have {{apples}} apples.\n")
    assert [m.rendering.subject for m in found.letters] == ["The harvest in Bern", "The harvest in Sion"]
    assert found.text() == "Hi, Ada,\n\nYou have 17 apples."
    assert [m.envelope.forward_paths for m in found.letters] == [("ada@press.example",), ("bo@radio.example",)]
    assert (found.root / "recipients" / "mailmerge_database.csv").read_text() == ROWS, "as it was"
    sender = found.draft.campaign.sender
    assert (sender.name, sender.address) == ("Orchard Society", "office@orchard.example.org")
    assert found.draft.campaign.id == "moved"


def test_the_advanced_example(tmp_path: Path) -> None:
    """Conditions with `-%}`, lines that stand for themselves, a grade that is no formula."""
    text = (
        "\nDear {{name}},\n\nThis is our record of your harvest.\n\nPears: {{p1}}\nPlums: {{p2}}\nQuinces: {{p3}}\n\n"
        "Your estimated rank is {{rank}}.\n\n"
        '{% if rank == "C-" -%}\nWe are a little worried.\n\nThere are two things to do.\n'
        '{% elif rank in ["D+", "D", "F"] -%}\nWe are worried.\n{% endif -%}\n'
    )
    rows = "email,name,p1,p2,p3,rank\na@x.example,A,100,90,80,A+\nc@x.example,C,50,50,50,C-\nf@x.example,F,0,0,0,F\n"
    found = moved(tmp_path, HEAD.replace(" in {{town}}", "") + text, rows)
    assert "Pears: 100\nPlums: 90\nQuinces: 80\n\nYour estimated rank is A+." in found.text(0)
    assert "worried" not in found.text(0)
    assert "We are a little worried.\n\nThere are two things to do." in found.text(1)
    assert "We are worried." in found.text(2)
    assert any("column 'rank' is 'old_rank' now" in note for note in found.notes), "a rank is a form of address here"


HTML: Final = """\

<html>
<head><style>p { color: red }</style></head>
<body>

<p>Hi, {{name}},</p>

<p>You have <b>{{apples}}</b> apples.<br>They are red.</p>

<ul><li>Gala</li><li>Boskoop &amp; others</li></ul>

<p>Sent by <a href="https://orchard.example.org/">the orchard</a></p>

</body>
</html>
"""


def test_the_html_example(tmp_path: Path) -> None:
    found = moved(tmp_path, HEAD + "Content-Type: text/html\n" + HTML)
    assert found.text() == (
        "Hi, Ada,\n\nYou have 17 apples.\nThey are red.\n\n- Gala\n- Boskoop & others\n\n"
        "Sent by the orchard <https://orchard.example.org/>"
    )
    assert "<strong>17</strong>" in found.letters[0].rendering.html
    assert "the HTML was turned into Markdown" in found.notes[0]


def test_the_example_of_html_beside_plain_text(tmp_path: Path) -> None:
    """Its last boundary is left open, as there."""
    template = (
        f'{HEAD}MIME-Version: 1.0\nContent-Type: multipart/alternative; boundary="edge"\n\nYour mail reader is old.\n\n'
        "--edge\nContent-Type: text/plain; charset=us-ascii\n\nHi, {{name}},\n\nsee https://orchard.example.org/a_b_c\n\n"
        f"--edge\nContent-Type: text/html; charset=us-ascii\n{HTML}"
    )
    found = moved(tmp_path, template)
    assert found.text() == "Hi, Ada,\n\nsee https://orchard.example.org/a_b_c"
    assert found.notes[0] == "mailmerge_template.txt:12: the part of type text/html is not carried over"


MARKDOWN: Final = """\

Hi, {{name}},

You can add:

- *Light* and **strong** words, and **both _together_**.
- Lists in lists:
    1. Item 1
    2. Item 2
- Words in `backticks`.
- A [link](https://orchard.example.org/p6).

# A heading
## And another

Here is a picture:
![an apple](https://orchard.example.org/apple.png)
"""


def test_the_markdown_example(tmp_path: Path) -> None:
    found = moved(tmp_path, HEAD + "CONTENT-TYPE: text/markdown\n" + MARKDOWN)
    html = found.letters[0].rendering.html
    assert all(piece in html for piece in ("<em>Light</em>", "<strong>strong</strong>", "<code>backticks</code>"))
    assert re.search(r"<ol[^>]*>\s*<li[^>]*>Item 1</li>", html)
    assert re.search(r"<h1[^>]*>A heading</h1>", html)
    assert "Here is a picture:<br>\nan apple" in html.replace("<br />", "<br>"), "a line break stays one there"
    assert "<img" not in html.partition("<strong>strong")[2]
    (note,) = (note for note in found.notes if "picture" in note)
    assert "![an apple](https://orchard.example.org/apple.png) is not carried over" in note


def test_the_example_of_attachments(tmp_path: Path) -> None:
    """Beside the template, above it, at an absolute path with a field in its name."""
    root = tmp_path / "work"
    (tmp_path / "shared").mkdir()
    for name in ("Ada", "Bo"):
        (tmp_path / "shared" / f"{name}_list.txt").write_text(f"for {name}")
    (tmp_path / "above.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    attached = (
        f"ATTACHMENT: report.txt\nATTACHMENT: ../above.png\nATTACHMENT: {tmp_path}/shared/{{{{name}}}}_list.txt\n"
    )
    found = moved(root, HEAD + attached + "\nHi, {{name}}.\n", files={"report.txt": b"apples"})
    for number, name in enumerate(("Ada", "Bo")):
        paths = [a.path for a in found.letters[number].letter.attachments]
        assert paths == ["attachments/report.txt", "attachments/above.png", f"attachments/{name}_list.txt"]
        assert (found.root / paths[2]).read_text() == f"for {name}"
    assert [a.name for a in found.letters[0].letter.attachments] == ["report.txt", "above.png", "Ada_list.txt"]


@pytest.mark.parametrize("kind", ["text/html", "text/markdown"])
def test_the_examples_of_inline_images(tmp_path: Path, kind: str) -> None:
    """The pictures are attached, two of one name too; their words stand in the text."""
    bodies = {
        "text/html": '<html><body><p>Hi, {{name}},</p><img alt="one" src="image.jpg"/>Second: '
        '<img alt="two" src="second/image.jpg"></body></html>\n',
        "text/markdown": "Hi, {{name}},\n\n![one](image.jpg)\n\nSecond: ![two](second/image.jpg)\n",
    }
    head = f"{HEAD}Content-Type: {kind}\nATTACHMENT: image.jpg\nATTACHMENT: second/image.jpg\n\n"
    found = moved(
        tmp_path, head + bodies[kind], files={"image.jpg": JPEG + b"first", "second/image.jpg": JPEG + b"second"}
    )
    assert [a.path for a in found.letters[0].letter.attachments] == ["attachments/image.jpg", "attachments/image-2.jpg"]
    assert (found.root / "attachments" / "image-2.jpg").read_bytes() == JPEG + b"second"
    assert "one" in found.text()
    assert "Second: two" in found.text()
    pictures = [todo for note, todo in zip(found.notes, found.todos, strict=True) if "the picture" in note]
    assert ["the file is attached" in todo for todo in pictures] == [True, True]


def test_oneself_first(tmp_path: Path) -> None:
    """mailmerge advises to be the first recipient; here one is left out, with the reason, and told of --test-to."""
    rows = ROWS.replace("ada@press", "Office@orchard.example.org,Myself,Bern,1\nada@press")
    found = moved(tmp_path, HEAD + "\nHi.\n", rows)
    assert [m.letter.key for m in found.letters] == ["ada@press.example", "bo@radio.example"]
    (note,) = (note for note in found.notes if "own address" in note)
    assert note.startswith("mailmerge_database.csv:2: Office@orchard.example.org")
    skips = list(found.draft.unsealed.skips())
    assert [(s.reason, s.place.line) for s in skips] == [("filtered", 2)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_one_address_for_all_and_a_script_of_ones_own(tmp_path: Path, end: str) -> None:
    """TO may hold no field at all; text beyond ASCII, emoji too, in Markdown; lines end as on any system."""
    head = "TO: all@press.example\nSUBJECT: Klâwen 😀 {{name}}\nFROM: Orchard Society <office@orchard.example.org>\n"
    template = f"{head}CONTENT-TYPE: text/markdown\n\nHi 😀 **{{{{name}}}}**\n".replace("\n", end)
    found = moved(tmp_path, template, "name\nLaȝamon\n")
    assert found.letters[0].rendering.subject == "Klâwen 😀 Laȝamon"
    assert found.text() == "Hi 😀 Laȝamon"
    assert found.letters[0].envelope.forward_paths == ("all@press.example",)


def test_oneself_in_copy(tmp_path: Path) -> None:
    """mailmerge sends it; here it is taken out of Cc, and out of a row that has somebody else besides."""
    head = HEAD + 'CC: "The Office, Bern" <office@orchard.example.org>, "Desk, Bern" <{{name}}@home.example>\n'
    rows = ROWS.replace("ada@press.example", '"OFFICE@orchard.example.org, ada@press.example"')
    found = moved(tmp_path, head + "\nHi.\n", rows)
    recipient = found.letters[0].letter.recipient
    assert [m.address for m in recipient.mailboxes] == ["ada@press.example", "Ada@home.example"]
    assert recipient.cc[0].name == "Desk, Bern"
    said = "mailmerge_database.csv:2: the sender's own address was taken out of To or Cc, in rows: 2"
    assert said in found.notes


# -- the list ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "columns", "first"),
    [
        ("{{email}}", "email", "ada@press.example"),
        ("{{ Email }}", "Email", "ada@press.example"),
        ("{{mail}}", "mail", "ada@press.example"),
        ("{{mail}}", "mail,Email", "ada@press.example"),
        ("{{who}}@press.example", "who", "ada@press.example"),
        ("{{who}} <{{who}}@press.example>", "email,who", "ada <ada@press.example>"),
        ("{{who}}@press.example, {{who}}@radio.example", "who", "ada@press.example, ada@radio.example"),
    ],
)
def test_whom_it_goes_to(tmp_path: Path, to: str, columns: str, first: str) -> None:
    cells = {"email": "ada@press.example", "Email": "other", "mail": "ada@press.example", "who": "ada"}
    if columns == "Email":
        cells["Email"] = "ada@press.example"
    rows = f"{columns},town\n{','.join(cells[c] for c in columns.split(','))},Bern\n"
    last = columns.rpartition(",")[2]
    found = moved(tmp_path, HEAD.replace("{{email}}", to) + f"\nHi, {{{{{last}}}}}.\n", rows)
    assert found.rows[0]["email"] == first
    assert found.text() == f"Hi, {cells[last]}."


@pytest.mark.parametrize("to", ["{{email}}", "all@press.example", "{{mail}}"])
def test_a_list_without_rows(tmp_path: Path, to: str) -> None:
    assert moved(tmp_path, HEAD.replace("{{email}}", to) + "\nHi.\n", "mail,town\n").letters == []


def test_copies_are_a_column(tmp_path: Path) -> None:
    found = moved(tmp_path, HEAD + "CC: desk@orchard.example, {{name}}@home.example\nBCC: boss@home.example\n\nHi.\n")
    recipient = found.letters[0].letter.recipient
    assert [m.address for m in recipient.cc] == ["desk@orchard.example", "Ada@home.example"]
    assert "boss@home.example is not carried over: nobody gets a hidden copy" in found.notes[0]
    assert found.notes[0].startswith("mailmerge_template.txt:5: ")
    assert "desk@orchard.example gets a copy of several letters, as there" in found.notes[1]
    assert found.draft.campaign.on_duplicate == "each"


def test_one_mailbox_in_several_rows_is_for_a_person_to_decide(tmp_path: Path) -> None:
    names = folder(tmp_path, HEAD + "\nHi.\n", ROWS + "ADA@press.example,Ada,Bern,3\n")
    _, notes = convert_mailmerge(tmp_path / "moved", [tmp_path / name for name in names], TODAY)
    assert "ada@press.example is written to in several rows" in notes[0].what
    (problem,) = check_folder(Desk(tmp_path / "moved", sandbox=True)).problems
    assert "stands twice" in problem.what


def test_columns_that_mean_something_else_here(tmp_path: Path) -> None:
    """Above all a `cc` that mailmerge never looked at: nobody is to get a copy because of its name."""
    rows = (
        "email,cc,language,subject,Name,call,key,channel\n"
        "ada@press.example,boss@press.example,Deutsch,Äpfel,Ada,call me,,none\nbo@radio.example,,x,Birnen,Bo,,,\n"
    )
    head = HEAD.replace("The harvest in {{town}}", "{{subject}}")
    found = moved(tmp_path, f"{head}\n{{{{Name}}}}: {{{{cc}}}} {{{{ language|upper }}}} {{{{call}}}}\n", rows)
    assert [m.rendering.subject for m in found.letters] == ["Äpfel", "Birnen"]
    assert found.text() == "Ada: boss@press.example DEUTSCH call me"
    assert found.letters[0].envelope.forward_paths == ("ada@press.example",)
    assert set(found.rows[0]) == {
        "email", "old_cc", "old_language", "old_subject", "name", "old_call", "old_key", "old_channel",
    }  # fmt: skip
    assert len([note for note in found.notes if note.startswith("mailmerge_database.csv:1: column")]) == 7


def test_a_key_that_is_one_stays(tmp_path: Path) -> None:
    found = moved(
        tmp_path,
        HEAD + "\nHi.\n",
        ROWS.replace("email,", "key,email,").replace("\nada", "\n1,ada").replace("\nbo", "\n2,bo"),
    )
    assert [m.letter.key for m in found.letters] == ["1", "2"]


def test_a_list_with_a_byte_order_mark_and_semicolons(tmp_path: Path) -> None:
    found = moved(tmp_path, HEAD + "\nHi, {{name}}.\n", "\ufeff" + ROWS.replace(",", ";"))
    assert found.text() == "Hi, Ada."


def test_an_attachment_of_ones_own_whose_name_no_pattern_makes(tmp_path: Path) -> None:
    """The same name in two folders, and a filter: which file goes to whom stands in the list, and `check` asks."""
    files: dict[str, str | bytes] = {"bern/plan.txt": "Bern", "sion/plan.txt": "Sion"}
    names = folder(tmp_path, HEAD + "ATTACHMENT: {{town|lower}}/plan.txt\n\nHi.\n", files=files)
    _, notes = convert_mailmerge(tmp_path / "moved", [tmp_path / name for name in names], TODAY)
    assert "the column 'attachment_1'" in notes[0].what
    assert 'on_mismatch = "send"' in notes[0].todo
    found = Moved(tmp_path / "moved", [])
    assert [row["attachment_1"] for row in found.rows] == ["plan.txt", "plan-2.txt"]
    assert [m.letter.attachments[0].path for m in found.letters] == ["attachments/plan.txt", "attachments/plan-2.txt"]
    assert (found.root / "attachments" / "plan-2.txt").read_text() == "Sion"
    problems = check_folder(Desk(found.root, sandbox=True)).problems
    assert ["may not be for" in problem.what for problem in problems] == [True, True]


@pytest.mark.parametrize("first", ["terms/{{name}}.txt", "terms/Ada.txt", "extra/ada.txt"])
def test_files_of_one_name_in_two_folders_stay_two_files(tmp_path: Path, first: str) -> None:
    """Under one name the one would take the place of the other, and go to everybody twice."""
    files: dict[str, str | bytes] = {
        f"{folder}/{name}.txt": f"{folder} for {name}"
        for folder, name in (("terms", "Ada"), ("extra", "ada"), ("terms", "Bo"), ("prices", "Ada"), ("prices", "Bo"))
    }
    attached = f"ATTACHMENT: {first}\nATTACHMENT: prices/{{{{name}}}}.txt\n"
    names = folder(tmp_path, HEAD + attached + "\nHi.\n", files=files)
    convert_mailmerge(tmp_path / "moved", [tmp_path / name for name in names], TODAY)
    found = Moved(tmp_path / "moved", [])
    for name, merged in zip(("Ada", "Bo"), found.letters, strict=True):
        texts = [(found.root / a.path).read_text() for a in merged.letter.attachments]
        assert texts == [files[first.replace("{{name}}", name)], f"prices for {name}"]
    copied = [path.name.lower() for path in (found.root / "attachments").iterdir()]
    assert len(copied) == len(set(copied))


# -- the text ---------------------------------------------------------------------------------------------------------


def test_typed_text_says_what_it_said(tmp_path: Path) -> None:
    typed = (
        "Hi, {{name}}: *not* light, _nor_ this_one, 2 * 3 < 7 & &copy; [x](y) `z` \\n\n"
        "# 1 of 3\n17. March is the day\n\nSum\n---\n\n* first\n* second\n-- \nthe orchard, me@orchard_x.example\n\n"
        "1. one\n2. two\n\n    indented\n> quoted\n"
    )
    found = moved(tmp_path, f"{HEAD}\n{typed}")
    assert found.text().split("\n") == [
        "Hi, Ada: *not* light, _nor_ this_one, 2 * 3 < 7 & &copy; [x](y) `z` \\n",
        "# 1 of 3",
        "17. March is the day",
        "",
        "Sum",
        "---",
        "",
        "- first",
        "- second",
        "",
        "--",
        "the orchard, me@orchard_x.example",
        "",
        "1. one",
        "2. two",
        "",
        "indented",
        "",
        "> quoted",
    ]


PIECES: Final = [*"ab *_`[]()<>#&;!\\-+=.1~|/:@", " https://a.example/", "&amp;", "<b>", " www.a.example"]
WORDS = st.lists(st.sampled_from(PIECES), max_size=20).map("".join)


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=4))
def test_no_sign_of_a_typed_text_is_lost(lines: list[str]) -> None:
    """Whatever is typed comes out with the same signs, but for list marks and blanks."""
    tags = Tags()
    words = of_typed(tags.protect("\n".join(lines), "x", 1), tags)
    layout = Source("<html><body>zqTAG0zq</body></html>", _body(), "layout", 1)
    both = twins(Source(words, Tags(), "x", 1), layout, {})
    assert _signs(finish(both.text.split("\n"))) == _signs("\n".join(lines))


def _body() -> Tags:
    tags = Tags()
    tags.protect("{{ body }}", "layout", 1)
    return tags


def _signs(text: str) -> str:
    return re.sub(r"\s|[-*•+>]|\d[.)]?", "", re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", text))


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>a<b> bold </b>b</p>", "a bold b"),
        ("<b><p>one</p><p>two</p></b>", "one\n\ntwo"),
        ('<a href="page.html">here</a> <a href="javascript:x()">or here</a>', "here or here"),
        ('<a href="{{site}}">site</a>', "site <https://x.example/a_b>"),
        ("<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>", "- a\n  - b\n- c"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\n\nc"),
        ("<h2>1 * 2</h2><blockquote>q</blockquote>", "1 * 2\n\n> q"),
        ("<p>5 &lt; 6 &amp; *</p><script>x()</script>", "5 < 6 & *"),
        ("<b></b><p></p><i>lone", "lone"),
    ],
)
def test_html_by_its_words(tmp_path: Path, html: str, text: str) -> None:
    rows = "email,site\na@x.example,https://x.example/a_b\n"
    head = HEAD.replace(" in {{town}}", "") + "Content-Type: text/html\n\n"
    assert moved(tmp_path, head + html, rows).text() == text


TAGS: Final = ("p", "b", "i", "a", "ul", "ol", "li", "br", "td", "tr", "h1", "blockquote", "img", "style", "div")
HTML_PIECES = st.sampled_from(
    [*(f"<{t}>" for t in TAGS), *(f"</{t}>" for t in TAGS), "a", " ", "*", "_", "&lt;", "1. ", "# ", '<a href="x">']
)


@settings(max_examples=300, deadline=None)
@given(st.lists(HTML_PIECES, max_size=25).map("".join))
def test_whatever_html_there_is_its_words_are_a_letter(html: str) -> None:
    words, _ = of_html(html)
    tags = Tags()
    layout = Source("<html><body>zqTAG0zq</body></html>", _body(), "layout", 1)
    both = twins(Source(tags.protect(words, "x", 1), tags, "x", 1), layout, {})
    seen = re.sub(r"(?s)<style>.*?(</style>|\Z)|<[^>]*>", "", html)
    assert finish(both.text.split("\n")).count("a") == seen.count("a")


# -- what is not carried over -----------------------------------------------------------------------------------------


def test_headers_without_a_place_here(tmp_path: Path) -> None:
    found = moved(tmp_path, HEAD + "REPLY-TO: Desk <desk@orchard.example>\nX-Season: 2026\nDate: now\n\nHi.\n")
    assert found.draft.campaign.sender.reply_to == "desk@orchard.example"
    assert [note.partition(": ")[2] for note in found.notes[:2]] == [
        "the header X-Season is not carried over",
        "the Date is not carried over",
    ]


@pytest.mark.parametrize(
    ("tag", "word"),
    [
        ('{% include "foot.txt" %}', "include"),
        ("{% macro x() %}y{% endmacro %}", "macro"),
        ("{{ name|tojson }}", "tojson"),
        ("{{ name", "end of"),
    ],
)
def test_a_tag_that_is_not_used_here(tmp_path: Path, tag: str, word: str) -> None:
    """It is carried over as it stands; `check` refuses it in the letter's line, and `init` says so."""
    names = folder(tmp_path, f"{HEAD}\nHi.\n\n{tag}\n")
    _, notes = convert_mailmerge(tmp_path / "moved", [tmp_path / name for name in names], TODAY)
    assert re.search(rf"mailmerge_template.txt:7: a tag that is not used here: .*{word}", str(notes[0]))
    assert tag in (tmp_path / "moved" / "templates" / "letter.en.md").read_text()
    with pytest.raises(TemplateError, match=r"letter\.en\.md:6"):
        Draft(tmp_path / "moved")


def test_a_sender_by_row(tmp_path: Path) -> None:
    head = HEAD.replace("<office@orchard.example.org>", "<{{town}}@orchard.example.org>")
    found = moved(tmp_path, head + "\nHi.\n")
    assert found.draft.campaign.sender.address == "Bern@orchard.example.org"
    assert "FROM differs by row, and a campaign has one: Bern@orchard.example.org is taken" in found.notes[0]


def test_a_text_in_another_language(tmp_path: Path) -> None:
    """The house says the rest in it; one that it does not know is refused, with those it knows."""
    names = folder(tmp_path, HEAD + "\nMadame, Monsieur,\n\nvous avez {{apples}} pommes.\n")
    given_words = ("init", "moved", "--from-mailmerge", *names, "--language")
    done = dispatcher(*given_words, "de", folder=tmp_path)
    assert (done.code, "there are no forms of address in 'de'" in done.err, "en, es, fr" in done.err) == (2, True, True)
    assert dispatcher(*given_words, "fr", folder=tmp_path).code == 0
    assert check_folder(Desk(tmp_path / "moved", sandbox=True)).problems == []
    text = Moved(tmp_path / "moved", []).letters[0].rendering.text
    assert "vous avez 17 pommes." in text
    assert "Si vous" in text
    done = dispatcher("init", "other", "--language", "fr", folder=tmp_path)
    assert (done.code, (tmp_path / "other").exists()) == (2, False)


# -- the server -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conf", "relay"),
    [
        (
            "host = smtp.example.org\nport = 465\nsecurity = SSL/TLS\nusername = office",
            {"host": "smtp.example.org", "port": 465, "security": "tls", "user": "office"},
        ),
        (
            "host = smtp.example.org\nport = 587\nsecurity = STARTTLS\nusername = office",
            {"host": "smtp.example.org", "port": 587, "security": "starttls", "user": "office"},
        ),
        (
            "host = smtp.example.org\nport = 587\nsecurity = XOAUTH\nusername = office",
            {"security": "starttls", "auth": "xoauth2", "user": "office"},
        ),
        ("host = smtp.example.org\nport = 25", {"security": "starttls", "user": None}),
        ("host = smtp.example.org\nport = 25\nsecurity = PLAIN\nusername = office", {"security": "starttls"}),
        ("host = localhost\nport = 25\nsecurity = Never", {"host": "localhost", "security": "none", "user": None}),
        (
            "host = localhost\nport = 25\nsecurity = PLAIN\nusername = office",
            {"security": "starttls", "user": "office"},
        ),
        ("host = localhost\nport = 2525", {"security": "none", "port": 2525}),
    ],
)
def test_servers(tmp_path: Path, conf: str, relay: Mapping[str, object]) -> None:
    found = moved(tmp_path, HEAD + "\nHi.\n", server=f"# ours\n[smtp_server]\n{conf}\n")
    account = found.draft.campaign.relay
    assert {name: getattr(account, name) for name in relay} == relay
    assert (account.password and account.password.env) == ("DISPATCHER_PASSWORD" if account.user else None)
    clear = "PLAIN" in conf or ("smtp.example.org" in conf and "security" not in conf)
    assert any("in clear" in note for note in found.notes) == clear


def test_a_server_that_is_known_gets_its_profile_and_its_pace(tmp_path: Path) -> None:
    conf = "[smtp_server]\nhost = smtp.gmail.com\nport = 465\nsecurity = SSL/TLS\nusername = YOUR_USERNAME_HERE\n"
    found = moved(tmp_path, HEAD + "\nHi.\n", server=conf + "ratelimit = 20\n")
    campaign = found.draft.campaign
    assert (campaign.relay.profile, campaign.relay.port, campaign.relay.security) == ("gmail", 465, "tls")
    assert str(campaign.pace.rate) == "20/min"
    assert any("username is still mailmerge's example" in note for note in found.notes)


def test_a_password_is_carried_nowhere(tmp_path: Path) -> None:
    secret = "correct-horse"
    conf = (
        f"[smtp_server]\nhost = smtp.example.org\nport = 465\nsecurity = SSL/TLS\nusername = me\npassword = {secret}\n"
    )
    found = moved(tmp_path, HEAD + "\nHi.\n", server=conf)
    assert any(note.startswith("mailmerge_server.conf:6: password is a secret") for note in found.notes)
    assert not any(secret in note for note in found.notes)
    assert not any(secret.encode() in octets for _, _, octets in tree(found.root).values())


# -- mistakes in what is given ----------------------------------------------------------------------------------------


T, D, S = "mailmerge_template.txt", "mailmerge_database.csv", "mailmerge_server.conf"


@pytest.mark.parametrize(
    ("template", "rows", "server", "where", "words"),
    [
        (HEAD + "Hi.\n", ROWS, None, T + ":4", "no header line"),
        ("TO: {{email}}\n\nHi.\n", ROWS, None, T + ":1", "no line SUBJECT:"),
        (HEAD + "CC: a@x.example\nCC: b@x.example\n", ROWS, None, T + ":5", "CC stands twice"),
        (HEAD + "From: a@x.example\n", ROWS, None, T + ":4", "From stands twice"),
        (HEAD.replace("<office", "<office <"), ROWS, None, T + ":3", "put the whole of a name"),
        (HEAD.replace("{{email}}", "{{mial}}"), ROWS, None, T + ":1", f"'mial' is missing (for {D}:2)"),
        (HEAD.replace("{{email}}", "{{email"), ROWS, None, T + ":1", "unexpected"),
        (HEAD.replace("The harvest in {{town}}", ""), ROWS, None, T + ":2", "there is nothing behind SUBJECT:"),
        (HEAD + "ATTACHMENT: none.pdf\n", ROWS, None, T + ":4", "none.pdf is no file"),
        (HEAD + "ATTACHMENT: {{name}}.pdf\n", ROWS, None, T + ":4", f"Ada.pdf is no file (for {D}:2), and 1 more"),
        (HEAD + "ATTACHMENT:\n", ROWS, None, T + ":4", "names no file"),
        (HEAD + "ATTACHMENT: ~nobody-of-this-name/list.pdf\n", ROWS, None, T + ":4", "list.pdf is no file"),
        (HEAD + f"ATTACHMENT: {'x' * 300}\n", ROWS, None, T + ":4", "xxx is no file"),
        (HEAD + "Content-Type: multipart/mixed\n\nHi.\n", ROWS, None, T + ":6", "none of them is text"),
        (HEAD, ROWS + "one,two\n", None, D + ":4", "2 cells where the header has 4"),
        (HEAD, ROWS, "host = x\n", S + ":1", "no section headers"),
        (HEAD, ROWS, "[other]\nhost = x\n", S + ":1", "no [smtp_server]"),
        (HEAD, ROWS, "[smtp_server]\nport = 25\n", S + ":1", "there is no host"),
        (HEAD, ROWS, "[smtp_server]\nhost = x\nport = many\n", S + ":3", "no number"),
        (HEAD, ROWS, "[smtp_server]\nhost = x\nsecurity = TLS\n", S + ":3", "does not know"),
        (HEAD, ROWS, "[smtp_server]\nhost = x\nsecurity = STARTTLS\n", S + ":3", "needs a username"),
        (HEAD, ROWS, "[smtp_server]\nhost = x\nhost = y\n", S + ":3", "already exists"),
    ],
)  # fmt: skip
def test_mistakes_are_named_and_leave_nothing(
    tmp_path: Path, template: str, rows: str, server: str | None, where: str, words: str
) -> None:
    names = folder(tmp_path, template, rows, server)
    with pytest.raises(UsageError) as caught:
        convert_mailmerge(tmp_path / "moved", [tmp_path / name for name in names], TODAY)
    said = str(caught.value).replace(f"{tmp_path}/", "")
    assert (said.startswith((f"{where}:", f"{where},")), words in said) == (True, True), said
    assert not (tmp_path / "moved").exists()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_files_that_are_not_there(tmp_path: Path, number: int) -> None:
    files = [tmp_path / name for name in folder(tmp_path, HEAD + "\nHi.\n", ROWS, "[smtp_server]\nhost = x\n")]
    files[number] = tmp_path / "missing"
    with pytest.raises(UsageError, match="missing"):
        convert_mailmerge(tmp_path / "moved", files, TODAY)


def test_a_template_that_is_not_utf_8(tmp_path: Path) -> None:
    files = [tmp_path / name for name in folder(tmp_path, "")]
    files[0].write_bytes(HEAD.encode() + b"\nH\xe9.\n")
    with pytest.raises(UsageError, match=r"template\.txt:5: not UTF-8"):
        convert_mailmerge(tmp_path / "moved", files, TODAY)


def test_how_it_is_called(tmp_path: Path) -> None:
    names = folder(tmp_path, HEAD + "\nHi.\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    before = tree(tmp_path)
    for words in (
        ("full", "--from-mailmerge", *names),
        ("moved", "--from-mailmerge"),
        ("moved", "--from-mailmerge", names[0]),
        ("moved", "--from-mailmerge", *names, "a", "b"),
        ("moved", *names),
    ):
        done = dispatcher("init", *words, folder=tmp_path)
        assert (done.code, "Traceback" in done.err) == (2, False), words
    assert tree(tmp_path) == before
