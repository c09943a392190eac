"""The account at the relay: add, test, remove. No letter is sent by any of them."""

import getpass
import sys
from typing import Annotated, Literal

import typer

from dispatcher.cli.options import HERE, AsJson, CampaignFolder
from dispatcher.cli.output import note, say, say_json
from dispatcher.core.errors import Problem, UsageError

account = typer.Typer(
    help="The account at the relay: its password, or a sign-in.", no_args_is_help=True, rich_markup_mode=None
)


@account.command("add")
def account_add(
    campaign: CampaignFolder = HERE,
    *,
    oauth: Annotated[
        str, typer.Option(help="Sign in instead: google, microsoft, or an issuer's URL.", show_default=False)
    ] = "",
    client_id: Annotated[str, typer.Option(help="The application's id, from the provider's console.")] = "",
    client_secret: Annotated[bool, typer.Option("--client-secret", help="It has a secret, too: ask for it.")] = False,
    flow: Annotated[
        Literal["browser", "device", "app"],
        typer.Option(help="A browser here; a code for any browser; the application by itself."),
    ] = "browser",
    tenant: Annotated[str, typer.Option(help="Microsoft's tenant, by id or domain.")] = "",
    scope: Annotated[str, typer.Option(help="What to ask an issuer for.")] = "",
    port: Annotated[
        int, typer.Option(help="Where the browser comes back to.", show_default="any", min=0, max=65535)
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Store the relay's password, or sign in. Where campaign.toml says: the system's keyring, or a file for you alone.

    It is asked for and not shown; or it is the first line of what is piped in. With --oauth you sign in at the
    provider, and what gives access tokens from then on is stored in the same place.

    Example: dispatcher account add

    Example: pass show relay | dispatcher account add

    Example: dispatcher account add --oauth microsoft --client-id 00001111-aaaa-2222-bbbb-3333cccc4444
    """
    import asyncio

    from dispatcher.desk import Desk
    from dispatcher.desk.accounts import SignIn, add_password, add_sign_in, place_of_secret

    desk = Desk(campaign)
    if oauth:
        if not client_id:
            todo = "register an application in the provider's console: docs/accounts.md"
            raise UsageError(Problem("there is no --client-id", todo=todo))
        how = SignIn(oauth, client_id, flow, tenant, scope, client_secret, port)
        place = asyncio.run(add_sign_in(desk, how, _asked, _invite))
    else:
        if client_id or client_secret or tenant or scope or port:
            raise UsageError(Problem("these options are for a sign-in", todo="name the provider, too: --oauth google"))
        place = place_of_secret(desk)
        add_password(desk, _asked(f"Password, to be stored in {place}: "))
    if as_json:
        say_json({"stored": place})
        return
    say(f"Stored in {place}.", name="green")
    say(f"Next: dispatcher account test{desk.flag}")


def _invite(url: str, code: str) -> None:
    """Show where to sign in; a sign-in that comes back to this machine is opened here."""
    import subprocess

    if code:
        note("Open this page in any browser, and type the code:")
        note(f"  {url}")
        note(f"  {code}", name="bold")
        return
    note("Sign in in your browser. If none opens, go to:")
    note(f"  {url}")
    # What browsers say of themselves is no output of ours, and what lies in this folder is no program of ours (-I).
    words, away = [sys.executable, "-I", "-m", "webbrowser", url], subprocess.DEVNULL
    subprocess.run(words, stdin=away, stdout=away, stderr=away, check=False)


def _asked(question: str) -> str:
    """A secret that somebody types, and nobody sees; or the first line of what is piped in."""
    if sys.stdin is not None and sys.stdin.isatty():
        try:
            return getpass.getpass(question, stream=sys.stderr)
        except EOFError:
            return ""
    try:
        return "" if sys.stdin is None else sys.stdin.buffer.readline().decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        pass  # raised below, for this error holds what was read
    raise UsageError(Problem("what is piped in is not UTF-8 text", todo="type it, or have it printed in UTF-8"))


@account.command("test")
def account_test(campaign: CampaignFolder = HERE, *, as_json: AsJson = False) -> None:
    """Connect to the relay and log in, as `send` would. Says what happened; no letter is sent.

    Example: dispatcher account test
    """
    import asyncio

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
    """Take the stored password away again. A sign-in is ended at the provider, too, where that has a way.

    Example: dispatcher account remove
    """
    import asyncio

    from dispatcher.desk import Desk
    from dispatcher.desk.accounts import remove_secret

    gone = asyncio.run(remove_secret(Desk(campaign)))
    if as_json:
        say_json({"removed": gone.place if gone.there else None, "ended_at_provider": gone.ended})
        return
    say(f"Removed from {gone.place}." if gone.there else f"There was nothing in {gone.place}.")
    if gone.ended:
        say("The provider has ended the sign-in.")
    elif gone.provider:
        note(f"{gone.provider} was not told, or has no way to be told: there the sign-in goes on.", name="yellow")
        note("  → End it there, too, in the account's list of applications: docs/accounts.md")
