"""What letters share is kept ready once for all of them; it must be no other campaign's, nor another revision's."""

from pathlib import Path

from tests.smtp_server import SmtpServer
from tests.torture import judge, run, write_campaign

LETTERS = 4


def annex(text: bytes) -> bytes:
    """Attachments of one size, so that nothing but their octets tells one from the other."""
    return b"\0annex\n" + b".\r\n" + text.ljust(50_000, b".")


def test_each_of_two_campaigns_in_one_process_has_its_own_attachment(tmp_path: Path) -> None:
    """One after the other, over and again: a part that was encoded, stuffed or digested for one is not the other's."""
    with SmtpServer() as one, SmtpServer() as other:
        for folder, server in ((tmp_path / "one", one), (tmp_path / "other", other)):
            folder.mkdir()
            write_campaign(folder, server.port, LETTERS, pace="connections = 1")
            (folder / "annex.bin").write_bytes(annex(folder.name.encode()))
        for _ in range(LETTERS):
            run(tmp_path / "one", limit=1)
            run(tmp_path / "other", limit=1)
        judge(tmp_path / "one", one, LETTERS, complete=True)
        judge(tmp_path / "other", other, LETTERS, complete=True)
    assert len({stored.octets for stored in one.stored + other.stored}) == 2 * LETTERS
