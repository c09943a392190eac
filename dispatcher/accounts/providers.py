"""Identity providers: Google, Microsoft, and any other one that says where it is (RFC 8414, OpenID Connect Discovery).

The scopes are the smallest with which SMTP takes letters. Google's server takes one alone, which is for all of a
mailbox (`gmail.send` is for its HTTP interface; by SMTP it is refused with the wider one's name); Microsoft's is for
sending alone.

    Google      developers.google.com/identity/protocols/oauth2/native-app,
                developers.google.com/workspace/gmail/imap/xoauth2-protocol
    Microsoft   learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow, …-device-code,
                learn.microsoft.com/exchange/client-developer/legacy-protocols/
                how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from dispatcher.accounts.exchange import Refusal, fetch, require_secure
from dispatcher.accounts.grant import Grant
from dispatcher.accounts.keychain import PLACE
from dispatcher.core.errors import Problem, ProviderUnavailable, SecretError

Method = Literal["client_secret_post", "client_secret_basic"]
_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,253}")
_WELL_KNOWN: Final = ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration")


@dataclass(frozen=True, slots=True)
class Provider:
    """Where it is, what is asked for, and how an application with a secret shows itself.

    `host` is that of the redirect (RFC 8252 §7.3) as this provider lets it be registered. An endpoint that is '' is
    none that it has.
    """

    name: str
    token_endpoint: str
    authorization_endpoint: str = ""
    device_endpoint: str = ""
    revocation_endpoint: str = ""
    scope: str = ""
    app_scope: str = ""
    method: Method = "client_secret_post"
    host: str = "127.0.0.1"
    more: Mapping[str, str] = field(default_factory=dict)
    secret_wanted: bool = False


GOOGLE: Final = Provider(
    name="google",
    authorization_endpoint="https://accounts.google.com/o/oauth2/v2/auth",
    token_endpoint="https://oauth2.googleapis.com/token",  # noqa: S106 (an address)
    revocation_endpoint="https://oauth2.googleapis.com/revoke",
    scope="https://mail.google.com/",
    more={"access_type": "offline", "prompt": "consent"},  # else there is a refresh token only at the first sign-in
    secret_wanted=True,  # which Google gives to installed applications, too
)
"""No device code: Google allows none for mail
(developers.google.com/identity/protocols/oauth2/limited-input-device).
"""


def microsoft(tenant: str = "organizations") -> Provider:
    """Microsoft 365 of one tenant (its id or domain), of any, or "consumers" for Outlook.com. Raises SecretError."""
    if not _TENANT.fullmatch(tenant):
        todo = "give the directory's id or its domain: --tenant example.org"
        raise SecretError(Problem(f"{tenant!r} is no tenant", PLACE, todo))
    base = f"https://login.microsoftonline.com/{tenant}/oauth2/v2.0"
    return Provider(
        name="microsoft",
        authorization_endpoint=f"{base}/authorize",
        token_endpoint=f"{base}/token",
        device_endpoint=f"{base}/devicecode",
        scope="https://outlook.office.com/SMTP.Send offline_access",
        app_scope="https://outlook.office365.com/.default",
        host="localhost",  # the only loopback address that its console takes, with any port
    )


def command_for(grant: Grant) -> str:
    """What is typed to sign in again as this was done."""
    words = ["dispatcher account add --oauth", grant.provider, "--client-id", grant.client.id]
    if grant.provider == "microsoft":
        words += ["--tenant", grant.token_endpoint.split("/")[3]]
    elif grant.provider != GOOGLE.name:
        words += ["--scope", f'"{grant.scope}"', *(["--client-secret"] if grant.client.secret else [])]
    return " ".join([*words, *(["--flow", grant.flow] if grant.flow != "browser" else [])])


async def discovered(issuer: str, scope: str) -> Provider:
    """A provider that publishes where it is. Raises SecretError, ProviderUnavailable."""
    require_secure(issuer)
    data: Mapping[str, Any] = {}
    for path in _WELL_KNOWN:
        try:
            data = await fetch(issuer.rstrip("/") + path)
            break
        except (Refusal, ProviderUnavailable) as error:
            away = error
    else:
        raise ProviderUnavailable(f"{issuer} does not say where tokens are to be had: {away}") from None
    if str(data.get("issuer", "")).rstrip("/") != issuer.rstrip("/"):  # RFC 8414 §3.3
        raise SecretError(Problem(f"{issuer} says that it is another one", PLACE, "give the issuer as it names itself"))

    def endpoint(name: str) -> str:
        found = data.get(f"{name}_endpoint")
        return require_secure(found) if isinstance(found, str) and found else ""

    methods = data.get("token_endpoint_auth_methods_supported")
    by_post = isinstance(methods, list) and "client_secret_post" in methods  # RFC 8414 §2: else it is Basic
    if not endpoint("token"):
        raise SecretError(Problem(f"{issuer} names no token_endpoint", PLACE, "ask whoever runs it"))
    return Provider(
        name=issuer,
        authorization_endpoint=endpoint("authorization"),
        token_endpoint=endpoint("token"),
        device_endpoint=endpoint("device_authorization"),
        revocation_endpoint=endpoint("revocation"),
        scope=scope,
        app_scope=scope,
        method="client_secret_post" if by_post else "client_secret_basic",
    )
