"""The founding campaign as it may stand in the middle: letters in nearly every state that there is.

A real run to a server of the tests, which refuses some for now and some for good, and breaks off behind a dot; before
that, people who must not be written to, and letters for paper, of which some are printed and some posted.
"""

from pathlib import Path
from typing import Final

from tests.command import dispatcher, edit, new_campaign, read_list, use_server, write_list
from tests.smtp_server import CLOSE, STORE, Actions
from tests.torture import Rule, Rules

ON_PAPER: Final = ("BTN", "TUV", "NRU", "PLW", "MHL", "KIR")
PRINTED: Final = ("BTN", "TUV", "NRU", "PLW")
POSTED: Final = ("BTN", "TUV")
SUPPRESSED: Final = ("ERI", "LAO", "VCT")
UNKNOWN: Final = ("GEO", "RWA")
_GREY = b"451 4.7.1 Greylisted, please try again in 300 seconds\r\n"
REFUSED: Final = {
    "AUT": b"550 5.1.1 <aut@missions.example.org>: Recipient address rejected: User unknown\r\n",
    "CUB": _GREY,
    "IDN": b"550 5.7.1 Message rejected as spam by content filter\r\n",
    "IRN": _GREY,
    "NER": b"452 4.2.2 The mailbox is over its quota\r\n",
    "SLB": b"550 5.1.1 The email account that you tried to reach does not exist\r\n",
}
_TAKEN: Final = (STORE, b"250 2.0.0 Ok: queued as 4D1F3A2B7C\r\n")


def campaign_keys() -> list[str]:
    """Whom the founding campaign writes to, in order."""
    root = Path(__file__).parent.parent
    missions = [row["key"] for row in read_list(root, "un_missions.csv")[1]]
    return missions + [row["key"] for row in read_list(root, "ngos.csv")[1]]


def mixed_campaign(root: Path, *, rate: str = "36,000/min") -> Path:
    """Such a campaign, in its folder, sent at this rate; its real ledger, not a rehearsal."""
    folder = new_campaign(root, campaign_keys())
    edit(folder / "campaign.toml", "connections = 4", "connections = 1")
    edit(folder / "campaign.toml", "quota = 300", "quota = 3000")
    edit(folder / "campaign.toml", "36,000/min", rate)
    columns, rows = read_list(folder, "un_missions.csv")
    rows = [{**row, "channel": "paper" if row["key"] in ON_PAPER else "mail"} for row in rows]
    write_list(folder, "un_missions.csv", [*columns, "channel"], rows)
    with Rules(_rule()) as server:
        use_server(folder, server)
        for words in (
            (
                "suppress",
                "add",
                *(f"{key.lower()}@missions.example.org" for key in SUPPRESSED),
                "--why",
                "asked by telephone",
            ),
            ("send", "--confirm", "195"),
            ("paper", "--only", _among(PRINTED)),
            ("paper", "--posted", "2026-03-02", "--why", "taken to the post office", "--only", _among(POSTED)),
        ):
            done = dispatcher(*words, folder=folder)
            assert done.code in (0, 3), (words, done.all)
    return folder


def _rule() -> Rule:
    """What the relay does, by whom a letter is to: the same letters meet the same fate, in whatever order they come."""
    here: dict[int, str] = {}

    def rule(step: str, connection: int, line: bytes) -> Actions | None:
        if step == "RCPT":
            here[connection] = line.decode().partition("<")[2][:3].upper()
            return REFUSED.get(here[connection])
        if step == "DOT":
            return (CLOSE,) if here[connection] in UNKNOWN else _TAKEN
        return None

    return rule


def _among(keys: tuple[str, ...]) -> str:
    return f"key in {list(keys)!r}"
