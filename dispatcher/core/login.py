"""What to do about a login that a relay refused, where its words say more than that.

Google      support.google.com/a/answer/3726730
Microsoft   learn.microsoft.com/exchange/clients-and-mobile-in-exchange-online/
            authenticated-client-smtp-submission, and its words in reply to a login
"""

import re
from typing import Final

_TOKENS: Final = 'sign in by OAuth, with auth = "xoauth2": docs/accounts.md#microsoft-365'
_ADVICE: Final = (
    ("sign in again: ", "Then: dispatcher account test"),
    (r"4\.4\.3 \(dispatcher\)", "Nothing has to be changed here: try again in a while"),
    (
        r"offers no AUTH|no AUTH mechanism in common",
        "Check host and port under [relay] in campaign.toml: logins are at port 587 or 465, and not at 25",
    ),
    ("no AUTH XOAUTH2", 'It takes no tokens: write auth = "password" under [relay] in campaign.toml'),
    (
        "SmtpClientAuthentication is disabled",
        "An administrator lets the mailbox send by SMTP: docs/accounts.md#let-the-mailbox-send-by-smtp",
    ),
    ("security defaults", f"The organisation's security defaults allow no password for SMTP: {_TOKENS}"),
    (r"5\.7\.30|[Bb]asic authentication is", f"It takes no passwords any more: {_TOKENS}"),
    (
        r"5\.7\.9 |Application-specific password|BadCredentials",
        "Google takes an app password, not the one that you sign in with: docs/accounts.md#app-passwords",
    ),
    (r"5\.7\.14|web browser", "Sign in there once in a browser, say that it was you, and try again"),
    (
        r"^AUTH: 4",
        "It refuses for now: try again in a while, with fewer connections if it says that there are too many",
    ),
)


def login_advice(why: str) -> str:
    """What to do, in a sentence; '' if user and secret are what to look at. `why` as `core.policy` words it."""
    return next((advice for words, advice in _ADVICE if re.search(words, why)), "")
