"""The command that opens the page: review."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from dispatcher.cli.options import HERE, AsJson, CampaignFolder, OnSandbox
from dispatcher.cli.output import note, say, say_json


class Language(StrEnum):
    """Of the page."""

    ENGLISH = "en"
    FRENCH = "fr"
    SPANISH = "es"


def review(
    campaign: CampaignFolder = HERE,
    *,
    sandbox: OnSandbox = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Only print the link.")] = False,
    language: Annotated[
        Language | None, typer.Option(help="Of the page.", show_default="what the browser asks for")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look at letters and log in the browser, and settle what waits. On this machine alone; Ctrl-C ends it.

    Example: dispatcher review --sandbox
    """
    import webbrowser

    from dispatcher.desk import Desk
    from dispatcher.web.review.serving import serve

    desk = Desk(campaign, sandbox=sandbox)
    desk.campaign_id()  # this must be a campaign's folder

    def ready(link: str, link_for_once: str) -> None:
        if as_json:
            say_json({"url": link})
        else:
            say(f"The page is at {link}")
            say("It is for you alone: whoever has the link sees every letter. Ctrl-C ends it.")
        sys.stdout.flush()
        if not no_open and not webbrowser.open(link_for_once):
            note("no browser could be opened; open the link by hand")

    serve(desk, port=port, language=language or "", ready=ready)
