"""The founding campaign as it may stand in the middle: letters in nearly every state that there is.

A real run to a server of the tests, which refuses some for now and some for good, and breaks off behind a dot; before
that, people who must not be written to, and letters for paper, of which some are printed and some posted.
"""

from pathlib import Path
from typing import Final

from tests.command import dispatcher, edit, new_campaign, read_list, use_server, write_list
from tests.smtp_server import CLOSE, STORE, Action, Script, SmtpServer

ON_PAPER: Final = ("BTN", "TUV", "NRU", "PLW", "MHL", "KIR")
PRINTED: Final = ("BTN", "TUV", "NRU", "PLW")
POSTED: Final = ("BTN", "TUV")
SUPPRESSED: Final = ("ERI", "LAO", "VCT")
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
    refusals = {
        9: b"550 5.1.1 <ati@missions.example.org>: Recipient address rejected: User unknown\r\n",
        41: b"451 4.7.1 Greylisted, please try again in 300 seconds\r\n",
        76: b"550 5.7.1 Message rejected as spam by content filter\r\n",
        77: b"451 4.7.1 Greylisted, please try again in 300 seconds\r\n",
        118: b"452 4.2.2 The mailbox is over its quota\r\n",
        150: b"550 5.1.1 The email account that you tried to reach does not exist\r\n",
    }
    ok = b"250 2.1.5 Ok\r\n"
    recipients: list[Action] = [refusals.get(n, ok) for n in range(195)]
    ends: list[Action] = [(CLOSE,) if n in (60, 131) else _TAKEN for n in range(195)]
    with SmtpServer(Script(on={"RCPT": recipients, "DOT": ends})) as server:
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


def _among(keys: tuple[str, ...]) -> str:
    return f"key in {list(keys)!r}"
