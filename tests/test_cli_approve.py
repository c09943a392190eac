"""`seal` and `approve` as people type them: two colleagues, two machines, one plan."""

import html
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import FEW, argv, dispatcher, edit, environment, new_campaign, on_terminal, use_server
from tests.keys import minisign_key, minisign_public, private_key, ssh_keygen
from tests.smtp_server import Script, SmtpServer
from tests.test_cli_paper import put_on_paper


@pytest.fixture
def server() -> Iterator[SmtpServer]:
    with SmtpServer(Script()) as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path, server: SmtpServer) -> Path:
    made = new_campaign(tmp_path / "campaign")
    use_server(made, server)
    edit(made / "campaign.toml", "# approvals = 2", "approvals = 2")
    return made


@pytest.fixture
def ada(tmp_path: Path) -> Path:
    return private_key(tmp_path / "ada")


def test_two_colleagues_on_two_machines(folder: Path, server: SmtpServer, ada: Path, tmp_path: Path) -> None:
    """From sealing to sending; the second approves in an empty folder, and that writes nothing but the file."""
    sealed = dispatcher("seal", "--out", "plan.txt", "--json", folder=folder).json
    page = (folder / "plan.txt").read_text(encoding="utf-8")
    assert sealed["plan"] in page
    assert "6 letters: " in page
    assert "0 of 2 approvals" in page
    assert "1 of 2 approvals: Ada" in dispatcher("approve", "--by", "Ada", "--key", str(ada), folder=folder).out

    refused = dispatcher("send", "--confirm", "6", folder=folder)
    assert refused.code == 5
    assert "1 of 2 approvals: Ada; 1 more is wanted: nothing was sent" in refused.err
    assert f"--plan {sealed['plan']}" in refused.err

    away, bob = tmp_path / "away", private_key(tmp_path / "bob")
    away.mkdir()
    words = ("approve", "--plan", sealed["plan"], "--by", "Bo Reed", "--key", str(bob), "--export", "approval.json")
    done = dispatcher(*words, folder=away)
    assert done.code == 0, done
    assert [path.name for path in away.iterdir()] == ["approval.json"]
    assert "dispatcher approve --import approval.json" in done.out

    file = str(away / "approval.json")
    assert dispatcher("approve", "--import", file, "--json", folder=folder).json["missing"] == 0
    again = dispatcher("approve", "--import", file, folder=folder)
    assert (again.code, "Bo Reed was not recorded: this person has approved already" in again.err) == (2, True)
    assert "2 of 2 approvals: Ada, Bo Reed" in dispatcher("approve", "--list", folder=folder).out
    assert dispatcher("send", "--confirm", "6", folder=folder).code == 0
    assert len(server.stored) == len(FEW)


def test_anybody_can_check_an_approval_with_openssh(folder: Path, tmp_path: Path) -> None:
    """From the file alone, written out as docs/design.md says, without a line of ours."""
    key = private_key(tmp_path / "key")
    dispatcher("seal", folder=folder)
    words = ("--by", "Zoë Nguyễn", "--key", str(key), "--export", str(tmp_path / "a.json"))
    assert dispatcher("approve", *words, folder=folder).code == 0
    said = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    lines = [
        "dispatcher approval 1",
        *(f"{name}: {said[name]}" for name in ("campaign", "revision", "digest", "name", "time")),
    ]
    (tmp_path / "a.sig").write_text(said["signature"], encoding="utf-8")
    (tmp_path / "allowed").write_text(f"zoe@example.org {said['key']}\n", encoding="utf-8")
    who = ("-f", str(tmp_path / "allowed"), "-I", "zoe@example.org")
    command = [ssh_keygen(), "-Y", "verify", *who, "-n", "dispatcher", "-s", str(tmp_path / "a.sig")]
    text = "".join(f"{line}\n" for line in lines).encode()
    done = subprocess.run(command, input=text, capture_output=True, check=False)
    assert done.returncode == 0, done


def test_what_the_bundle_says_to_type_approves_its_letters(folder: Path, ada: Path, tmp_path: Path) -> None:
    """Word for word, but for the name and where the key is: here, and on a machine that has the bundle alone."""
    dispatcher("seal", folder=folder)
    assert dispatcher("preview", "--bundle", str(tmp_path / "letters.html"), folder=folder).code == 0
    page = (tmp_path / "letters.html").read_text(encoding="utf-8")
    here, away = (
        shlex.split(html.unescape(found).replace("Your name", name).replace("~/.ssh/id_ed25519", str(ada)))[1:]
        for found, name in zip(
            re.findall(r"<pre class=\"command\"[^>]*>(.*?)</pre>", page), ("Bob", "Ada"), strict=True
        )
    )
    assert dispatcher(*away, folder=tmp_path).code == 0
    assert dispatcher("approve", "--import", str(tmp_path / "approval.json"), folder=folder).code == 0
    assert dispatcher(*here, "--json", folder=folder).json["missing"] == 0


def test_what_is_missing_is_said_everywhere(folder: Path, server: SmtpServer) -> None:
    assert (
        "note: 0 of 2 approvals: nothing leaves before there are enough; next: dispatcher seal"
        in dispatcher("check", folder=folder).out
    )
    assert "Next: dispatcher seal" in dispatcher("send", folder=folder).out
    dispatcher("seal", folder=folder)
    dispatcher("approve", "--by", "Ada", folder=folder)
    for words in (("check",), ("send",), ("status",)):
        found = dispatcher(*words, "--json", folder=folder).json["approvals"]
        assert (found["wanted"], found["counted"], found["missing"]) == (2, 1, 1)
        assert [(row["name"], row["counts"]) for row in found["rows"]] == [("Ada", True)]
    assert "1 of 2 approvals: Ada" in dispatcher("status", folder=folder).out
    assert "1 of 2 approvals: Ada; nothing can be sent before." in dispatcher("send", folder=folder).out
    assert not server.commands


def test_two_spellings_of_one_name_are_one_person_and_typed_names_are_said_to_be_typed(folder: Path) -> None:
    dispatcher("seal", folder=folder)
    assert "Not signed: 1." in dispatcher("approve", "--by", "Ada Pomme", folder=folder).err
    again = dispatcher("approve", "--by", "ADÁ-pomme", folder=folder)
    assert (again.code, "this person has approved already" in again.err) == (2, True)
    found = dispatcher("approve", "--list", folder=folder)
    assert "Not signed: 1. Whether different names are different people, nobody can tell here." in found.err
    assert dispatcher("approve", "--list", "--json", folder=folder).json["unsigned"] == 1


def test_nobody_is_asked_for_a_number_before_it_is_approved(folder: Path) -> None:
    code, shown = on_terminal("send", folder=folder, typed="6\n")
    assert code == 0
    assert "nothing can be sent before" in shown
    assert "Type the number" not in shown


def test_an_amended_plan_is_approved_anew(folder: Path, server: SmtpServer) -> None:
    dispatcher("seal", folder=folder)
    for name in ("Ada", "Bob"):
        dispatcher("approve", "--by", name, folder=folder)
    edit(folder / "templates" / "upr_submission" / "letter.fr.md", "subject = ", "# changed\nsubject = ")
    edit(folder / "campaign.toml", 'signatory = "Dr. ', 'signatory = "Mr. ')
    assert dispatcher("approve", "--by", "Cleo", folder=folder).code == 5
    looked = dispatcher("amend", "--json", folder=folder).json
    assert looked["lines"][-1] == "2 of 2 approvals: Ada, Bob, which will be void"
    done = dispatcher("amend", "--confirm", str(looked["changes"]), folder=folder)
    assert (done.code, "Next: dispatcher approve --by NAME" in done.out) == (0, True)
    refused = dispatcher("send", "--confirm", "6", "--json", folder=folder)
    assert (refused.code, refused.json["error"]) == (5, "NotApproved")
    assert "0 of 2 approvals" in refused.json["problems"][0]["what"]
    assert not server.commands


def test_paper_waits_as_well(folder: Path) -> None:
    put_on_paper(folder, "FRA")
    dispatcher("seal", folder=folder)
    refused = dispatcher("paper", folder=folder)
    assert (refused.code, "0 of 2 approvals" in refused.err) == (5, True)
    assert not (folder / "paper").exists()
    assert dispatcher("paper", "--sandbox", folder=folder).code == 0


def test_an_approval_that_nobody_wants_is_recorded_all_the_same(folder: Path) -> None:
    edit(folder / "campaign.toml", "approvals = 2", "")
    assert "0 approvals\n" in dispatcher("seal", folder=folder).out
    assert "1 approval: Ada; none is wanted" in dispatcher("approve", "--by", "Ada", folder=folder).out
    assert "\n1 approval: Ada\n" in dispatcher("status", folder=folder).out


def test_options_that_do_not_go_together(folder: Path, ada: Path) -> None:
    for words, found in (
        (("--list", "--by", "Ada"), "do not go together"),
        (("--import", "a.json", "--key", str(ada)), "do not go together"),
        (("--export", "a.json"), "there is no --key"),
        (("--plan", "upr"), "names no plan"),
        (
            (
                "--by",
                "\u202e",
            ),
            "what does not show",
        ),
    ):
        done = dispatcher("approve", *words, folder=folder)
        assert (done.code, found in done.err) == (2, True), done
    assert not (folder / ".dispatcher").exists()


def test_a_file_that_is_there_is_not_written_over(folder: Path, ada: Path) -> None:
    plan = dispatcher("seal", "--json", folder=folder).json["plan"]
    words = ("approve", "--plan", plan, "--key", str(ada), "--export", "a.json")
    assert dispatcher(*words, folder=folder).code == 0
    before = (folder / "a.json").read_bytes()
    assert dispatcher(*words, folder=folder).code == 2
    assert (folder / "a.json").read_bytes() == before


def test_of_two_processes_at_once_one_records(folder: Path, ada: Path, tmp_path: Path) -> None:
    """Two imports of one file, typed in two windows."""
    plan = dispatcher("seal", "--json", folder=folder).json["plan"]
    file = str(tmp_path / "a.json")
    dispatcher("approve", "--plan", plan, "--by", "Ada", "--key", str(ada), "--export", file, folder=tmp_path)
    command = argv("approve", "--import", file, "--json")
    both = [subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL) for _ in range(2)]
    assert sorted(process.wait() for process in both) == [0, 2]
    assert dispatcher("approve", "--list", "--json", folder=folder).json["counted"] == 1


def test_a_mistake_in_campaign_toml_hides_no_status(folder: Path) -> None:
    dispatcher("seal", folder=folder)
    edit(folder / "campaign.toml", "quota = 300", "qouta = 300")
    done = dispatcher("status", "--json", folder=folder)
    assert (done.code, done.json["approvals"]) == (0, None)


def test_a_locked_key_is_asked_for_its_passphrase_by_ssh_keygen(folder: Path, tmp_path: Path) -> None:
    key, asked = tmp_path / "locked", tmp_path / "asked"
    subprocess.run([ssh_keygen(), "-q", "-t", "ed25519", "-N", "a pass phrase", "-f", key], check=True)
    asked.write_text("#!/bin/sh\necho 'a pass phrase'\n", encoding="utf-8")
    asked.chmod(0o700)
    dispatcher("seal", folder=folder)
    env = {"SSH_ASKPASS": str(asked), "SSH_ASKPASS_REQUIRE": "force"}
    done = dispatcher("approve", "--by", "Ada", "--key", str(key), "--json", folder=folder, env=env)
    assert done.code == 0, done
    assert "a pass phrase" not in done.all
    assert done.json["counted"] == 1


def test_keys_of_minisigns_approve_too(folder: Path, tmp_path: Path, server: SmtpServer) -> None:
    """One that is locked, whose password comes in; beside one of OpenSSH's. What is named counts, nothing else."""
    minisign_key(tmp_path, "a pass phrase")
    ada, bo = minisign_public(tmp_path), private_key(tmp_path / "bo", "Bo Reed")
    (tmp_path / "other").mkdir()
    other = minisign_key(tmp_path / "other")
    public = bo.with_suffix(".pub").read_text(encoding="utf-8").strip()
    edit(folder / "campaign.toml", "approvals = 2", f'approvals = 2\napprovers = ["{ada.key} Ada Pomme", "{public}"]')
    dispatcher("seal", folder=folder)
    words = ("approve", "--by", "Ada Pomme", "--key")
    refused = dispatcher(*words, str(other), folder=folder)
    assert "its key is not among the approvers" in refused.err
    wrong = dispatcher(*words, str(tmp_path / "minisign.key"), folder=folder, text="another\n")
    assert (wrong.code, "the password of" in wrong.err) == (2, True)
    done = dispatcher(*words, str(tmp_path / "minisign.key"), folder=folder, text="a pass phrase\n")
    assert "1 of 2 approvals: Ada Pomme" in done.out
    assert "a pass phrase" not in done.all
    assert "2 of 2 approvals" in dispatcher("approve", "--by", "Bo Reed", "--key", str(bo), folder=folder).out
    assert dispatcher("send", "--confirm", "6", folder=folder).code == 0
    assert len(server.stored) == len(FEW)
