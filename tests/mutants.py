"""Wrong programs on purpose: each is ours with one rule taken out, and the suite must notice.

A mutant is a piece of source that is replaced, in a copy of the repository. The piece must be there exactly once, so
that no mutant goes stale in silence; the tests that are named to catch it must fail, for the reason that is named, and
pass in a copy that was left as it is. The same table stands in docs/design.md.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.command import REPOSITORY

SECONDS = 600
_LIES = "test_lies.py::test_what_the_ledger_says_is_borne_out"
_NEEDED = ("dispatcher", "tests", "templates", "recipients", "campaign.toml", "pyproject.toml")


@dataclass(frozen=True)
class Mutant:
    """What is wrong, in which file below `dispatcher/`, and who catches it, with a word of what is said then.

    `also` is a second piece of the same file and what takes its place, where one rule stands in two places.
    """

    name: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]
    saying: str
    also: tuple[str, str] | None = None


_POWER_LOSS = "test_power_loss.py::test_the_intent_is_on_the_disk_at_every_terminator[pipelining]"

MUTANTS = (
    Mutant(
        "the intent written late: the terminator does not wait for it",
        "relays/conversation.py",
        "        elif turn.granted:\n",
        "        elif turn.granted is None or turn.granted:\n",
        (_POWER_LOSS,),
        "a terminator left before its intent was safe",
    ),
    Mutant(
        "`synchronous=NORMAL`",
        "ledgers/file.py",
        "PRAGMA synchronous=FULL",
        "PRAGMA synchronous=NORMAL",
        (_POWER_LOSS,),
        "a terminator left before its intent was safe",
    ),
    Mutant(
        "the name of the ledger's folder not synced",
        "ledgers/file.py",
        "            sync_names(each.parent)\n",
        "",
        (_POWER_LOSS,),
        "unable to open database file",
    ),
    Mutant(
        "no fencing: a run need not hold the letter whose state it changes",
        "ledgers/statements.py",
        "    if connection.execute(SQL[name], given).rowcount != letters:\n",
        "    if connection.execute(SQL[name], given).rowcount > letters:\n",
        ("test_ledger.py::TestSqlite::test_a_run_that_lost_its_letter_changes_nothing",),
        "DID NOT RAISE",
    ),
    Mutant(
        "no unique index",
        "ledgers/schema.sql",
        "CREATE UNIQUE INDEX one_live",
        "CREATE INDEX one_live",
        ("test_ledger.py::TestSqlite::test_a_second_live_attempt_is_refused",),
        "DID NOT RAISE",
    ),
    Mutant(
        "a retry after a drop past the dot",
        "core/policy.py",
        "        return Verdict(Outcome.UNKNOWN, Scope.CONNECTION, facts.fault or",
        "        return Verdict(Outcome.DEFERRED, Scope.RATE, facts.fault or",
        (f"{_LIES}[a close after the dot, stored, chunking]",),
        "was stored",
    ),
    Mutant(
        "the outcome committed before the reply",
        "relays/conversation.py",
        "            self._end(turn, turn.facts(fault=words, retracted=turn.follows or turn.unbegun))\n",
        "            early = Reply(250, '2.0.0 taken, surely') if turn.terminated_at is not None else None\n"
        "            self._end(turn, turn.facts(early, words, retracted=turn.follows or turn.unbegun))\n",
        (f"{_LIES}[a close after the dot, not stored, lock-step]",),
        "is accepted and was never stored",
    ),
    Mutant(
        "the buffer of replies not looked into before the terminator",
        "relays/conversation.py",
        "        if self._reader.pending:\n            return False\n",
        "",
        (f"{_LIES}[a 250 behind the 354, and 451 in truth, lock-step]",),
        "is accepted and was never stored",
        also=(
            "        if not self._reader.pending:\n            self._tell()\n",
            "        if True:\n            self._tell()\n",
        ),
    ),
    Mutant(
        "two letters swapped",
        "core/merge.py",
        "        return envelope, message\n",
        "        before, self._before = getattr(self, '_before', envelope), envelope\n        return before, message\n",
        ("test_dispatch.py::test_a_second_run_sends_nothing_more",),
        "there.rcpt_tos",
    ),
    Mutant(
        "the shared tail of another campaign",
        "relays/content.py",
        "_stuffed_shared: Callable[[bytes], bytes] = lru_cache(maxsize=SHARED_PARTS)(_stuffed)\n",
        "_kept: dict[int, bytes] = {}\n"
        "_stuffed_shared: Callable[[bytes], bytes] = lambda part: _kept.setdefault(len(part), _stuffed(part))\n",
        ("test_tails.py::test_each_of_two_campaigns_in_one_process_has_its_own_attachment",),
        "there.octets",
    ),
    Mutant(
        "a lease that never expires",
        "ledgers/statements.sql",
        "WHERE lease IS NOT NULL AND state = 'leased';",
        "WHERE FALSE;",
        ("test_ledger.py::TestSqlite::test_recovery_settles_what_a_dead_run_left_and_may_be_repeated",),
        "found.given_back",
    ),
    Mutant(
        "a suppression not looked for when the intent is made",
        "ledgers/batch.py",
        "        stopped = suppressed_among(connection, [m.identity for letter in letters for m in letter.mailboxes])",
        "        stopped: dict[str, str] = {}",
        ("test_dispatch.py::test_a_suppression_between_lease_and_intent_holds_the_letter_back",),
        "suppressed",
    ),
    Mutant(
        "approvals not looked for before anything leaves",
        "desk/sending.py",
        "    require_approved(desk, plan.draft.campaign)\n",
        "",
        ("test_approve.py::test_nothing_leaves_before_two_people_have_approved",),
        "DID NOT RAISE",
    ),
    Mutant(
        "a signature not checked again when it is to count",
        "core/approval.py",
        "why_not = check(approval) or not_among(",
        "why_not = not_among(",
        ("test_approve.py::test_a_signature_is_checked_again_before_anything_leaves[the name]",),
        "DID NOT RAISE",
    ),
    Mutant(
        "an approval that holds for any revision with the same digest",
        "ledgers/statements.sql",
        "WHERE campaign = :campaign AND revision = :revision ORDER BY id;\n\n-- name: sealed_letters",
        "WHERE campaign = :campaign AND :revision ORDER BY id;\n\n-- name: sealed_letters",
        ("test_approve.py::test_an_amended_plan_is_another",),
        "DID NOT RAISE",
    ),
    Mutant(
        "a link that does not cover the one before it",
        "core/chain.py",
        "    return hashlib.sha256(previous + names + digests).digest()\n",
        "    return hashlib.sha256(names + digests).digest()\n",
        ("test_chain.py::test_links_cannot_be_removed_swapped_inserted_or_changed",),
        "is not None",
    ),
    Mutant(
        "a row that no link names passes",
        "desk/verifying.py",
        "        if fault := chained.fault or evidence.unlinked(chained.seen):\n",
        "        if fault := chained.fault:\n",
        ("test_verify.py::test_an_inserted_row_is_named[event]",),
        "list index out of range",
    ),
    Mutant(
        "a letter may stand where nothing that was recorded took it",
        "desk/verifying.py",
        "        if letter.state in can:\n",
        "        if letter.state in can or not letter.tried:\n",
        ("test_verify.py::test_what_an_amended_plan_left_alone_cannot_be_moved_either",),
        "ready to suppressed",
    ),
    Mutant(
        "salts that stay when what they are for is purged",
        "ledgers/purging.py",
        "                left[place : place + SALT] = bytes(SALT)\n",
        "",
        ("test_purge.py::test_nothing_personal_is_left_and_all_that_stays_verifies",),
        "can be tried",
    ),
    Mutant(
        "an intent that lives for ever",
        "relays/conversation.py",
        "            if self._boot() - turn.asked_at <= INTENT_LIFE:\n",
        "            if turn.asked_at:\n",
        ("test_conversation.py::test_an_intent_does_not_live_long",),
        "sent",
    ),
    Mutant(
        "every login asks the provider for a token of its own",
        "accounts/tokens.py",
        "return self._token if self._good(refused) else await",
        "return await",
        ("test_oauth.py::test_ten_logins_at_once_ask_once",),
        "assert 10 == 1",
    ),
    Mutant(
        "a new refresh token is used and not stored",
        "accounts/tokens.py",
        "            self._unstored = replace(grant, refresh_token=refresh).to_text()\n",
        "            pass\n",
        ("test_oauth.py::test_the_new_refresh_token_is_stored_before_the_access_token_is_used",),
        "not enough values to unpack",
    ),
    Mutant(
        "any caller's answer is taken for the provider's",
        "accounts/signin.py",
        'hmac.compare_digest(found.get("state", "").encode(), state.encode())',
        "True",
        ("test_oauth.py::test_only_the_providers_answer_is_taken",),
        "refuses: invalid_grant",
    ),
    Mutant(
        "a password stays in the environment of whatever is started",
        "accounts/secret.py",
        "os.environ.pop(where.env)",
        "os.environ[where.env]",
        ("test_secret.py::test_what_was_read_from_the_environment_is_inherited_by_nobody",),
        "not in",
    ),
    Mutant(
        "a password's file may be read by others",
        "accounts/secret.py",
        "os.fstat(file.fileno()).st_mode) & 0o077",
        "os.fstat(file.fileno()).st_mode) & 0",
        ("test_secret.py::test_a_file_that_others_may_touch_is_refused",),
        "DID NOT RAISE",
    ),
    Mutant(
        "the certificate is checked by the name of the tunnel's end",
        "relays/smtp.py",
        "        return self.server_name or self.host\n",
        "        return self.host\n",
        ("test_ways.py::test_a_relay_on_a_unix_socket",),
        "assert 4 == 0",
    ),
    Mutant(
        "a Message-ID, which is made of the key, stays where persons are hidden",
        "core/dossier.py",
        '"queue_id", "message_id", "reason"))',
        '"queue_id", "reason"))',
        ("test_dossier.py::test_hidden_persons_are_nowhere",),
        "AssertionError",
    ),
    Mutant(
        "a dossier is written though what left cannot be made again",
        "desk/dossier.py",
        'if attempt["message_digest"] == here:',
        "if True:",
        ("test_dossier.py::test_a_ledger_that_cannot_make_it_again_has_no_dossier",),
        "AssertionError",
    ),
    Mutant(
        "the table of a dossier is not held against what was recorded",
        "desk/proving/table.py",
        "            if not self._agrees(row[column], value, last):",
        "            if False:",
        ("test_dossier.py::test_a_forged_table",),
        "assert True is False",
    ),
    Mutant(
        "SERVFAIL is taken for a name that does not exist",
        "lookups.py",
        "        if isinstance(error, said.NXDOMAIN):\n",
        "        if isinstance(error, said.NXDOMAIN | said.NoNameservers):\n",
        ("test_lookups.py::test_what_is_no_answer_is_unknown",),
        "SERVFAIL",
    ),
    Mutant(
        "a name server that sends on to others is taken for one that knows of no record",
        "lookups.py",
        "if isinstance(error, said.NoAnswer) and not _refers(error):",
        "if isinstance(error, said.NoAnswer):",
        ("test_lookups.py::test_what_is_no_answer_is_unknown",),
        "sends on to others",
    ),
    Mutant(
        "SPF goes on behind ten look-ups",
        "core/spf.py",
        "            if self.lookups > LOOKUPS:\n",
        "            if self.lookups > LOOKUPS + 1:\n",
        ("test_spf.py::test_at_ten_look_ups_receivers_stop",),
        "AssertionError",
    ),
    Mutant(
        "a policy nobody could ask for counts as none",
        "core/posture.py",
        "    if policy is None and up.unknown:\n",
        "    if policy is None and not up:\n",
        ("test_posture.py::test_what_was_not_answered_is_unknown",),
        "AssertionError",
    ),
    Mutant(
        "`send` goes on whatever preflight found",
        "desk/preflight.py",
        "    if grave:\n",
        "    if not grave:\n",
        ("test_preflight.py::test_send_stops_on_a_problem_and_nothing_is_sealed",),
        "AssertionError",
    ),
    Mutant(
        "what preflight asked of the relay is not taken back",
        "relays/probe.py",
        '        await _say(client, timeouts.rset, b"RSET")\n',
        "",
        ("test_preflight.py::test_all_is_well_and_no_letter_is_sent",),
        "RSET",
    ),
    Mutant(
        "virtual time goes on though something is ready",
        "desk/virtual.py",
        "        if not events and timeout > 0:\n",
        "        if timeout > 0:\n",
        ("test_virtual.py::test_no_time_passes_while_somebody_works",),
        "TimeoutError",
    ),
)


def copy(folder: Path) -> Path:
    """The repository as far as tests need it, to be changed at will. What is compiled is not compiled again."""
    for name in _NEEDED:
        there = REPOSITORY / name
        if there.is_dir():
            shutil.copytree(there, folder / name, ignore=shutil.ignore_patterns("node_modules", "*.pyc.*"))
        else:
            shutil.copy(there, folder / name)
    return folder


def mutate(folder: Path, mutant: Mutant) -> None:
    """Make a copy wrong. Fails if the piece to replace is not there exactly once."""
    path = folder / "dispatcher" / mutant.file
    text = path.read_text(encoding="utf-8")
    for old, new in ((mutant.old, mutant.new), *([mutant.also] if mutant.also else [])):
        found = text.count(old)
        assert found == 1, f"{mutant.name}: {old!r} is {found} times in {mutant.file}: bring the mutant up to date"
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def run_tests(folder: Path, *tests: str) -> "subprocess.CompletedProcess[str]":
    """Run some tests of a copy, against the package in that copy."""
    there = f"dispatcher.__file__.startswith({str(folder)!r})"
    code = f"import dispatcher, pytest, sys; assert {there}; sys.exit(pytest.main())"
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}  # how we are run
    return subprocess.run(
        [sys.executable, "-c", code, "-x", "-p", "no:cacheprovider", *(f"tests/{test}" for test in tests)],
        cwd=folder,
        env={**env, "PYTHONPATH": str(folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def table() -> str:
    """The rows for docs/design.md."""
    rows = (
        (mutant.name, ", ".join(f"`{test.rpartition('::')[2]}`" for test in mutant.caught_by)) for mutant in MUTANTS
    )
    return "".join(f"| {name} | {tests} |\n" for name, tests in rows)
