"""Keys that letters are signed with (DKIM): made, published, checked."""

from typing import Annotated, Literal

import typer

from dispatcher.cli.options import HERE, AsJson, CampaignFolder
from dispatcher.cli.output import note, say, say_json

dkim = typer.Typer(
    help="Keys that letters are signed with, where the relay does not.", no_args_is_help=True, rich_markup_mode=None
)


@dkim.command("keygen")
def dkim_keygen(
    selector: Annotated[str, typer.Argument(metavar="{selector}", help="The key's name in the DNS, such as s1.")],
    campaign: CampaignFolder = HERE,
    *,
    kind: Annotated[Literal["rsa", "ed25519"], typer.Option(help="RSA (2,048 bits) is known to all.")] = "rsa",
    as_json: AsJson = False,
) -> None:
    """Make a private key, in a file for you alone, and say what to publish. Nothing is written over.

    Example: dispatcher dkim keygen s1

    Example: dispatcher dkim keygen s2 --kind ed25519
    """
    from dispatcher.desk import Desk
    from dispatcher.desk.dkim import make_key

    desk = Desk(campaign)
    name, record, named = make_key(desk, selector, kind)
    if as_json:
        say_json({"file": name, **record.as_data()})
        return
    say(f"Made {name}. Keep it, and show it to nobody.", name="green")
    say("Publish in the DNS of your domain:")
    say(f"  {record.line}")
    if not named:
        say("Put into campaign.toml (of several keys, all into the one line):")
        say(f'  [dkim]\n  keys = {{ {selector} = "{name}" }}')
    say(f"Next: dispatcher dkim check{desk.flag}")


@dkim.command("record")
def dkim_record(campaign: CampaignFolder = HERE, *, as_json: AsJson = False) -> None:
    """Print the DNS records that publish the campaign's keys, ready to paste; nothing of a private key is in them.

    Example: dispatcher dkim record
    """
    from dispatcher.desk import Desk
    from dispatcher.desk.dkim import records

    found = records(Desk(campaign))
    if as_json:
        say_json({"records": [record.as_data() for record in found]})
        return
    for record in found:
        say(record.line)


@dkim.command("check")
def dkim_check(campaign: CampaignFolder = HERE, *, as_json: AsJson = False) -> None:
    """Sign a letter with each key, and see whether what the DNS publishes finds that good. No letter is sent.

    Exit 2 if it does not, 4 if the DNS does not say.

    Example: dispatcher dkim check
    """
    from dispatcher.cli.preflight import say_lines
    from dispatcher.core.preflight import Status
    from dispatcher.desk import Desk
    from dispatcher.desk.dkim import check_keys

    lines = check_keys(Desk(campaign))
    found = {line.status for line in lines}
    code = 2 if Status.PROBLEM in found else 4 if Status.WARNING in found else 0
    if as_json:
        say_json({"lines": [line.as_data() for line in lines], "exit_code": code})
        raise typer.Exit(code)
    say_lines(lines)
    if code:
        note("Receivers would not find all signatures good." if code == 2 else "The DNS did not say.", name="red")
    raise typer.Exit(code)
