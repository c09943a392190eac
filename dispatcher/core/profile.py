"""The profile of a mail service: where it is, what it allows, what its own replies mean. The shape of the data alone.

The data are `relays/profiles.toml`. `with_profile` fills what a campaign.toml leaves out, before it is checked, so that
everybody behind it meets one complete campaign; what stands in campaign.toml always wins.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, StringConstraints, model_validator

from dispatcher.core.campaign import Array, Line, Pace, RateText
from dispatcher.core.model import Phase
from dispatcher.core.policy import Meaning, ReplyRule

LIMITS: Final = ("connections", "rate", "quota")
"""What a profile says about [pace]."""
_FACTS: Final = (
    "host", "port", "security", "auth", *LIMITS, "size", "letters_per_connection", "replies", "spf_include",
    "dkim_selectors", "own_return_path",
)  # fmt: skip


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Table):
    """A public document, and which values of the profile come from it."""

    title: Line
    url: Annotated[str, StringConstraints(pattern=r"^https://[^\s/]+/\S*$")]
    says: Annotated[tuple[str, ...], Array, Field(min_length=1)]


class OwnReply(_Table):
    """A reply of this service, and what it means there. See `core.policy.ReplyRule`."""

    code: Annotated[int, Field(ge=400, le=599)]
    meaning: Meaning
    enhanced: Annotated[str, StringConstraints(pattern=r"^([45]\.\d{1,3}\.\d{1,3})?$")] = ""
    phase: Phase | None = None
    words: str = ""

    @property
    def rule(self) -> ReplyRule:
        return ReplyRule(self.code, self.meaning, self.enhanced, self.phase, self.words)


class Profile(_Table):
    """One service. A limit that is None is not documented, or depends on the account.

    With `own_return_path` letters leave with one of the service's in place of ours, and SPF is asked about its domain.
    `spf_include` is the name that a domain's SPF record includes to let it send; `dkim_selectors` are those that its
    customers' letters are signed by unless they chose others.
    """

    title: Line
    host: Line | None = None
    host_hint: str = ""
    port: Annotated[int, Field(ge=1, le=65535)]
    security: Literal["starttls", "tls"]
    auth: Annotated[tuple[Literal["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"], ...], Array] = ()
    connections: PositiveInt | None = None
    rate: RateText | None = None
    quota: PositiveInt | None = None
    reset_hours: PositiveInt = 24
    size: PositiveInt | None = None
    letters_per_connection: PositiveInt | None = None
    spf_include: str = ""
    dkim_selectors: Annotated[tuple[str, ...], Array] = ()
    own_return_path: bool = False
    note: str = ""
    replies: Annotated[tuple[OwnReply, ...], Array] = ()
    sources: Annotated[tuple[Source, ...], Array, Field(min_length=1)]

    @model_validator(mode="after")
    def _each_fact_has_its_source(self) -> "Profile":
        said = {name for source in self.sources for name in source.says}
        known = {name for name in _FACTS if getattr(self, name)}
        if missing := sorted(known - said):
            raise ValueError(f"no source says: {', '.join(missing)}")
        if unknown := sorted(said - known - {"note"}):
            raise ValueError(f"a source says what is not there: {', '.join(unknown)}")
        if (self.host is None) != bool(self.host_hint):
            raise ValueError("give host, or host_hint where each customer has another one")
        return self

    @property
    def rules(self) -> tuple[ReplyRule, ...]:
        """What its own replies mean."""
        return tuple(reply.rule for reply in self.replies)

    @property
    def reset(self) -> timedelta:
        """How long after a reply that says so the quota is there again, at the latest."""
        return timedelta(hours=self.reset_hours)

    def source_of(self, name: str) -> Source | None:
        """The document that a value comes from."""
        return next((source for source in self.sources if name in source.says), None)


def with_profile(data: Mapping[str, Any], profile: Profile) -> dict[str, Any]:
    """The data of a campaign.toml, [relay] and [pace] filled from a profile where they leave something out."""
    relay: dict[str, Any] = {"port": profile.port, "security": profile.security}
    if profile.host is not None:
        relay["host"] = profile.host
    if profile.auth == ("XOAUTH2",):
        relay["auth"] = "xoauth2"
    pace: dict[str, Any] = {"quota": profile.quota}
    if profile.rate:
        pace["rate"] = str(profile.rate)
    if profile.connections and profile.connections < Pace().connections:
        pace["connections"] = profile.connections
    return {**data, "relay": {**relay, **data["relay"]}, "pace": {**pace, **data.get("pace", {})}}
