"""Profiles of mail services: complete, each value with its source; and a campaign needs to name one alone."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dispatcher.core.campaign import Campaign, Rate
from dispatcher.core.errors import CampaignError, Problem
from dispatcher.core.model import HandOver, Outcome, Phase, Reply
from dispatcher.core.policy import Scope, classify, classify_trouble
from dispatcher.core.profile import Profile
from dispatcher.relays.profiles import profiles
from dispatcher.sources.campaign import read_campaign
from tests.campaigns import write_campaign

WANTED = [
    "gmail", "google-workspace", "microsoft365", "outlook", "amazon-ses", "sendgrid", "mailgun", "postmark", "brevo",
    "fastmail", "infomaniak", "proton-bridge", "postfix",
]  # fmt: skip
LOGIN = 'user = "office@orchard.example.org"\npassword = { env = "DISPATCHER_PASSWORD" }\n'


def read(folder: Path, relay: str, pace: str = "") -> Campaign:
    return read_campaign(write_campaign(folder, relay=relay, pace=pace), profiles())


def problem(folder: Path, relay: str, pace: str = "") -> Problem:
    with pytest.raises(CampaignError) as caught:
        read(folder, relay, pace)
    return caught.value.problems[0]


def test_the_services_people_ask_for_are_there() -> None:
    assert set(WANTED) <= set(profiles())


@pytest.mark.parametrize("name", list(profiles()))
def test_an_entry_is_complete_and_makes_a_campaign(tmp_path: Path, name: str) -> None:
    """Host, port, security; every value with a public document; nothing beyond what campaign.toml itself may say."""
    profile = profiles()[name]
    host = "" if profile.host else 'host = "relay.example.org"\n'
    campaign = read(tmp_path, f'profile = "{name}"\n{host}{LOGIN}')
    assert campaign.relay.host == (profile.host or "relay.example.org")
    assert (campaign.relay.port, campaign.relay.security) == (profile.port, profile.security)
    assert campaign.relay.auth == ("xoauth2" if profile.auth == ("XOAUTH2",) else "password")
    assert (campaign.pace.rate, campaign.pace.quota) == (profile.rate, profile.quota)
    assert campaign.pace.connections == min(4, profile.connections or 4)
    for source in profile.sources:
        assert source.title.strip() == source.title
    for value in ("host", "port", "security"):
        assert profile.source_of(value) or getattr(profile, value) is None
    assert profile.note, "what a person has to know beside the numbers"


@pytest.mark.parametrize("name", list(profiles()))
def test_no_rule_hides_another(name: str) -> None:
    """The first rule that matches counts, so a narrower one after a wider one would never be asked."""
    rules = profiles()[name].rules
    for number, rule in enumerate(rules):
        reply = Reply(rule.code, f"{rule.enhanced} {rule.words}".strip())
        matching = [n for n, each in enumerate(rules) if each.matches(rule.phase or Phase.FINAL, reply)]
        assert matching[0] == number


def test_each_value_can_be_overridden(tmp_path: Path) -> None:
    relay = f'profile = "microsoft365"\nhost = "127.0.0.1"\nport = 2525\nsecurity = "tls"\nauth = "xoauth2"\n{LOGIN}'
    campaign = read(tmp_path, relay, 'connections = 7\nrate = "5/s"\nquota = 12\n')
    assert (campaign.relay.host, campaign.relay.port, campaign.relay.security) == ("127.0.0.1", 2525, "tls")
    assert campaign.relay.auth == "xoauth2"
    assert (campaign.pace.connections, campaign.pace.rate, campaign.pace.quota) == (7, Rate(count=5, seconds=1), 12)


def test_without_a_profile_nothing_is_filled_in(tmp_path: Path) -> None:
    campaign = read(tmp_path, 'host = "mail.example.org"\n')
    assert (campaign.relay.profile, campaign.pace.rate, campaign.pace.quota) == (None, None, None)


def test_an_unknown_profile_names_the_nearest(tmp_path: Path) -> None:
    found = problem(tmp_path, 'profile = "mircosoft-365"\n')
    assert found.what == "there is no profile 'mircosoft-365'"
    assert found.where.column == "key relay.profile"
    assert found.where.line
    assert found.todo.startswith("did you mean 'microsoft365'? Known here: gmail, ")


def test_a_profile_without_a_host_says_what_to_write(tmp_path: Path) -> None:
    found = problem(tmp_path, f'profile = "amazon-ses"\n{LOGIN}')
    assert "'host' is missing" in found.what
    assert "email-smtp.eu-west-1" in found.todo


@pytest.mark.parametrize(
    ("relay", "pace"),
    [('profile = ["gmail"]\n', ""), ("profile = 5\n", ""), ('profile = "gmail"\nport = "x"\n', ""),
     ('profile = "gmail"\n', 'rate = "x"'), ('profile = "gmail"\nuser = "x"\n', "")],
)  # fmt: skip
def test_slips_beside_a_profile_are_named_like_all_others(tmp_path: Path, relay: str, pace: str) -> None:
    found = problem(tmp_path, relay, pace)
    assert found.where.file == "campaign.toml"
    assert found.todo


MEANT = [
    ("gmail", Phase.FINAL, 550, "5.4.5 Daily user sending limit exceeded. https://support.google.com/a/answer/166852",
     Outcome.DEFERRED, Scope.QUOTA),
    ("google-workspace-relay", Phase.MAIL, 550, "5.7.1 Daily SMTP relay limit exceeded for customer",
     Outcome.DEFERRED, Scope.QUOTA),
    ("google-workspace-relay", Phase.RCPT, 450, "4.2.1 Peak SMTP relay limit exceeded for customer",
     Outcome.DEFERRED, Scope.RATE),
    ("google-workspace", Phase.RCPT, 450, "4.2.1 The user you are trying to contact is receiving mail too quickly",
     Outcome.DEFERRED, Scope.RECIPIENT),
    ("microsoft365", Phase.MAIL, 432, "4.3.2 Concurrent connections limit exceeded.", Outcome.DEFERRED, Scope.RATE),
    ("microsoft365", Phase.FINAL, 554, "5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; failed",
     Outcome.DEFERRED, Scope.QUOTA),
    ("microsoft365", Phase.FINAL, 554, "5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException; failed",
     Outcome.FAILED, Scope.POLICY),
    ("microsoft365", Phase.FINAL, 554, "5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException",
     Outcome.FAILED, Scope.SENDER),
    ("amazon-ses", Phase.FINAL, 454, "Throttling failure: Daily message quota exceeded.",
     Outcome.DEFERRED, Scope.QUOTA),
    ("amazon-ses", Phase.FINAL, 454, "Throttling failure: Maximum sending rate exceeded.",
     Outcome.DEFERRED, Scope.RATE),
    ("mailgun", Phase.DATA, 421, "Domain mg.example.org is not allowed to send: recipient limit exceeded",
     Outcome.DEFERRED, Scope.QUOTA),
]  # fmt: skip


@pytest.mark.parametrize(("name", "phase", "code", "text", "outcome", "scope"), MEANT)
def test_what_the_services_say(
    name: str, phase: Phase, code: int, text: str, outcome: Outcome, scope: Scope
) -> None:  # fmt: skip
    facts = HandOver(phase, Reply(code, text), terminator=phase is Phase.FINAL)
    verdict = classify(facts, profiles()[name].rules)
    assert (verdict.outcome, verdict.scope) == (outcome, scope)


@pytest.mark.parametrize(
    ("name", "code", "text", "scope"),
    [
        ("gmail", 454, "4.7.0 Too many login attempts, please try again later.", Scope.RATE),
        ("sendgrid", 451, "Authentication failed: Maximum credits exceeded", Scope.QUOTA),
    ],
)
def test_what_the_services_say_to_a_login(name: str, code: int, text: str, scope: Scope) -> None:
    verdict = classify_trouble(Phase.AUTH, Reply(code, text), "", profiles()[name].rules)
    assert (verdict.outcome, verdict.scope) == (Outcome.DEFERRED, scope)


GOOD: dict[str, Any] = {
    "title": "T",
    "host": "relay.example.org",
    "port": 587,
    "security": "starttls",
    "sources": [{"title": "D", "url": "https://docs.example.org/smtp", "says": ["host", "port", "security"]}],
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"quota": 5}, "no source says: quota"),
        ({"replies": [{"code": 550, "meaning": "quota"}]}, "no source says: replies"),
        ({"host": None}, "not there: host"),
        ({"host_hint": "x"}, "give host, or host_hint"),
        ({"sources": []}, "sources"),
        ({"security": "none"}, "security"),
        ({"rate": "x"}, "30/min"),
        ({"unknown": 1}, "unknown"),
        ({"replies": [{"code": 250, "meaning": "quota"}]}, "code"),
        ({"replies": [{"code": 550, "meaning": "luck"}]}, "meaning"),
        ({"replies": [{"code": 550, "enhanced": "5.4", "meaning": "quota"}]}, "enhanced"),
    ],
)
def test_a_bad_entry_is_refused(change: dict[str, Any], words: str) -> None:
    Profile.model_validate(GOOD)
    with pytest.raises(ValidationError, match=words):
        Profile.model_validate({**GOOD, **change})
