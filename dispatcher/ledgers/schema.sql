-- The ledger: plans, letters, attempts, suppressions and events. The only truth about a campaign.
-- Rules that must hold even if the program is wrong stand here, as constraints and triggers.
-- Times are ISO 8601 in UTC with microseconds; JSON columns hold one document each.

CREATE TABLE ledger (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    uuid TEXT NOT NULL,
    created_at TEXT NOT NULL,
    unclean INTEGER NOT NULL DEFAULT 0   -- it was purged, and what was deleted is still somewhere in its files
) STRICT;

-- The arrows of the letter's state table; filled from core/policy.py when the ledger is made.
CREATE TABLE transition (
    old TEXT NOT NULL,
    new TEXT NOT NULL,
    PRIMARY KEY (old, new)
) STRICT, WITHOUT ROWID;

-- What all letters of a revision share: templates, forms, sender. `digest` is over all its letters; `dictionary` is
-- what their octets are deflated with; `origin` says what else the plan was made from, and what it came to. `letters` is
-- over everything that stands here of the campaign's letters when it is sealed, `skips` over its skips; both are written
-- last, in that commit.
CREATE TABLE plan (
    id INTEGER PRIMARY KEY CHECK (id < 65536),   -- it is in the names of the chain, two octets
    campaign TEXT NOT NULL,
    revision INTEGER NOT NULL,
    digest TEXT NOT NULL,
    sealed_at TEXT NOT NULL,
    frozen TEXT NOT NULL,
    dictionary BLOB NOT NULL,
    origin TEXT NOT NULL DEFAULT '',
    letters TEXT NOT NULL DEFAULT '',
    skips TEXT NOT NULL DEFAULT '',
    UNIQUE (campaign, revision)
) STRICT;

CREATE TRIGGER plan_stays BEFORE UPDATE OF id, campaign, revision, digest, sealed_at, frozen, dictionary, origin ON plan
BEGIN SELECT RAISE (ABORT, 'plans are append-only'); END;

CREATE TRIGGER plan_is_sealed_once BEFORE UPDATE OF letters, skips ON plan
WHEN OLD.letters <> ''
BEGIN SELECT RAISE (ABORT, 'plans are append-only'); END;

CREATE TRIGGER plan_remains BEFORE DELETE ON plan
BEGIN SELECT RAISE (ABORT, 'plans are never deleted'); END;

-- Who has looked at a sealed plan and says that it may leave; append-only. `at` is by the approver's clock and is signed,
-- `recorded_at` by ours; `person` is the name without what tells nobody apart; `signature` is over core/approval.py's
-- text. Whether an approval counts is judged each time: here it cannot be of a plan that is not sealed.
CREATE TABLE approval (
    id INTEGER PRIMARY KEY,
    campaign TEXT NOT NULL,
    revision INTEGER NOT NULL,
    digest TEXT NOT NULL,
    name TEXT NOT NULL,
    person TEXT NOT NULL,
    at TEXT NOT NULL,
    key TEXT NOT NULL DEFAULT '',
    signature TEXT NOT NULL DEFAULT '',
    recorded_at TEXT NOT NULL,
    recorded_by TEXT NOT NULL,
    UNIQUE (campaign, revision, person, key),
    CHECK ((key = '') = (signature = '')),
    FOREIGN KEY (campaign, revision) REFERENCES plan (campaign, revision)
) STRICT;

CREATE TRIGGER approval_of_what_is_sealed BEFORE INSERT ON approval
WHEN NOT EXISTS (
    SELECT 1 FROM plan WHERE campaign = NEW.campaign AND revision = NEW.revision AND digest = NEW.digest
)
BEGIN SELECT RAISE (ABORT, 'an approval is of a sealed plan'); END;

CREATE TRIGGER approval_stays BEFORE UPDATE ON approval
BEGIN SELECT RAISE (ABORT, 'approvals are append-only'); END;

CREATE TRIGGER approval_remains BEFORE DELETE ON approval
BEGIN SELECT RAISE (ABORT, 'approvals are never deleted'); END;

-- Attachments, once each, as they were sealed.
CREATE TABLE content (
    digest TEXT PRIMARY KEY,
    octets BLOB NOT NULL
) STRICT;

CREATE TRIGGER content_stays BEFORE UPDATE ON content
BEGIN SELECT RAISE (ABORT, 'sealed attachments are append-only'); END;

CREATE TRIGGER content_remains BEFORE DELETE ON content
BEGIN SELECT RAISE (ABORT, 'sealed attachments are never deleted'); END;

-- One campaign for one recipient: the unit of uniqueness. Here is what changes; the row is short, for it is written
-- at every step of a letter's way.
CREATE TABLE letter (
    id INTEGER PRIMARY KEY,
    campaign TEXT NOT NULL,
    key TEXT NOT NULL,
    revision INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('ready', 'leased', 'at_risk', 'accepted', 'failed', 'unknown',
        'closed_unknown', 'suppressed', 'cancelled', 'to_print', 'printed', 'posted')),
    date TEXT,                       -- the Date header, fixed at the first attempt
    due_at TEXT NOT NULL,            -- not before
    attempts INTEGER NOT NULL DEFAULT 0,   -- those that count for the retry schedule
    first_attempt_at TEXT,
    lease INTEGER REFERENCES run (id),     -- the run that holds it
    reason TEXT NOT NULL DEFAULT '', -- why it is where it is, for people
    UNIQUE (campaign, key),
    CHECK ((state IN ('leased', 'at_risk')) = (lease IS NOT NULL)),
    FOREIGN KEY (campaign, revision) REFERENCES plan (campaign, revision)
) STRICT;

-- Letters at rest, and letters in a run's hands: what is between the two touches neither. A statement that wants one of
-- them says so (`lease IS NULL`).
CREATE INDEX letter_at_rest ON letter (campaign, state, due_at, id) WHERE lease IS NULL;
CREATE INDEX letter_in_hand ON letter (lease) WHERE lease IS NOT NULL;
-- What is rare, so that it is counted without going through all that is not.
CREATE INDEX letter_deferred ON letter (campaign, due_at) WHERE state = 'ready' AND lease IS NULL AND attempts > 0;

CREATE TRIGGER letter_begins BEFORE INSERT ON letter
WHEN NEW.state NOT IN ('ready', 'to_print') OR NEW.attempts <> 0 OR NEW.date IS NOT NULL
BEGIN SELECT RAISE (ABORT, 'a letter begins ready, and untried'); END;

CREATE TRIGGER letter_moves BEFORE UPDATE OF state ON letter
WHEN OLD.state <> NEW.state AND NOT EXISTS (SELECT 1 FROM transition WHERE old = OLD.state AND new = NEW.state)
BEGIN SELECT RAISE (ABORT, 'no such transition of a letter'); END;

-- Nobody's word but the relay's, or a person's about an unknown outcome, makes a letter accepted.
CREATE TRIGGER letter_is_accepted BEFORE UPDATE OF state ON letter
WHEN NEW.state = 'accepted' AND OLD.state <> 'accepted' AND NOT EXISTS (
    SELECT 1 FROM attempt WHERE letter = OLD.id AND outcome IN ('accepted', 'unknown') AND override IS NULL
)
BEGIN SELECT RAISE (ABORT, 'a letter is accepted by an attempt'); END;

-- Each recipient in one channel: what may have left by mail is not printed.
CREATE TRIGGER letter_is_printed BEFORE UPDATE OF state ON letter
WHEN NEW.state = 'printed' AND EXISTS (
    SELECT 1 FROM attempt WHERE letter = OLD.id AND outcome IN ('at_risk', 'accepted', 'unknown') AND override IS NULL
)
BEGIN SELECT RAISE (ABORT, 'a letter that may have left by mail is not printed'); END;

CREATE TRIGGER letter_waits_in_its_channel BEFORE UPDATE OF state ON letter
WHEN NEW.state IN ('ready', 'to_print') AND OLD.state NOT IN ('leased', 'at_risk') AND NOT EXISTS (
    SELECT 1 FROM sealed WHERE letter = OLD.id AND own <> x'' AND channel = CASE NEW.state WHEN 'ready' THEN 'mail' ELSE 'paper' END
)
BEGIN SELECT RAISE (ABORT, 'a letter waits in the channel it is sealed for'); END;

CREATE TRIGGER letter_is_itself BEFORE UPDATE OF id, campaign, key ON letter
BEGIN SELECT RAISE (ABORT, 'a letter stays the same one'); END;

CREATE TRIGGER letter_stays BEFORE UPDATE OF revision ON letter
WHEN OLD.state NOT IN ('ready', 'failed', 'suppressed', 'cancelled', 'to_print')
BEGIN SELECT RAISE (ABORT, 'a letter that may have left is not rewritten'); END;

CREATE TRIGGER letter_keeps_its_date BEFORE UPDATE OF date ON letter
WHEN OLD.date IS NOT NULL AND NEW.date IS NOT OLD.date
    AND OLD.state NOT IN ('ready', 'failed', 'suppressed', 'cancelled', 'to_print')
BEGIN SELECT RAISE (ABORT, 'the date of a letter is fixed at its first attempt'); END;

CREATE TRIGGER letter_remains BEFORE DELETE ON letter
BEGIN SELECT RAISE (ABORT, 'letters are never deleted'); END;

-- What was sealed of a letter: all that is needed to send it and to show it. `mailboxes` are identities and `addresses`
-- forward paths, both space-separated and in the same order; `own` is its part of the message, deflated: the octets
-- but for Date and what is shared with others. Of a letter for paper it is what will be printed.
CREATE TABLE sealed (
    letter INTEGER PRIMARY KEY REFERENCES letter (id),
    channel TEXT NOT NULL CHECK (channel IN ('mail', 'paper')),
    language TEXT NOT NULL,
    message_id TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL,
    mailboxes TEXT NOT NULL,
    addresses TEXT NOT NULL,
    recipient TEXT NOT NULL,         -- key, to, cc, language, fields, place
    attachments TEXT NOT NULL,
    own BLOB NOT NULL
) STRICT;

CREATE TRIGGER sealed_for_its_channel BEFORE INSERT ON sealed
WHEN (NEW.channel = 'paper') <> (SELECT state = 'to_print' FROM letter WHERE id = NEW.letter)
BEGIN SELECT RAISE (ABORT, 'a letter for paper begins waiting to be printed, one for mail ready'); END;

CREATE TRIGGER sealed_stays BEFORE UPDATE ON sealed
WHEN OLD.letter <> NEW.letter OR NOT EXISTS (
    SELECT 1 FROM letter WHERE id = OLD.letter AND state IN ('ready', 'failed', 'suppressed', 'cancelled', 'to_print')
)
BEGIN SELECT RAISE (ABORT, 'a letter that may have left is not rewritten'); END;

CREATE TRIGGER sealed_remains BEFORE DELETE ON sealed
BEGIN SELECT RAISE (ABORT, 'what was sealed is never deleted'); END;

-- Rows that got no letter, with the reason, by revision.
CREATE TABLE skip (
    campaign TEXT NOT NULL,
    revision INTEGER NOT NULL,
    key TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    place TEXT NOT NULL,
    FOREIGN KEY (campaign, revision) REFERENCES plan (campaign, revision)
) STRICT;

CREATE INDEX skip_by_revision ON skip (campaign, revision);

CREATE TRIGGER skip_stays BEFORE UPDATE ON skip
BEGIN SELECT RAISE (ABORT, 'skips are append-only'); END;

CREATE TRIGGER skip_remains BEFORE DELETE ON skip
BEGIN SELECT RAISE (ABORT, 'skips are never deleted'); END;

-- One process at work.
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    campaign TEXT NOT NULL,
    account TEXT NOT NULL,
    smime TEXT NOT NULL DEFAULT '',  -- the certificate that its letters left signed with, in words; '' if with none
    started_at TEXT NOT NULL,
    ended_at TEXT,
    ending TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TRIGGER run_stays BEFORE UPDATE OF id, campaign, account, smime, started_at ON run
BEGIN SELECT RAISE (ABORT, 'runs are append-only'); END;

CREATE TRIGGER run_ends_once BEFORE UPDATE OF ended_at, ending ON run
WHEN OLD.ended_at IS NOT NULL
BEGIN SELECT RAISE (ABORT, 'a run ends once'); END;

CREATE TRIGGER run_remains BEFORE DELETE ON run
BEGIN SELECT RAISE (ABORT, 'runs are never deleted'); END;

-- One SMTP connection.
CREATE TABLE session (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES run (id),
    opened_at TEXT NOT NULL,
    host TEXT NOT NULL,
    port INTEGER NOT NULL,
    peer TEXT NOT NULL,
    tls_version TEXT NOT NULL,
    cipher TEXT NOT NULL,
    certificate TEXT NOT NULL,       -- whom the relay's certificate, checked against host, names
    size INTEGER NOT NULL,           -- octets of a message that the relay says it takes (SIZE), 0 if it says nothing
    mode TEXT NOT NULL               -- how commands travelled: lock-step, pipelining, chunking; and why not better
) STRICT;

CREATE TRIGGER session_stays BEFORE UPDATE ON session
BEGIN SELECT RAISE (ABORT, 'sessions are append-only'); END;

CREATE TRIGGER session_remains BEFORE DELETE ON session
BEGIN SELECT RAISE (ABORT, 'sessions are never deleted'); END;

-- One try for one letter; append-only. Only an attempt at risk gets its outcome later, once.
CREATE TABLE attempt (
    id INTEGER PRIMARY KEY,
    letter INTEGER NOT NULL REFERENCES letter (id),
    run INTEGER NOT NULL REFERENCES run (id),
    session INTEGER REFERENCES session (id),
    account TEXT NOT NULL,
    at TEXT NOT NULL,                -- when the intent was durable, or when it was refused before that
    ended_at TEXT,
    phase TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('at_risk', 'accepted', 'deferred', 'failed', 'unknown')),
    scope TEXT NOT NULL DEFAULT '',
    code INTEGER,
    enhanced TEXT NOT NULL DEFAULT '',
    reply TEXT NOT NULL DEFAULT '',  -- verbatim, or in words why there was none
    queue_id TEXT NOT NULL DEFAULT '',
    message_digest TEXT NOT NULL DEFAULT '',  -- over the octets that left, Date included, signatures not
    override TEXT                    -- set when a person, or on_unknown, said: send again
) STRICT;

CREATE INDEX attempt_by_letter ON attempt (letter);
CREATE INDEX attempt_by_account ON attempt (account, at);

-- A second risky attempt is impossible, even with a bug in the sender.
CREATE UNIQUE INDEX one_live ON attempt (letter)
WHERE outcome IN ('at_risk', 'accepted', 'unknown') AND override IS NULL;

CREATE TRIGGER attempt_stays BEFORE UPDATE OF id, letter, run, session, account, at, message_digest ON attempt
BEGIN SELECT RAISE (ABORT, 'attempts are append-only'); END;

CREATE TRIGGER attempt_ends_once
BEFORE UPDATE OF ended_at, phase, outcome, scope, code, enhanced, reply, queue_id ON attempt
WHEN OLD.outcome <> 'at_risk'
BEGIN SELECT RAISE (ABORT, 'an attempt ends once'); END;

CREATE TRIGGER attempt_is_overridden_once BEFORE UPDATE OF override ON attempt
WHEN OLD.outcome <> 'unknown' OR OLD.override IS NOT NULL
BEGIN SELECT RAISE (ABORT, 'only an unknown outcome can be overridden, and once'); END;

CREATE TRIGGER attempt_remains BEFORE DELETE ON attempt
BEGIN SELECT RAISE (ABORT, 'attempts are never deleted'); END;

-- What the relay said to each mailbox of an attempt.
CREATE TABLE rcpt (
    attempt INTEGER NOT NULL REFERENCES attempt (id),
    mailbox TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('accepted', 'deferred', 'failed', 'unknown')),
    code INTEGER NOT NULL,
    enhanced TEXT NOT NULL,
    reply TEXT NOT NULL,
    PRIMARY KEY (attempt, mailbox)
) STRICT, WITHOUT ROWID;

CREATE INDEX rcpt_refused ON rcpt (attempt) WHERE outcome <> 'accepted';

CREATE TRIGGER rcpt_stays BEFORE UPDATE ON rcpt
BEGIN SELECT RAISE (ABORT, 'replies are append-only'); END;

CREATE TRIGGER rcpt_remains BEFORE DELETE ON rcpt
BEGIN SELECT RAISE (ABORT, 'replies are never deleted'); END;

-- Files that were written to be printed, as they were then; append-only. `files` is a JSON list: name, what it holds,
-- size in octets, SHA-256.
CREATE TABLE printing (
    id INTEGER PRIMARY KEY,
    campaign TEXT NOT NULL,
    at TEXT NOT NULL,
    who TEXT NOT NULL,
    files TEXT NOT NULL
) STRICT;

CREATE TRIGGER printing_stays BEFORE UPDATE ON printing
BEGIN SELECT RAISE (ABORT, 'printings are append-only'); END;

CREATE TRIGGER printing_remains BEFORE DELETE ON printing
BEGIN SELECT RAISE (ABORT, 'printings are never deleted'); END;

-- Addresses that must not be written to.
CREATE TABLE suppression (
    identity TEXT PRIMARY KEY,
    address TEXT NOT NULL,
    reason TEXT NOT NULL,
    since TEXT NOT NULL,
    source TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What people and the program decided, with the reason; append-only.
CREATE TABLE event (
    id INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    kind TEXT NOT NULL,
    letter INTEGER REFERENCES letter (id),
    subject TEXT NOT NULL DEFAULT '',
    who TEXT NOT NULL DEFAULT '',
    why TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX event_by_letter ON event (letter);

CREATE TRIGGER event_stays BEFORE UPDATE ON event
BEGIN SELECT RAISE (ABORT, 'events are append-only'); END;

CREATE TRIGGER event_remains BEFORE DELETE ON event
BEGIN SELECT RAISE (ABORT, 'events are never deleted'); END;

-- Letters sent to ourselves to look at: real rows, rewritten envelope, never counted as letters.
CREATE TABLE test (
    id INTEGER PRIMARY KEY,
    campaign TEXT NOT NULL,
    key TEXT NOT NULL,
    address TEXT NOT NULL,
    account TEXT NOT NULL,
    at TEXT NOT NULL,
    outcome TEXT NOT NULL,
    reply TEXT NOT NULL,
    message_id TEXT NOT NULL
) STRICT;

CREATE TRIGGER test_stays BEFORE UPDATE OF id, campaign, key, address, account, at, message_id ON test
BEGIN SELECT RAISE (ABORT, 'tests are append-only'); END;

CREATE TRIGGER test_ends_once BEFORE UPDATE OF outcome, reply ON test
WHEN OLD.outcome <> 'at_risk'
BEGIN SELECT RAISE (ABORT, 'a test ends once'); END;

CREATE TRIGGER test_remains BEFORE DELETE ON test
BEGIN SELECT RAISE (ABORT, 'tests are never deleted'); END;

-- The hash chain (core/chain.py): a link for each commit that recorded something, over the digests of those rows as they
-- stand here. `names` says which (8 octets each), `salts` what the digests of their personal parts begin with (16 each).
CREATE TABLE link (
    number INTEGER PRIMARY KEY,
    names BLOB NOT NULL,
    digests BLOB NOT NULL,
    salts BLOB NOT NULL,
    link BLOB NOT NULL CHECK (length(link) = 32),
    CHECK (length(names) > 0 AND length(digests) = 4 * length(names) AND length(salts) = 2 * length(names))
) STRICT;

CREATE TRIGGER link_follows BEFORE INSERT ON link
WHEN NEW.number <> (SELECT coalesce(max(number), 0) + 1 FROM link)
BEGIN SELECT RAISE (ABORT, 'a link follows the last one'); END;

CREATE TRIGGER link_stays BEFORE UPDATE ON link
BEGIN SELECT RAISE (ABORT, 'the chain is append-only'); END;

CREATE TRIGGER link_remains BEFORE DELETE ON link
BEGIN SELECT RAISE (ABORT, 'links are never deleted'); END;

-- When the next letter may leave (generic cell rate algorithm: the theoretical arrival time), by account; and by account
-- and recipient domain, with a blank between the two, where a domain has a rate of its own.
CREATE TABLE pace (
    account TEXT PRIMARY KEY,
    next_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- That the personal data of a campaign were removed ('': of decisions about none that is there). `rows` says of how many rows that are in
-- the chain, `removed` is over their names and what stands for what was personal in them, `letters` over what is left of
-- the campaign's letters, and of what they shared and how they were printed.
CREATE TABLE purge (
    id INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    campaign TEXT NOT NULL,
    before TEXT NOT NULL,            -- all that happened in it had happened by then
    rows INTEGER NOT NULL,
    removed TEXT NOT NULL,
    letters TEXT NOT NULL,
    who TEXT NOT NULL
) STRICT;

CREATE TRIGGER purge_stays BEFORE UPDATE ON purge
BEGIN SELECT RAISE (ABORT, 'purges are append-only'); END;

CREATE TRIGGER purge_remains BEFORE DELETE ON purge
BEGIN SELECT RAISE (ABORT, 'purges are never deleted'); END;

-- What stands for what was personal in a row: its digest. `kind` as in a link.
CREATE TABLE purged (
    purge INTEGER NOT NULL REFERENCES purge (id),
    kind INTEGER NOT NULL,
    id INTEGER NOT NULL,
    personal BLOB NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER purged_stays BEFORE UPDATE ON purged
BEGIN SELECT RAISE (ABORT, 'what was purged is append-only'); END;

CREATE TRIGGER purged_remains BEFORE DELETE ON purged
BEGIN SELECT RAISE (ABORT, 'what was purged is never deleted'); END;

-- Nobody can say any more who has had a letter of it.
CREATE TRIGGER plan_of_what_is_purged BEFORE INSERT ON plan
WHEN EXISTS (SELECT 1 FROM purge WHERE campaign = NEW.campaign)
BEGIN SELECT RAISE (ABORT, 'a campaign that was purged is not sealed again'); END;
