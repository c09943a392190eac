"""The profiles of well-known mail services: `profiles.toml`, read and checked once."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from dispatcher.core.profile import Profile


@cache
def profiles() -> Mapping[str, Profile]:
    """All of them, by the name that `profile = "…"` in campaign.toml wants."""
    data = tomllib.loads((files("dispatcher.relays") / "profiles.toml").read_text(encoding="utf-8"))
    return MappingProxyType({name: Profile.model_validate(entry) for name, entry in data.items()})
