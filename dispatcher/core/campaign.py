"""The shape of campaign.toml and the rules between its keys. Reading the file is `sources.campaign`'s."""

import ipaddress
import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dispatcher.core.address import parse_mailboxes
from dispatcher.core.approval import PublicKey, person_of
from dispatcher.core.dkim import Canonicalisation
from dispatcher.core.lint import Kind
from dispatcher.core.model import Mailbox

_RATE: Final = re.compile(r"\s*([0-9,]{1,12})\s*/\s*(s|sec|second|min|minute|h|hr|hour|d|day)\s*\Z")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
MOST_APPROVALS: Final = 20
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?")


class Rate(BaseModel):
    """So many letters in so many seconds, as "30/min" or "1,000/hr"."""

    model_config = ConfigDict(frozen=True)
    count: PositiveInt
    seconds: PositiveInt

    @property
    def interval(self) -> float:
        """Seconds between two letters."""
        return self.seconds / self.count

    def __str__(self) -> str:
        unit = {1: "s", 60: "min", 3600: "hr", 86400: "day"}[self.seconds]
        return f"{self.count:,}/{unit}"


def _parse_rate(value: Any) -> Rate:
    found = _RATE.match(value) if isinstance(value, str) else None
    count = int(found.group(1).replace(",", "") or 0) if found else 0
    if not found or not count:
        raise ValueError('write it as "30/min" or "1,000/hr"')
    return Rate(count=count, seconds=_UNITS[found.group(2)[0]])


RateText = Annotated[Rate, BeforeValidator(_parse_rate)]
"""A rate as people write it."""


def _one_line(value: str) -> str:
    if any(c < " " or "\x7f" <= c <= "\x9f" or c in "\u2028\u2029" for c in value):
        raise ValueError("a line break or control character cannot stand here")
    return value


def _lines(value: str) -> str:
    for line in value.split("\n"):
        _one_line(line)
    return value.strip()


def _one_mailbox(value: str) -> str:
    mailboxes = parse_mailboxes(value)
    if len(mailboxes) != 1 or mailboxes[0].name:
        raise ValueError("write one address alone, such as office@example.org")
    return value


def _inside(value: str) -> str:
    parts = re.split(r"[/\\]", value)
    if not value or value[0] in "/\\~" or ".." in parts or ":" in value:
        raise ValueError("paths are relative to campaign.toml and stay inside its folder")
    return _one_line(value)


UNIX: Final = "unix:"


def endpoint(host: str, port: int) -> str:
    """Where a relay is, in short: `host:port`, or `unix:/path` alone."""
    return host if host.startswith(UNIX) else f"{host}:{port}"


def _place(value: str) -> str:
    """A host, or the path of a UNIX socket."""
    if not value.startswith(UNIX):
        return _host(value)
    if not value.startswith(f"{UNIX}/") or value.endswith("/"):
        raise ValueError('the path of a socket is a whole one, such as "unix:/run/relay.sock"')
    return value


def _host(value: str) -> str:
    if not _HOST.fullmatch(value) and not _ip(value):
        raise ValueError("write a host name or an IP address alone; the port has a line of its own")
    return value


def _ip(value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(value.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def _as_tuple(value: Any) -> Any:
    """TOML's arrays come as lists; what is kept cannot change."""
    return tuple(value) if isinstance(value, list) else value


Array = BeforeValidator(_as_tuple)


Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_one_line)]
Address = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_one_mailbox)]
FolderPath = Annotated[str, AfterValidator(_inside)]
_CODE: Final = "[a-z]{2,3}(-[A-Za-z0-9]{2,8})*"
Language = Annotated[str, StringConstraints(pattern=f"^{_CODE}$")]


def _for_all_languages(value: Any) -> Any:
    return {"": value} if isinstance(value, str) else value


ByLanguage = Annotated[
    dict[Annotated[str, StringConstraints(pattern=f"^({_CODE})?$")], Line], BeforeValidator(_for_all_languages)
]
"""A text for each language code; under "" the one for all others."""
Lines = Annotated[str, AfterValidator(_lines)]
LinesByLanguage = Annotated[
    dict[Annotated[str, StringConstraints(pattern=f"^({_CODE})?$")], Lines], BeforeValidator(_for_all_languages)
]
"""The same, of several lines."""


class _Table(BaseModel):
    # strict: TOML knows text from numbers and dates, so what is of another kind is a slip
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=True)


class Sender(_Table):
    """Who writes. Everything here is printed on the letter or in its headers.

    `function`, `place` and `postal_address` are one text, or one for each language: { en = "Geneva", fr = "Genève" }.
    """

    organisation: Line
    name: Line
    address: Address
    reply_to: Address | None = None
    return_path: Address | None = None
    unsubscribe: Address | None = None
    signatory: Line
    function: ByLanguage = Field(default_factory=dict)
    place: ByLanguage = Field(default_factory=dict)
    postal_address: LinesByLanguage = Field(default_factory=dict)

    def mailbox(self, field: Literal["address", "reply_to", "return_path", "unsubscribe"]) -> Mailbox:
        """One of the sender's mailboxes; those not given fall back to reply_to, then address."""
        chosen = getattr(self, field) or (field != "return_path" and self.reply_to) or self.address
        return parse_mailboxes(str(chosen))[0]


class LetterFiles(_Table):
    """Where the letter and its attachments are. `{language}` and `{key}` (any column) are filled for each recipient.

    `paper` is the house's page in Typst, `fonts` a folder with fonts for it, beside those that come with dispatcher.
    `overlook` names kinds of remarks on letters that are not to be made (see `core.lint`).
    """

    template: FolderPath
    attachments: Annotated[tuple[FolderPath, ...], Array] = ()
    forms: FolderPath = "templates/forms/{language}.toml"
    layout: FolderPath = "templates/house/layout.html"
    logo: FolderPath | None = None
    paper: FolderPath = "templates/house/letter.typ"
    fonts: FolderPath | None = None
    overlook: Annotated[tuple[Kind, ...], Array] = ()

    @property
    def personal(self) -> frozenset[int]:
        """The positions of attachments that are found by a recipient's columns, not by language alone."""
        return frozenset(n for n, path in enumerate(self.attachments) if "{" in path.replace("{language}", ""))


class RecipientsList(_Table):
    """One list. `where` is an expression over the row; the column `group_by` says which rows share one letter.

    `dated` is a table of what is otherwise on other days than today's (`core.dated`); the others override what is
    recognised in the file.
    """

    source: FolderPath
    where: Line | None = None
    group_by: Line | None = None
    dated: FolderPath | None = None
    sheet: Line | None = None
    encoding: Line | None = None
    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=1)] | None = None


def _variable(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):  # it may be the password itself: never shown
        raise ValueError('this is not the name of an environment variable; write { env = "DISPATCHER_PASSWORD" }')
    return value


class Password(_Table):
    """Where the password is: the name of an environment variable, a file of mode 0600, a command's argv, or the name
    under which the system's keyring has it for [relay]'s user.
    """

    env: Annotated[str, AfterValidator(_variable)] | None = None
    file: FolderPath | None = None
    command: Annotated[tuple[Line, ...], Array, Field(min_length=1)] | None = None
    keyring: Line | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "Password":
        if sum(v is not None for v in (self.env, self.file, self.command, self.keyring)) != 1:
            raise ValueError(
                'give exactly one of { env = "NAME" }, { file = "path" }, { command = ["program", "…"] }, '
                '{ keyring = "dispatcher" }'
            )
        return self


def _password_is_not_text(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError('a password never stands in this file; write { env = "DISPATCHER_PASSWORD" } instead')
    return value


class RelayAccount(_Table):
    """The submission server and how to log in there. With auth = "xoauth2", `password` says where the token is.

    `profile` names a service whose values fill in for those left out (see `core.profile`); `notify` says of what the
    relay is asked to send word to the return path, if it offers to (DSN). `host` may be a UNIX socket, "unix:/path".
    `server_name` is whom the certificate must name where that is not `host`: behind a tunnel or a socket. With
    `client_cert` we show one, too; its key is in `client_key`, or in the same file.
    """

    profile: Line | None = None
    host: Annotated[Line, AfterValidator(_place)]
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: Line | None = None
    password: Annotated[Password | None, BeforeValidator(_password_is_not_text)] = None
    helo: Line = "[127.0.0.1]"
    ca_file: FolderPath | None = None
    server_name: Annotated[Line, AfterValidator(_host)] | None = None
    client_cert: FolderPath | None = None
    client_key: FolderPath | None = None
    auth: Literal["password", "xoauth2"] = "password"
    notify: Annotated[tuple[Literal["success", "failure", "delay"], ...], Array] = ()

    @property
    def account(self) -> str:
        """Whose pace and quota a letter counts against; as the relay itself says it (`core.ports.Relay.account`)."""
        where = endpoint(self.host, self.port)
        return f"{self.user}@{where}" if self.user else where

    @property
    def tls_name(self) -> str:
        """Whom the relay's certificate must name."""
        return self.server_name or self.host

    @property
    def literal(self) -> str:
        """The relay's address, if it is named by that; else ''."""
        return str(_ip(self.tls_name) or "")

    @property
    def loopback(self) -> bool:
        """Whether the relay is this very machine; the end of a tunnel is not."""
        return _is_loopback(self.host) and (self.server_name is None or _is_loopback(self.server_name))

    @field_validator("security")
    @classmethod
    def _nothing_in_clear(cls, value: str, info: ValidationInfo) -> str:
        host = info.data.get("host", "localhost")
        if value == "none" and not _is_loopback(host):
            raise ValueError(f'security = "none" is only for this machine, not for {host}; use "starttls" or "tls"')
        return value

    @field_validator("user")
    @classmethod
    def _no_login_in_clear(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("security") == "none":
            raise ValueError('security = "none" would send the password in clear; use "starttls" or "tls"')
        return value

    @model_validator(mode="after")
    def _names_for_tls(self) -> "RelayAccount":
        if self.security == "none" and (self.server_name or self.client_cert):
            raise ValueError('server_name and client_cert are for TLS, and security is "none"')
        if self.security != "none" and self.host.startswith(UNIX) and not self.server_name:
            raise ValueError(
                'a socket has no name that a certificate could have: add server_name = "relay.example.org", or '
                'security = "none" if it is this machine\'s own relay'
            )
        if self.client_key and not self.client_cert:
            raise ValueError("client_key is the key of a client_cert; give that, too")
        return self

    @model_validator(mode="after")
    def _user_with_password(self) -> "RelayAccount":
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password go together; give both or neither")
        if self.auth == "xoauth2" and self.user is None:
            raise ValueError('auth = "xoauth2" needs user, and password: where the access token is')
        return self


def _is_loopback(host: str) -> bool:
    if host.startswith(UNIX):
        return True
    address = _ip(host)
    return address.is_loopback if address else host.lower() == "localhost"


def _domains(rates: dict[str, Rate]) -> dict[str, Rate]:
    """Domains as they stand in an identity."""
    found: dict[str, Rate] = {}
    for name, rate in rates.items():
        try:
            domain = name if name == "*" else parse_mailboxes(f"x@{name}")[0].identity.removeprefix("x@")
        except ValueError:
            raise ValueError(f'{name!r} is not a domain; write "example.org", or "*" for any other one') from None
        if domain in found:
            raise ValueError(f"{domain} stands there twice")
        found[domain] = rate
    return found


class Pace(_Table):
    """How fast: connections at once, letters in a time, and letters in any 24 hours.

    `domains` are rates of recipient domains, each for itself; "*" is any one that is not named.
    """

    connections: Annotated[int, Field(ge=1, le=200)] = 4
    rate: RateText | None = None
    quota: PositiveInt | None = None
    domains: Annotated[dict[str, RateText], AfterValidator(_domains)] = Field(default_factory=dict)


def _resolver(value: str) -> str:
    host, _, port = value.rpartition("]") if value.startswith("[") else ("", "", value)
    name, mark, number = port.removeprefix(":").partition(":") if not host else (host + "]", port[:1], port[1:])
    if _ip(value) is None and (_ip(name) is None or mark != ":" or not number.isdecimal() or int(number) > 65535):
        raise ValueError('write the address of a name server, such as "192.0.2.53" or "192.0.2.53:5353"')
    return value


def _some_ip(value: str) -> str:
    if not (found := _ip(value)):
        raise ValueError("write IP addresses, such as 192.0.2.25")
    return str(found)


_SELECTOR: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def _selector(value: str) -> str:
    if not _SELECTOR.fullmatch(value):
        raise ValueError("a selector is letters, digits, hyphens and underscores: what stands behind s= in a signature")
    return value


class Preflight(_Table):
    """What `preflight` cannot know by itself of the sender's domain and the relay; and whom it asks the DNS.

    `dkim_selectors` are those that letters are signed by; `relay_addresses`, or the SPF name `relay_include`, say where
    the relay sends from. `resolver` is asked in place of the system's.
    """

    dkim_selectors: Annotated[tuple[Annotated[Line, AfterValidator(_selector)], ...], Array] = ()
    relay_addresses: Annotated[tuple[Annotated[Line, AfterValidator(_some_ip)], ...], Array] = ()
    relay_include: Annotated[Line, AfterValidator(_host)] | None = None
    resolver: Annotated[Line, AfterValidator(_resolver)] | None = None


class Dkim(_Table):
    """Signatures of our own, for a relay that does not sign: for the domain of the From address, by each of the keys.

    `keys` says by selector which file holds the private key; several are for receivers that know one kind alone.
    """

    keys: Annotated[dict[Annotated[Line, AfterValidator(_selector)], FolderPath], Field(min_length=1, max_length=4)]
    canonicalisation: Canonicalisation = "relaxed/relaxed"


class Smime(_Table):
    """Signatures by a certificate for mail (S/MIME): its file, with those of its issuers, and that of its private key.

    `passphrase` says where that is, if the key is locked with one.
    """

    certificate: FolderPath
    key: FolderPath
    passphrase: Annotated[Password | None, BeforeValidator(_password_is_not_text)] = None


def _public_key(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("write it as text, in quotes")
    return PublicKey.parse(value)


Approver = Annotated[PublicKey, BeforeValidator(_public_key)]
"""A line of an `id_ed25519.pub`, or of a `minisign.pub`, with whose it is in place of the comment."""


class Campaign(_Table):
    """One mailing. What is printed or says who is written to is sealed; pace, relay and deadline may change freely.

    `approvals` says how many people must approve what is sealed before it leaves; where `approvers` are named, only
    what is signed with one of these keys counts.
    """

    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$")]
    title: Line
    language: Language = "en"
    date: date
    not_after: AwareDatetime | None = None
    on_unknown: Literal["hold", "resend", "assume_sent"] = "hold"
    on_duplicate: Literal["refuse", "first", "each"] = "refuse"
    on_invalid: Literal["refuse", "skip"] = "refuse"
    on_conflict: Literal["refuse", "first"] = "refuse"
    on_mismatch: Literal["refuse", "send"] = "refuse"
    approvals: Annotated[int, Field(ge=0, le=MOST_APPROVALS)] = 0
    approvers: Annotated[tuple[Approver, ...], Array] = ()
    sender: Sender
    letter: LetterFiles
    recipients: Annotated[tuple[RecipientsList, ...], Array, Field(min_length=1)]
    relay: RelayAccount
    pace: Pace = Pace()
    preflight: Preflight = Preflight()
    dkim: Dkim | None = None
    smime: Smime | None = None

    @property
    def passwords(self) -> tuple[Password | None, ...]:
        """Where secrets are that people keep for it."""
        return (self.relay.password, self.smime.passphrase if self.smime else None)

    @field_validator("id")
    @classmethod
    def _id_makes_a_message_id(cls, value: str) -> str:
        if ".." in value or value.endswith("."):
            raise ValueError("dots stand singly and not at the end, for it becomes part of each Message-ID")
        return value

    @field_validator("approvers")
    @classmethod
    def _enough_approvers(cls, value: tuple[PublicKey, ...], info: ValidationInfo) -> tuple[PublicKey, ...]:
        if len({approver.octets for approver in value}) < len(value):
            raise ValueError("a key stands there twice")
        people = [person_of(approver.owner) for approver in value if approver.owner]
        able = len(set(people)) + len(value) - len(people)
        wanted = info.data.get("approvals", 0)
        if value and not wanted:
            raise ValueError("say also how many of them must approve: approvals = 2")
        if value and able < wanted:
            raise ValueError(f"these are keys of {able}, and approvals = {wanted} wants more people")
        return value

    def printed_sender(self, language: str) -> Mapping[str, str]:
        """What a letter in this language may say of its sender."""
        sender = self.sender

        def said(texts: Mapping[str, str]) -> str:
            return texts.get(language) or texts.get("") or texts.get(self.language, "")

        return {
            "organisation": sender.organisation,
            "name": sender.name,
            "address": sender.address,
            "reply_to": sender.reply_to or sender.address,
            "unsubscribe": sender.mailbox("unsubscribe").address,
            "signatory": sender.signatory,
            "function": said(sender.function),
            "place": said(sender.place),
            "postal_address": said(sender.postal_address),
        }
