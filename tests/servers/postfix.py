"""Postfix, an instance of its own: it keeps what it is given in a Maildir, and has no way out of the machine.

There is no `smtp` client among its services, so nothing can leave. It offers PIPELINING, CHUNKING, SIZE (100 kB),
8BITMIME, SMTPUTF8, DSN and STARTTLS, and refuses bare newlines. It must be started by root.
"""

import contextlib
import os
import re
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.servers import Kept, RealServer, require

SIZE = 100_000
_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
myhostname = postfix.example
mynetworks = 127.0.0.0/8
inet_interfaces = loopback-only
inet_protocols = ipv4
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
virtual_mailbox_domains = static:all
virtual_mailbox_maps = static:all/
virtual_mailbox_base = {folder}/mail
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
message_size_limit = {size}
smtpd_forbid_bare_newline = reject
smtpd_forbid_bare_newline_exclusions =
smtpd_tls_chain_files = {folder}/certificate.pem
smtpd_tls_security_level = may
smtpd_tls_loglevel = 1
"""
_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""
_ON_TOP = re.compile(rb"Return-Path: <([^>]*)>\nX-Original-To: (.*)\nDelivered-To: .*\nReceived: (.*\n(?:[ \t].*\n)*)")
_QUEUE_ID = re.compile(rb"\bid ([0-9A-F]+)")


class Postfix(RealServer):
    """`settings` are further lines of main.cf."""

    def __init__(self, *settings: str, tls: bool = True) -> None:
        super().__init__()
        self._settings = settings
        self._tls = tls

    def _begin(self) -> None:
        postfix = require("postfix", "apt-get install postfix")
        if os.geteuid() != 0:
            pytest.skip("Postfix can only be started by root")
        self.folder.chmod(0o755)
        self._certificate()
        for name, owner in (("config", "root"), ("queue", "root"), ("data", "postfix"), ("mail", "nobody")):
            (self.folder / name).mkdir()
            shutil.chown(self.folder / name, owner)
        main = _MAIN.format(folder=self.folder, size=SIZE) + "".join(f"{line}\n" for line in self._settings)
        for name, text in (("main.cf", main), ("master.cf", _MASTER.format(port=self.port))):
            (self.folder / "config" / name).write_text(text, encoding="utf-8")
            os.utime(self.folder / "config" / name, (0, 0))  # Postfix waits for a file that is still being written
        self._run(postfix, "-c", self.folder / "config", "start-fg")
        self._stack.callback(self._stop_master)

    def _stop_master(self) -> None:
        """The process that `_run` started is a script, which the master daemon would outlive."""
        master = int((self.folder / "queue/pid/master.pid").read_text(encoding="ascii"))
        with contextlib.suppress(ProcessLookupError):
            os.kill(master, signal.SIGTERM)
            while True:
                os.kill(master, 0)
                time.sleep(0.02)

    def relay(self, folder: Path) -> str:
        return self._trusted(folder) if self._tls else super().relay(folder)

    @property
    def log(self) -> str:
        """Postfix's own log."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def heard(self, verb: str) -> int:
        """How often it has met a command, as its log adds up at the end of each connection."""
        return sum(int(count) for count in re.findall(rf"disconnect from .* {verb}=(?:\d+/)?(\d+)", self.log))

    @property
    def stored(self) -> Sequence[Kept]:
        """One for each message; a Maildir has one file for each of its mailboxes."""
        found: dict[str, list[Kept]] = {}
        for path in (self.folder / "mail/all/new").glob("*"):
            kept = _kept(path.read_bytes())
            found.setdefault(kept.queue_id, []).append(kept)
        return [Kept(0, all_[0].mail_from, tuple(k.rcpt_tos[0] for k in all_), all_[0].octets, number)
                for number, all_ in found.items()]  # fmt: skip


def _kept(file: bytes) -> Kept:
    """A Maildir has its lines end in LF alone; no letter holds a bare one, for Postfix would refuse it."""
    on_top = _ON_TOP.match(file)
    assert on_top, file[:500]
    mail_from, rcpt_to, received = on_top.groups()
    number = _QUEUE_ID.search(received)
    assert number, received
    octets = file[on_top.end() :].replace(b"\n", b"\r\n")
    return Kept(0, mail_from.decode(), (rcpt_to.decode(),), octets, number[1].decode())
