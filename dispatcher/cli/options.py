"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

CampaignFolder = Annotated[
    Path, typer.Option("--campaign", "-C", help="The campaign's folder.", file_okay=False, show_default="here")
]
OnSandbox = Annotated[bool, typer.Option("--sandbox", help="Look at the sandbox's ledger instead of the real one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
HERE = Path()
