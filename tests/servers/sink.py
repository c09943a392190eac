"""Postfix's smtp-sink: a fast server with fault flags, which writes what it is given into one file a message."""

import os
import re
from collections.abc import Sequence

from tests.servers import HOST, Kept, RealServer, require

_ON_TOP = re.compile(rb"(?:X-[\w-]+: .*\n)+Received: .*\n(?:[ \t].*\n)+")
_ARGS = re.compile(rb"X-(Mail|Rcpt)-Args: <([^>]*)>")


class Sink(RealServer):
    """`flags` as in smtp-sink(1); for example "-Q", "CONNECT"."""

    def __init__(self, *flags: str) -> None:
        super().__init__()
        self.flags = flags

    def _begin(self) -> None:
        sink = require("smtp-sink", "apt-get install postfix")
        (self.folder / "mail").mkdir(mode=0o777)
        (self.folder / "mail").chmod(0o777)
        self.folder.chmod(0o755)
        user = ("-u", "nobody") if os.geteuid() == 0 else ()  # it refuses to be root
        self._run(sink, *user, *self.flags, "-d", f"{self.folder}/mail/m.", f"inet:{HOST}:{self.port}", "100")

    @property
    def stored(self) -> Sequence[Kept]:
        return [_kept(path.read_bytes()) for path in (self.folder / "mail").iterdir()]


def _kept(file: bytes) -> Kept:
    """Lines end in LF alone, and an empty one follows the message."""
    on_top = _ON_TOP.match(file)
    assert on_top, file[:500]
    args = [(kind, path.decode()) for kind, path in _ARGS.findall(on_top[0])]
    (mail_from,) = (path for kind, path in args if kind == b"Mail")
    rcpt_tos = tuple(path for kind, path in args if kind == b"Rcpt")
    return Kept(0, mail_from, rcpt_tos, file[on_top.end() :].removesuffix(b"\n").replace(b"\n", b"\r\n"))
