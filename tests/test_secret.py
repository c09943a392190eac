"""The password: had from where campaign.toml says, and from then on in no error, no shell and no list of processes."""

import os
import select
import stat
import subprocess
import sys
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import null

from dispatcher.accounts.secret import Kept, forget_secret, read_secret, store_secret
from dispatcher.core.campaign import Password
from dispatcher.core.errors import Problem, SecretError

USER = "upr@kms.example.org"
CANARY = "hunter2-Tr0ub4dor&3 é"
posix = pytest.mark.skipif(os.name != "posix", reason="files have no mode here")


def refused(where: Password, folder: Path) -> str:
    """What is said instead of a password: with a place and something to do, and without any part of it."""
    with pytest.raises(SecretError) as caught:
        read_secret(where, folder, USER, seconds=1)
    (found,) = caught.value.problems
    assert (found.where.file, found.where.column) == ("campaign.toml", "key relay.password")
    assert found.todo
    error: BaseException | None = caught.value
    while error:
        assert "hunter2" not in f"{error} {error!r} {vars(error)} {getattr(error, 'object', '')!r}"
        error = error.__cause__ or error.__context__
    return found.what


def secret_file(folder: Path, content: bytes = CANARY.encode(), mode: int = 0o600) -> Password:
    path = folder / "password.txt"
    path.write_bytes(content)
    path.chmod(mode)
    return Password(file="password.txt")


def python(code: str) -> Password:
    return Password(command=(sys.executable, "-c", code))


def test_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARVEST_PASSWORD", CANARY)
    assert read_secret(Password(env="HARVEST_PASSWORD"), tmp_path, USER) == CANARY


@pytest.mark.parametrize("value", [None, ""])
def test_environment_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("ORCHARD_PASSWORD", raising=False)
    if value is not None:
        monkeypatch.setenv("ORCHARD_PASSWORD", value)
    assert "ORCHARD_PASSWORD is not set" in refused(Password(env="ORCHARD_PASSWORD"), tmp_path)


def test_what_was_read_from_the_environment_is_inherited_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is taken out, and read again and again all the same; what is set anew counts."""
    where = Password(env="HARVEST_PASSWORD")
    monkeypatch.setenv("HARVEST_PASSWORD", CANARY)
    for _ in range(2):
        assert read_secret(where, tmp_path, USER) == CANARY
        code = "import os; print(dict(os.environ))"
        inherited = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert b"hunter2" not in inherited.stdout
    monkeypatch.setenv("HARVEST_PASSWORD", "another")
    assert read_secret(where, tmp_path, USER) == "another"


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\nsecond line\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_from_a_file(tmp_path: Path, end: str, mark: str) -> None:
    """The first line, whatever editor wrote it; blanks at its ends belong to it."""
    assert read_secret(secret_file(tmp_path, f"{mark} {CANARY} {end}".encode()), tmp_path, USER) == f" {CANARY} "


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o644, 0o666])
def test_a_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    assert "can be read by others" in refused(secret_file(tmp_path, mode=mode), tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\nhunter2", "is empty"),
        (b"hunter2\xff\xfe", "is not UTF-8 text"),
        ("hunter2\n".encode("utf-16-le"), "there is a NUL in password.txt"),  # as PowerShell may write it
        (b"hunter2" * 10_000, "is larger than any password"),  # cut off it would be another one
    ],
)
def test_a_file_without_password(tmp_path: Path, content: bytes, words: str) -> None:
    assert words in refused(secret_file(tmp_path, content), tmp_path)


def test_no_file(tmp_path: Path) -> None:
    assert "does not exist" in refused(Password(file="password.txt"), tmp_path)
    assert "is not a file" in refused(Password(file="."), tmp_path)


@posix
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "is not a file" in refused(Password(file="pipe"), tmp_path)


@posix
def test_a_file_outside_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "campaign"
    folder.mkdir()
    secret_file(tmp_path)
    (folder / "link").symlink_to(tmp_path / "password.txt")
    (folder / "round").symlink_to(folder / "round")
    assert "outside" in refused(Password(file="link"), folder)
    refused(Password(file="round"), folder)


def test_from_a_command(tmp_path: Path) -> None:
    """Run in the campaign's folder, without a terminal; its first line counts."""
    (tmp_path / "vault").write_text(CANARY, encoding="utf-8")
    code = (
        "import sys; sys.stdout.buffer.write(open('vault', 'rb').read() + b'\\r\\nmore'); assert not sys.stdin.read()"
    )
    assert read_secret(python(code), tmp_path, USER) == CANARY


def test_a_command_is_no_shell(tmp_path: Path) -> None:
    """Arguments arrive as they stand: nothing is split, expanded or run."""
    where = Password(command=(sys.executable, "-c", "import sys; print(sys.argv[1])", "$(touch x); `y` * ~ 'z'"))
    assert read_secret(where, tmp_path, USER) == "$(touch x); `y` * ~ 'z'"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print('hunter2'); raise SystemExit(3)", "ended with 3"),
        ("import sys; sys.stderr.write('hunter2'); sys.exit(1)", "ended with 1"),
        ("pass", "printed nothing"),
        ("print(); print('hunter2')", "printed nothing"),
        ("import sys; sys.stdout.buffer.write(b'hunter2\\xff')", "not UTF-8"),
        ("print('hunter2', flush=True); import time; time.sleep(60)", "did not end within 1 s"),
        ("import os; os.close(1); import time; time.sleep(60)", "did not end within 1 s"),
        ("print('hunter2\\0')", "there is a NUL in what"),
        ("while True: print('hunter2' * 1000)", "is larger than any password"),
    ],
)
def test_a_command_that_fails(tmp_path: Path, code: str, words: str) -> None:
    assert words in refused(python(code), tmp_path)


@posix
def test_a_command_that_is_too_slow_is_ended_with_all_that_it_began(tmp_path: Path) -> None:
    """Nothing goes on behind our back: the other end of a pipe that its child holds is closed."""
    os.mkfifo(tmp_path / "held")
    ours = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    where = Password(command=("sh", "-c", "(printf x; exec sleep 600) > held & wait"))
    try:
        assert "did not end within 1 s" in refused(where, tmp_path)
        select.select([ours], [], [], 60)
        assert os.read(ours, 1) == b"x"
        select.select([ours], [], [], 60)
        assert os.read(ours, 1) == b""  # not "nothing as yet", which would raise
    finally:
        os.close(ours)


@posix
def test_what_a_command_says_on_stderr_is_shown_nowhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = "import sys; sys.stderr.write('hunter2'); print('x')"
    assert read_secret(python(code), tmp_path, USER) == "x"
    assert capfd.readouterr() == ("", "")


@posix
def test_a_program_that_anybody_may_choose_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "campaign.toml").write_text("", encoding="utf-8")
    (tmp_path / "campaign.toml").chmod(0o666)
    assert "can be changed by others, and says which program to run" in refused(python("print('x')"), tmp_path)
    (tmp_path / "campaign.toml").chmod(0o664)
    assert read_secret(python("print('x')"), tmp_path, USER) == "x"


def test_what_is_kept_is_read_again_only_when_it_must_be() -> None:
    """Refused, or kept for long enough; what could not be read is asked for again."""
    said = iter(["", "one", "two", "three"])
    now = [100.0]

    def read() -> str:
        if secret := next(said):
            return secret
        raise SecretError(Problem("nothing there"))

    kept = Kept(read, lambda: now[0], 60)
    with pytest.raises(SecretError):
        kept()
    assert [kept(), kept(), kept("another")] == ["one"] * 3
    assert [kept("one"), kept()] == ["two"] * 2
    now[0] += 59.9
    assert kept() == "two"
    now[0] += 0.2
    assert kept() == "three"


def test_no_such_program(tmp_path: Path) -> None:
    assert "there is no program 'no-such-program'" in refused(Password(command=("no-such-program",)), tmp_path)
    (tmp_path / "data").write_text("x", encoding="utf-8")
    assert "cannot be run" in refused(Password(command=(str(tmp_path / "data"),)), tmp_path)


# Kept for later.


def test_into_a_file(tmp_path: Path) -> None:
    """In place of what was there, for its owner alone, and with nothing left beside it."""
    where = secret_file(tmp_path, b"old", 0o644)
    assert store_secret(where, tmp_path, USER, CANARY) == "password.txt"
    assert read_secret(where, tmp_path, USER) == CANARY
    assert [path.name for path in tmp_path.iterdir()] == ["password.txt"]
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "password.txt").stat().st_mode) == 0o600
    (tmp_path / "password.txt.0a1b2c3d").write_text(CANARY, encoding="utf-8")  # left by a power failure
    (tmp_path / "password.txt.old").write_text("mine", encoding="utf-8")
    assert forget_secret(where, tmp_path, USER)
    (tmp_path / "password.txt.old").unlink()
    assert not forget_secret(where, tmp_path, USER)
    assert list(tmp_path.iterdir()) == []


@posix
def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """Outside, through a link or not; no folder. What was there stays."""
    folder = tmp_path / "campaign"
    folder.mkdir()
    outside = tmp_path / "password.txt"
    outside.write_text("old", encoding="utf-8")
    (folder / "link").symlink_to(outside)
    for name, words in (("link", "outside"), ("nowhere/password.txt", "cannot be written")):
        with pytest.raises(SecretError) as caught:
            store_secret(Password(file=name), folder, USER, CANARY)
        assert words in str(caught.value)
        assert "hunter2" not in str(caught.value)
    with pytest.raises(SecretError, match="outside"):
        forget_secret(Password(file="link"), folder, USER)
    assert outside.read_text(encoding="utf-8") == "old"
    assert [path.name for path in folder.iterdir()] == ["link"]


class Odd(KeyringBackend):
    """The keyring of a system whose errors are its own, as Windows' is: what is kept there must be short."""

    priority = 1.0

    def get_password(self, service: str, username: str) -> str | None:
        return None

    def set_password(self, service: str, username: str, password: str) -> None:
        raise EOFError(1783, "CredWrite", f"The stub received bad data: {password}")


def test_a_keyring_that_keeps_nothing_is_none(tmp_path: Path) -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(null.Keyring())  # type: ignore[no-untyped-call]
    try:
        with pytest.raises(SecretError, match="there is no keyring on this machine"):
            store_secret(Password(keyring="dispatcher"), tmp_path, USER, CANARY)
    finally:
        keyring.set_keyring(before)


def test_a_keyring_with_errors_of_its_own(tmp_path: Path) -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(Odd())  # type: ignore[no-untyped-call]
    try:
        with pytest.raises(SecretError, match="the keyring does not serve: EOFError") as caught:
            store_secret(Password(keyring="dispatcher"), tmp_path, USER, CANARY)
    finally:
        keyring.set_keyring(before)
    assert "hunter2" not in str(caught.value)
    assert 'password = { file = "secret.txt" }' in str(caught.value)


@pytest.mark.parametrize("where", [Password(env="HARVEST_PASSWORD"), python("pass")])
def test_where_nothing_can_be_kept(tmp_path: Path, where: Password) -> None:
    for doing in (lambda: store_secret(where, tmp_path, USER, CANARY), lambda: forget_secret(where, tmp_path, USER)):
        with pytest.raises(SecretError, match=r'password = \{ keyring = "dispatcher" \}'):
            doing()


@posix
def test_a_process_that_holds_a_secret_leaves_no_core(tmp_path: Path) -> None:
    """Killed by SIGABRT, it has no right to write its memory anywhere, whatever it had before."""
    import resource  # noqa: PLC0415 (not on Windows)

    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom dispatcher.core.campaign import Password\n"
        "from dispatcher.accounts.secret import read_secret\n"
        "hard = resource.getrlimit(resource.RLIMIT_CORE)[1]\nresource.setrlimit(resource.RLIMIT_CORE, (hard, hard))\n"
        "read_secret(Password(file='password.txt'), Path(sys.argv[1]), '')\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE)[0], flush=True)\nimport os\nos.abort()\n"
    )
    secret_file(tmp_path)
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=tmp_path, capture_output=True, check=False)
    # 1, since a core that is piped into a program knows no limit but that one
    most = min(1, resource.getrlimit(resource.RLIMIT_CORE)[1] % 2**64)
    assert (done.returncode, done.stdout.strip()) == (-6, str(most).encode()), done
    assert [path.name for path in tmp_path.iterdir()] == ["password.txt"]
