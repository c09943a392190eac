"""What a sign-in leaves behind: whom to ask for access tokens, and with what. Stored whole, as one line of JSON.

The line is as secret as a password, and lies where a password would. An access token never begins with `{` (RFC 6750
§2.1), so the two cannot be taken for each other. No access token is stored: it lives an hour, and in memory.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Final, Literal

from dispatcher.accounts.keychain import PLACE
from dispatcher.core.errors import Problem, SecretError

Flow = Literal["browser", "device", "app"]
_FORMAT: Final = 1
_HEAD: Final = '{"dispatcher_grant"'


@dataclass(frozen=True, slots=True)
class Client:
    """The application as the provider knows it. A public client has no secret (RFC 6749 §2.1)."""

    id: str
    secret: str = field(default="", repr=False)
    method: Literal["none", "client_secret_post", "client_secret_basic"] = "none"


@dataclass(frozen=True, slots=True)
class Grant:
    """`flow` "app" has no refresh token: the application signs in as itself (RFC 6749 §4.4)."""

    provider: str
    flow: Flow
    client: Client
    token_endpoint: str
    revocation_endpoint: str
    scope: str
    refresh_token: str = field(default="", repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown, whoever says it."""
        return tuple(secret for secret in (self.refresh_token, self.client.secret) if secret)

    def to_text(self) -> str:
        """The line that is stored."""
        return json.dumps({"dispatcher_grant": _FORMAT, **asdict(self)})

    @staticmethod
    def is_in(text: str) -> bool:
        """Whether a stored line is a grant, be it damaged, rather than a password or token."""
        return text.startswith(_HEAD)

    @classmethod
    def parse(cls, text: str) -> "Grant | None":
        """The grant in a stored line; None for what is a token or password. Raises SecretError for a damaged one."""
        if not text.startswith("{"):
            return None
        try:
            data = json.loads(text)
            if data.pop("dispatcher_grant") != _FORMAT:
                raise ValueError
            grant = cls(**{**data, "client": Client(**data["client"])})
            if not all(isinstance(value, str) for value in (*asdict(grant.client).values(), *_texts(grant))):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            todo = "sign in again: dispatcher account add --oauth …"
            raise SecretError(Problem("what is stored is no sign-in of dispatcher's", PLACE, todo)) from None
        return grant


def _texts(grant: Grant) -> tuple[object, ...]:
    return (
        grant.provider, grant.flow, grant.token_endpoint, grant.revocation_endpoint, grant.scope, grant.refresh_token,
    )  # fmt: skip
