"""What to do about a provider's refusal, by its code: the one in its words, or the name of the error.

Microsoft's are from learn.microsoft.com/entra/identity-platform/reference-error-codes, and may change, says that page:
nothing is decided by them. The names are RFC 6749's (§4.1.2.1, §5.2).
"""

import re
from typing import Final

_CODE: Final = re.compile(r"AADSTS\d+|[a-z_]+")
_CONSENT: Final = (
    "an administrator has to agree once: the application's API permissions in the console, Grant admin consent"
)
_PERMISSION: Final = "add the permission to send in the console, under API permissions; then try again"
_TENANT: Final = "name your own: --tenant, with the Directory (tenant) ID that the console shows"
ENDED: Final = "the sign-in has ended: by age, by a new password, or because somebody ended it"
_ADMINISTRATOR: Final = "your organisation's rules forbid it: ask its administrator to allow this application"
_TODO: Final = {
    "AADSTS65001": _CONSENT,
    "AADSTS65004": "sign in again, and accept what it asks for",
    "AADSTS90094": _CONSENT,
    "AADSTS90002": _TENANT,
    "AADSTS50194": _TENANT,
    "AADSTS50059": _TENANT,
    "AADSTS700016": "the application is not in this tenant: check --client-id and --tenant",
    "AADSTS50011": "register http://localhost as redirect, under Mobile and desktop applications",
    "AADSTS500113": "register http://localhost as redirect, under Mobile and desktop applications",
    "AADSTS7000218": "set Allow public client flows to Yes in the console, under Authentication",
    "AADSTS7000215": "give the secret's Value, not its Secret ID; if it is lost, make a new one",
    "AADSTS7000222": "the application's secret has ended: make a new one in the console, and give it",
    "AADSTS70011": _PERMISSION,
    "AADSTS650053": _PERMISSION,
    "AADSTS650057": _PERMISSION,
    "AADSTS500011": "this tenant has no Exchange Online: check --tenant",
    "AADSTS50105": "an administrator has to assign you to the application, under Enterprise applications",
    "AADSTS53000": _ADMINISTRATOR,
    "AADSTS53003": _ADMINISTRATOR,
    "AADSTS50057": "the account is switched off: ask your administrator",
    "AADSTS50076": "it wants a second factor",
    "AADSTS50079": "it wants a second factor",
    "AADSTS50173": ENDED,
    "AADSTS70008": ENDED,
    "AADSTS70043": ENDED,
    "AADSTS700082": ENDED,
    "AADSTS700084": ENDED,
    "consent_required": _CONSENT,
    "admin_policy_enforced": _ADMINISTRATOR,
    "deleted_client": "the application is gone: make it anew in the console: docs/accounts.md#google",
    "access_denied": "sign in again, and agree; or the account is not among those that the application is for",
    "invalid_client": "check --client-id and the application's secret; an application with a secret needs it",
    "unauthorized_client": "the application is not registered for this way to sign in: check its type in the console",
    "invalid_scope": _PERMISSION,
}


def advice(words: str) -> str:
    """What to do, in words; '' if the refusal has no code that is known. The most particular code counts."""
    codes = sorted(_CODE.findall(words), key=lambda code: not code.startswith("AADSTS"))
    return next((_TODO[code] for code in codes if code in _TODO), "")
