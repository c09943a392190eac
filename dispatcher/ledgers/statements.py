"""The named SQL statements of statements.sql and the schema, as data."""

import re
from importlib.resources import files
from typing import Final

_FILES: Final = files("dispatcher.ledgers")
SCHEMA: Final = (_FILES / "schema.sql").read_text(encoding="utf-8")
_PARTS: Final = re.split(
    r"^-- name: (\w+)\n", (_FILES / "statements.sql").read_text(encoding="utf-8"), flags=re.MULTILINE
)
SQL: Final = dict(zip(_PARTS[1::2], (part.strip().rstrip(";") for part in _PARTS[2::2]), strict=True))
