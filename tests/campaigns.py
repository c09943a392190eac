"""A small campaign folder to try things on: four recipients, a short letter in English and French, one attachment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.pdfs import pdf

TOP: Final = """\
id = "harvest-2026"
title = "The harvest report"
language = "en"
date = 2026-03-01
"""
SENDER: Final = """\
organisation = "Orchard Society"
name = "Orchard Society"
address = "office@orchard.example.org"
reply_to = "answers@orchard.example.org"
return_path = "bounces@orchard.example.org"
signatory = "Ada Pomme"
function = { en = "Secretary", fr = "Secrétaire" }
"""
LETTER: Final = """\
template = "letters/letter.{language}.md"
forms = "letters/forms.{language}.toml"
layout = "letters/layout.html"
attachments = ["letters/report.pdf"]
"""
RECIPIENTS: Final = 'source = "people.csv"\n'
RELAY: Final = 'host = "127.0.0.1"\nport = 2525\nsecurity = "none"\n'

PEOPLE: Final = """\
key,email,name,language,city,group,member
FRA,fra@missions.example.org,Mission de France,fr,Genève,Europe,true
NAM,nam@missions.example.org,Mission of Namibia,en,NA,Africa,true
TUR,tur@missions.example.org,Mission of Türkiye,en,004,Europe,false
KHM,khm@missions.example.org,Mission of Cambodia,en,Geneva,Asia,true
"""
ENGLISH: Final = """\
+++
subject = "The harvest, {{ name }}"

[attachments]
"report.pdf" = "Harvest report.pdf"
+++
{{ salutation }}

we send **the report** to {{ city }}.

{% if member %}
Your vote counts.
{% endif %}

{{ close }}
"""
FRENCH: Final = """\
+++
subject = "La récolte, {{ name }}"

[attachments]
"report.pdf" = "Rapport sur la récolte.pdf"
+++
{{ salutation }}

nous envoyons **le rapport** à {{ city }}.

{{ close }}
"""
FORMS: Final = """\
default = "friend"

[date]
pattern = "{day} {month} {year}"
first = "1"
months = ["M1", "M2", "M3", "M4", "M5", "M6", "M7", "M8", "M9", "M10", "M11", "M12"]

[labels]
date_line = "{place}, {date}"
date_line_without_place = "{date}"
subject = "{subject}"
enclosure = "Enclosure: {names}"
enclosures = "Enclosures ({count}): {names}"
page = "Page {page} of {pages}"
unsubscribe = "To hear no more from us, write to {address}."

[ranks.friend]
salutation = "Dear friends,"
call = "friends"
close = "Accept, {call}, our regards."
"""
FRENCH_FORMS: Final = FORMS.replace("Dear friends,", "Chers amis,").replace('call = "friends"', 'call = "chers amis"')
LAYOUT: Final = """\
<!doctype html>
<html lang="{{ language }}" dir="{{ direction }}">
<head><meta charset="utf-8"><title>{{ subject }}</title><style>p { margin: 0 0 1em; }</style></head>
<body>
{{ body }}
</body>
</html>
"""
REPORT: Final = pdf(*["The harvest was good."] * 2)

FILES: Final[Mapping[str, str | bytes]] = {
    "people.csv": PEOPLE,
    "letters/letter.en.md": ENGLISH,
    "letters/letter.fr.md": FRENCH,
    "letters/forms.en.toml": FORMS,
    "letters/forms.fr.toml": FRENCH_FORMS,
    "letters/layout.html": LAYOUT,
    "letters/report.pdf": REPORT,
}


def settings(
    *,
    top: str = "",
    sender: str = SENDER,
    letter: str = LETTER,
    recipients: str = RECIPIENTS,
    relay: str = RELAY,
    pace: str = "",
) -> str:
    """The text of campaign.toml. `top` is added above the first table; the others take a section's place."""
    return (
        f"{TOP}{top}\n[sender]\n{sender}\n[letter]\n{letter}\n"
        f"[[recipients]]\n{recipients}\n[relay]\n{relay}\n[pace]\n{pace}"
    )


def write_campaign(
    folder: Path, *, files: Mapping[str, str | bytes | None] | None = None, toml: str | None = None, **sections: str
) -> Path:
    """Write a campaign into `folder`, which is made if need be and given back.

    `files` are put in besides or instead of the usual ones (None: leave this one out); `sections` go to `settings`;
    `toml` is the whole of campaign.toml.
    """
    contents = {**FILES, "campaign.toml": settings(**sections) if toml is None else toml, **(files or {})}
    for name, content in contents.items():
        if content is not None:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder
