"""The logo: one picture beside the HTML that shows it, encoded once, sealed like everything else, never fetched."""

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import pytest

from dispatcher.core.compose import Composer, content_id, dated, message_id
from dispatcher.core.errors import CampaignError, PlanConflict
from dispatcher.core.gate import gate
from dispatcher.core.merge import Merged
from dispatcher.core.model import Attachment, Message, Rendering
from dispatcher.desk import Desk
from dispatcher.desk.draft import Draft
from dispatcher.desk.outlook import outlook
from dispatcher.desk.sending import send
from dispatcher.web.preview import write_preview
from tests.browser import Screens
from tests.campaigns import LAYOUT, LETTER, PEOPLE, write_campaign
from tests.command import REPOSITORY
from tests.pictures import png
from tests.readers import File, Tree, by_mail_parser, by_node, by_standard_library
from tests.rendered import problem
from tests.test_compose import GOLDEN, HEADERS, MISSION, WHEN, attached, report
from tests.test_preview_browser import await_frames
from tests.test_readers import differences, in_one_line

PICTURE = png(4, 2)
LOGO = Attachment("Émblème.png", "image/png", hashlib.sha256(PICTURE).hexdigest(), len(PICTURE), "logo.png")
URL = f"cid:{content_id(LOGO)}"
RENDERING = Rendering("Résumé", "Dear Excellency,\n", f'<p><img src="{URL}" alt="KMS"> Excellency — é</p>\n', "en")
SHOWN = LAYOUT.replace("{{ body }}", '{% if logo %}<img src="{{ logo }}" alt="X">{% endif %}\n{{ body }}')
RELATED: Tree = ("multipart/related", (("text/html",), ("image/png",)))
ALTERNATIVE: Tree = ("multipart/alternative", (("text/plain",), RELATED))


def campaign(folder: Path, logo: bytes = PICTURE, name: str = "logo.png") -> Path:
    files: Mapping[str, str | bytes | None] = {f"house/{name}": logo, "letters/layout.html": SHOWN}
    return write_campaign(folder, files=files, letter=f'{LETTER}logo = "house/{name}"')


def letters(folder: Path) -> list[Merged]:
    return [item for item in Draft(folder).items() if isinstance(item, Merged)]


def composed(*attachments: Attachment) -> Message:
    composer = Composer(HEADERS, logo=LOGO)
    number = message_id("upr-2009", "CIV", "example.org")
    octets = {LOGO.digest: PICTURE}
    message = composer.compose(MISSION, RENDERING, number, attachments, lambda d: octets.get(d) or report(d))
    message = dated(message, WHEN)
    gate(message, composer.planned(MISSION), eight_bit=False)
    return message


def golden() -> bytes:
    annex = attached(b"%PDF-1.7 a short one\n", "Résumé.pdf")
    composer = Composer(HEADERS, logo=LOGO)
    octets = {LOGO.digest: PICTURE, annex.digest: b"%PDF-1.7 a short one\n"}
    number = message_id("upr-2009", "CIV", "example.org")
    return dated(composer.compose(MISSION, RENDERING, number, (annex,), octets.__getitem__), WHEN).octets


def test_golden_letter_with_logo() -> None:
    assert golden() == (GOLDEN / "logo.eml").read_bytes()


@pytest.mark.parametrize("attachments", [(), (attached(),), (attached(), attached(name="again.pdf"))])
def test_three_readers_agree_on_a_letter_with_logo(attachments: tuple[Attachment, ...]) -> None:
    """mixed { alternative { text, related { html, picture } }, attachments }; without attachments the alternative."""
    octets = composed(*attachments).octets
    found = by_standard_library(octets)
    assert found.tree == (
        ("multipart/mixed", (ALTERNATIVE, *(("application/pdf",) for _ in attachments))) if attachments else ALTERNATIVE
    )
    logo, *others = found.files
    assert logo == File("Émblème.png", "image/png", URL.removeprefix("cid:"), PICTURE)
    assert [one.name for one in others] == [one.name for one in attachments]
    assert URL in found.html
    (of_node,) = by_node([octets])
    assert differences(of_node, found) == {}
    assert differences(in_one_line(by_mail_parser(octets)), in_one_line(found)) == {}


def test_the_picture_is_inline_and_what_the_html_names() -> None:
    message = message_from_bytes(composed(attached()).octets, policy=default)
    assert not any(part.defects for part in message.walk())
    related = next(part for part in message.walk() if part.get_content_type() == "multipart/related")
    assert related.get_param("type") == "text/html", "RFC 2387 §3.1"
    picture = list(related.iter_parts())[1]
    assert isinstance(picture, EmailMessage)
    assert (picture.get_content_disposition(), picture["Content-ID"]) == ("inline", f"<{content_id(LOGO)}>")
    body = message.get_body(("html",))
    assert body is not None
    assert re.findall(r'src="([^"]*)"', body.get_content()) == [URL]


def test_the_logo_is_in_the_shared_tail_and_encoded_once(tmp_path: Path) -> None:
    found = letters(campaign(tmp_path, png(noise=os.urandom(60_000))))
    assert len(found) == 4
    assert len({tuple(map(id, item.message.shared[:3])) for item in found}) == 1
    assert all(len(item.message.own) < 5000 for item in found)
    assert all(item.message.own.endswith(b"\r\n") for item in found)


def test_a_letter_with_logo_is_sealed_and_sent_as_it_was_planned(tmp_path: Path) -> None:
    folder = campaign(tmp_path)
    planned = {item.letter.message_id: item.message.octets for item in letters(folder)}
    desk = Desk(folder, sandbox=True)
    assert send(desk, outlook(desk, limit=2)).exit_code == 0
    (folder / "house/logo.png").unlink()
    (folder / "house/logo.png").write_bytes(PICTURE)
    assert send(desk, outlook(desk)).exit_code == 0
    captured = [path.read_bytes().split(b"\r\n", 1)[1] for path in desk.mail_path.rglob("*.eml")]
    assert sorted(captured) == sorted(planned.values())


def test_another_logo_is_another_plan(tmp_path: Path) -> None:
    desk = Desk(campaign(tmp_path), sandbox=True)
    assert send(desk, outlook(desk, limit=1)).exit_code == 0
    (tmp_path / "house/logo.png").write_bytes(png(8, 8))
    with pytest.raises(PlanConflict, match=r"logo\.digest: "):
        outlook(desk)


def test_without_a_logo_nothing_is_added(tmp_path: Path) -> None:
    for item in letters(write_campaign(tmp_path, files={"letters/layout.html": SHOWN})):
        alternative = ("multipart/alternative", (("text/plain",), ("text/html",)))
        assert by_standard_library(item.message.octets).tree == ("multipart/mixed", (alternative, ("application/pdf",)))
        assert "<img" not in item.rendering.html


@pytest.mark.parametrize(
    ("logo", "name", "said"),
    [
        (b"GIF89a\1\0\1\0", "logo.gif", "house/logo.gif is a GIF picture"),
        (b"<svg/>", "logo.svg", "house/logo.svg is of the type image/svg+xml"),
        (b"%PDF-1.4\n", "logo.png", "its name says a PNG picture, but it is a PDF"),
        (png(noise=os.urandom(100_000)), "logo.png", "house/logo.png has 100 kB; it goes with every letter"),
        (b"", "logo.png", "house/logo.png is empty"),
    ],
)
def test_a_picture_that_not_everybody_would_see(tmp_path: Path, logo: bytes, name: str, said: str) -> None:
    with pytest.raises(CampaignError, match=re.escape(said)) as caught:
        Draft(campaign(tmp_path, logo, name=name))
    (only,) = caught.value.problems
    assert (only.where.file, only.where.column) == ("campaign.toml", "key letter.logo")
    assert only.where.line
    assert only.todo


def test_a_layout_without_place_for_it(tmp_path: Path) -> None:
    folder = campaign(tmp_path)
    (folder / "letters/layout.html").write_text(LAYOUT, encoding="utf-8")
    with pytest.raises(CampaignError, match=r"letters/layout\.html shows no logo"):
        Draft(folder)


@pytest.mark.parametrize(
    "bad",
    [
        '<img src="https://example.org/logo.png">',
        '<img src="{{ city }}">',
        '<img src="{{ logo }}?x">',
        '<img src="{{ logo }}" srcset="x"><img src="cid:x">',
        '<img src="{{ logo }}" style="background: url(x)">',
        '<div background="{{ logo }}">',
        '<script src="{{ logo }}">',
    ],
)
def test_no_other_picture_is_let_in(bad: str) -> None:
    found = problem("x", layout=LAYOUT.replace("{{ body }}", f"{bad}\n{{{{ body }}}}"), city="x")
    assert "in the layout would fetch something from elsewhere" in found.what
    assert '<img src="{{ logo }}"' in found.todo


def test_a_letter_s_link_is_no_logo(tmp_path: Path) -> None:
    assert "is not an http, https or mailto link" in problem("[x]({{ logo }})").what


def test_no_column_may_be_called_logo(tmp_path: Path) -> None:
    folder = campaign(tmp_path)
    (folder / "people.csv").write_text(PEOPLE.replace("key,email", "key,email").replace(",city,", ",logo,"))
    (only,) = Draft(folder).summary().problems
    assert "column 'logo' has a name that templates use" in only.what


def test_the_founding_letter_takes_a_logo(tmp_path: Path) -> None:
    """In the house layout it stands for the organisation's name, which is shown where pictures are not."""
    for part in ("recipients", "templates", "campaign.toml"):
        source = REPOSITORY / part
        shutil.copytree(source, tmp_path / part) if source.is_dir() else shutil.copy(source, tmp_path / part)
    (tmp_path / "logo.png").write_bytes(PICTURE)
    toml = tmp_path / "campaign.toml"
    text = toml.read_text(encoding="utf-8").replace("[letter]\n", '[letter]\nlogo = "logo.png"\n')
    toml.write_text(text, encoding="utf-8")
    item = next(item for item in Draft(tmp_path).items() if isinstance(item, Merged))
    (tag,) = re.findall(r"<img[^>]*>", item.rendering.html)
    assert f'src="{URL}"' in tag
    assert 'alt="Khmer M' in tag
    assert by_standard_library(item.message.octets).tree == ("multipart/mixed", (ALTERNATIVE, ("application/pdf",)))


def test_the_preview_shows_it(screens: Screens, tmp_path: Path) -> None:
    """It stands on a page once, and is put into a letter that is opened."""
    folder = campaign(tmp_path / "campaign")
    written = write_preview(tmp_path / "out", Draft(folder), when=datetime(2009, 10, 1, tzinfo=UTC))
    data = "data:image/png;base64,"
    assert written.index.read_text(encoding="utf-8").count(data) == 1
    window = screens.show(written.index, 1280)
    window.page.evaluate("document.getElementById('letter-2').open = true")
    await_frames(window.page, 1)
    assert data in (window.page.locator("#letter-2 iframe").get_attribute("srcdoc") or "")
    assert window.complaints == []


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("to write the golden letter anew: python -m tests.test_logo --write")
    (GOLDEN / "logo.eml").write_bytes(golden())
