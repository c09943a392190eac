"""The account at the relay: add, test, remove. No letter is sent by any of them."""

import asyncio
import getpass
import sys

import typer

from dispatcher.cli.options import HERE, AsJson, CampaignFolder
from dispatcher.cli.output import note, say, say_json

account = typer.Typer(help="The account at the relay, and its password.", no_args_is_help=True, rich_markup_mode=None)


@account.command("add")
def account_add(campaign: CampaignFolder = HERE, *, as_json: AsJson = False) -> None:
    """Store the relay's password where campaign.toml says: in the system's keyring, or in a file for you alone.

    It is asked for and not shown; or it is the first line of what is piped in.

    Example: dispatcher account add

    Example: pass show relay | dispatcher account add
    """
    from dispatcher.desk import Desk
    from dispatcher.desk.accounts import add_password, place_of_secret

    desk = Desk(campaign)
    place = place_of_secret(desk)
    add_password(desk, _asked(f"Password, to be stored in {place}: "))
    if as_json:
        say_json({"stored": place})
        return
    say(f"Stored in {place}.", name="green")
    say(f"Next: dispatcher account test{desk.flag}")


def _asked(question: str) -> str:
    """A secret that somebody types, and nobody sees; or the first line of what is piped in."""
    if sys.stdin is not None and sys.stdin.isatty():
        try:
            return getpass.getpass(question, stream=sys.stderr)
        except EOFError:
            return ""
    return "" if sys.stdin is None else sys.stdin.readline().rstrip("\r\n")


@account.command("test")
def account_test(campaign: CampaignFolder = HERE, *, as_json: AsJson = False) -> None:
    """Connect to the relay and log in, as `send` would, and say what happened. No letter is sent.

    Example: dispatcher account test
    """
    from dispatcher.desk import Desk
    from dispatcher.desk.accounts import try_login

    desk = Desk(campaign)
    found = asyncio.run(try_login(desk))
    if as_json:
        say_json(found)
        return
    secure = f"{found['tls']}, certificate of {found['certificate']}" if found["tls"] else "no TLS"
    say(f"Connected to {found['relay']} ({secure}) in {found['seconds']:.1f} s.")
    if found["user"]:
        by = "an access token" if found["by"] == "xoauth2" else "a password"
        say(f"Logged in as {found['user']} by {by} from {found['secret']}.", name="green")
    else:
        note("Not logged in: there is no user under [relay] in campaign.toml.", name="yellow")
    say("No letter was sent.")


@account.command("remove")
def account_remove(campaign: CampaignFolder = HERE, *, as_json: AsJson = False) -> None:
    """Take the stored password away again.

    Example: dispatcher account remove
    """
    from dispatcher.desk import Desk
    from dispatcher.desk.accounts import remove_secret

    place, there = remove_secret(Desk(campaign))
    if as_json:
        say_json({"removed": place if there else None})
    else:
        say(f"Removed from {place}." if there else f"There was nothing in {place}.")
