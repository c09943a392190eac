"""What is measured of printing: the founding campaign's letters, merged beforehand, typeset in a process of its own.

    python -m benchmarks.printing [--each | --behind] LETTERS

`--each` makes a file for every letter, `--behind` puts the report of five pages behind each. Prints one line of JSON:
seconds and CPU seconds from the merged letters to the last octet of PDF (loading Typst and its fonts included), the
peak memory, and the octets. More letters than the campaign has are its own again.
"""

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import cycle, islice

from benchmarks.measured import ROOT
from benchmarks.ours import Moment
from dispatcher.core.render import Renderer
from dispatcher.desk.draft import Draft
from dispatcher.paper.letters import typeset
from dispatcher.paper.printing import House, PaperLetter
from dispatcher.sources.campaign import Folder


def founding(*, behind: bool) -> tuple[House, list[PaperLetter]]:
    """The founding campaign's house and letters."""
    draft = Draft(ROOT)
    folder = Folder(ROOT)
    house = House(folder.text(draft.campaign.letter.paper), folder.root, title=draft.campaign.title)
    renderer = Renderer(draft.frozen.template)
    report = ((ROOT / draft.campaign.letter.attachments[0]).read_bytes(),) if behind else ()
    letters = [
        PaperLetter(one.key, renderer.parts(one.recipient, tuple(a.name for a in one.attachments)), report)
        for one in draft.letters()
    ]
    return house, letters


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.printing")
    parser.add_argument("letters", type=int)
    parser.add_argument("--each", action="store_true")
    parser.add_argument("--behind", action="store_true")
    given = parser.parse_args(arguments)
    house, known = founding(behind=given.behind)
    letters = list(islice(cycle(known), given.letters))
    files = [[letter] for letter in letters] if given.each else [letters]
    began = Moment.now()
    octets = sum(len(typeset(file, house, timestamp=datetime(2009, 10, 1, tzinfo=UTC))) for file in files)
    ended = Moment.now()
    told = {"letters": len(letters), "files": len(files), "seconds": ended.at - began.at, "cpu": ended.cpu - began.cpu}
    print(json.dumps({**told, "peak": ended.peak, "octets": octets}))


if __name__ == "__main__":
    main()
