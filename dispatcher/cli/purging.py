"""Personal data that is not needed any more: purge."""

from typing import Annotated

import typer

from dispatcher.cli.options import HERE, AsJson, CampaignFolder, OnSandbox
from dispatcher.cli.output import counts_line, many, moment, say, say_json


def purge(
    older_than: Annotated[
        str, typer.Option("--older-than", help="How long nothing has happened: 2y, 18m or 90d.", show_default=False)
    ],
    campaign: CampaignFolder = HERE,
    *,
    confirm: Annotated[
        int | None, typer.Option(help="The number of letters, to say that you mean it.", show_default=False)
    ] = None,
    sandbox: OnSandbox = False,
    as_json: AsJson = False,
) -> None:
    """Take what is personal out of the ledger, for good. Of campaigns that are long over.

    Addresses, names, texts and replies go; counts, states, times, codes and hashes stay, and `verify` still
    passes. Without --confirm it says what would go.

    Example: dispatcher purge --older-than 2y
    """
    from dispatcher.desk import Desk
    from dispatcher.desk.purging import purge as purge_now
    from dispatcher.desk.purging import purgeable

    desk = Desk(campaign, sandbox=sandbox)
    found = purgeable(desk, older_than) if confirm is None else purge_now(desk, older_than, confirm)
    done = confirm is not None
    if as_json:
        say_json({**found.as_data(), "purged": done})
        return
    for stale in found.campaigns:
        say(f"{stale.campaign}, nothing since {moment(stale.last_at)} UTC", name="bold")
        say(f"  {counts_line({'letters': stale.letters, **stale.counts})}")
    mean_it = f"dispatcher purge --older-than {older_than} --confirm {found.letters}{desk.flag}"
    what = f"{many(found.letters, 'letter')} and {many(found.decisions, 'decision')}"
    if not (found.campaigns or found.decisions):
        say(f"Nothing is to be purged: no campaign has been at rest since {moment(found.before)} UTC.")
        if found.unclean and not done:
            say(f"But what was purged before is still in the files: {mean_it}")
    elif done:
        say(f"Purged: what was personal in {what}. What is left: dispatcher verify{desk.flag}")
        say("Not in the ledger, and still there: the lists in the folder, previews, printed files, backups, dossiers,")
        say("and rehearsals, with the mail that was captured: .dispatcher/sandbox")
    else:
        say(f"Nothing was changed. Addresses, names, texts and replies of {what} would go for good.")
        say(f"If you mean it: {mean_it}")
