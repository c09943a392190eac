-- name: schema
-- A plan that is not sealed yet, in a database of its own that goes when it is closed. Tables are named as in the ledger.
CREATE TABLE letter (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    channel TEXT NOT NULL,
    digest TEXT NOT NULL,
    mailboxes TEXT NOT NULL,
    file TEXT NOT NULL,
    line INTEGER
) STRICT;

-- In one case: many disks know no other file names.
CREATE TABLE folded (key TEXT PRIMARY KEY, letter INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE mailbox (
    identity TEXT NOT NULL,
    letter INTEGER NOT NULL,
    PRIMARY KEY (identity, letter)
) STRICT, WITHOUT ROWID;

CREATE TABLE sealed (
    letter INTEGER PRIMARY KEY,
    language TEXT NOT NULL,
    message_id TEXT NOT NULL,
    addresses TEXT NOT NULL,
    recipient TEXT NOT NULL,
    attachments TEXT NOT NULL,
    own BLOB NOT NULL
) STRICT;

CREATE TABLE skip (
    key TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    file TEXT NOT NULL,
    line INTEGER,
    col TEXT
) STRICT;

-- Rows that wait until all of their household have been read. `home` is the number of its first row.
CREATE TABLE home (name TEXT PRIMARY KEY, home INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE aside (
    n INTEGER PRIMARY KEY,
    home INTEGER NOT NULL,
    name TEXT NOT NULL,
    file TEXT NOT NULL,
    line INTEGER,
    cells TEXT NOT NULL
) STRICT;

-- Whom an expression chose; who is held back, and why; whom a send would go to, in order.
CREATE TABLE chosen (letter INTEGER PRIMARY KEY) STRICT;
CREATE TABLE held (letter INTEGER PRIMARY KEY, reason TEXT NOT NULL) STRICT;
CREATE TABLE picked (n INTEGER PRIMARY KEY, key TEXT NOT NULL) STRICT;

-- Mailboxes that a letter of the ledger has reached, or may have.
CREATE TABLE reached (identity TEXT PRIMARY KEY, key TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- name: index
CREATE UNIQUE INDEX IF NOT EXISTS letter_by_key ON letter (key, digest);

-- name: insert_letter
INSERT INTO letter (key, channel, digest, mailboxes, file, line) VALUES (?, ?, ?, ?, ?, ?);

-- name: insert_folded
INSERT INTO folded (key, letter) VALUES (?, ?);

-- name: insert_mailbox
INSERT OR IGNORE INTO mailbox (identity, letter) VALUES (?, ?);

-- name: insert_sealed
INSERT INTO sealed (letter, language, message_id, addresses, recipient, attachments, own) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: insert_skip
INSERT INTO skip (key, reason, detail, file, line, col) VALUES (?, ?, ?, ?, ?, ?);

-- name: home_of
SELECT home FROM home WHERE name = ?;

-- name: insert_home
INSERT INTO home (name, home) VALUES (?, ?);

-- name: set_aside
INSERT INTO aside (n, home, name, file, line, cells) VALUES (?, ?, ?, ?, ?, ?);

-- Without an index: sorting them once is quicker than keeping them sorted, and takes no more memory.
-- name: households
SELECT home, name, file, line, cells FROM aside ORDER BY home, n;

-- name: forget_homes
DELETE FROM home;

-- name: forget_aside
DELETE FROM aside;

-- name: choose
INSERT INTO chosen (letter) VALUES (?);

-- name: with_key
SELECT l.key, l.file, l.line FROM folded f JOIN letter l ON l.id = f.letter WHERE f.key = ?;

-- name: with_mailbox
SELECT l.key, l.file, l.line FROM mailbox m JOIN letter l ON l.id = m.letter WHERE m.identity = ? ORDER BY m.letter LIMIT 1;

-- name: digests
SELECT key, digest FROM letter ORDER BY key;

-- name: keys
SELECT key FROM letter ORDER BY id;

-- name: skips
SELECT key, reason, detail, file, line, col FROM skip WHERE ? IN ('', reason) ORDER BY rowid;

-- name: rows
SELECT l.key, l.channel, s.language, s.message_id, l.digest, l.mailboxes, s.addresses, s.recipient, s.attachments, s.own
FROM letter l JOIN sealed s ON s.letter = l.id ORDER BY l.id;

-- name: hold_mailboxes
-- An address that a relay refused is no reason to write nothing on paper either.
INSERT OR IGNORE INTO held (letter, reason)
SELECT m.letter, s.identity || ' is suppressed: ' || s.reason
FROM ledger.suppression s JOIN mailbox m ON m.identity = s.identity JOIN letter l ON l.id = m.letter
WHERE s.source <> :refused OR NOT (:on_paper OR l.channel = 'paper');

-- name: hold_domains
INSERT OR IGNORE INTO held (letter, reason)
SELECT m.letter, s.identity || ' is suppressed: ' || s.reason
FROM mailbox m JOIN ledger.suppression s ON s.identity = substr(m.identity, instr(m.identity, '@'))
WHERE EXISTS (SELECT 1 FROM ledger.suppression WHERE identity >= '@' AND identity < 'A');

-- name: held
SELECT l.key, l.file, l.line, h.reason FROM held h JOIN letter l ON l.id = h.letter ORDER BY l.id;

-- name: mailboxes
SELECT key, mailboxes FROM letter WHERE channel = 'mail' AND id NOT IN (SELECT letter FROM held) ORDER BY id;

-- name: count_in
SELECT count(*) FROM letter WHERE channel = ? AND id NOT IN (SELECT letter FROM held);

-- name: count_held
SELECT count(*) FROM held;

-- name: pick
INSERT INTO picked (key)
SELECT l.key FROM letter l
WHERE l.channel = :channel AND l.id NOT IN (SELECT letter FROM held)
    AND (NOT :chosen OR l.id IN (SELECT letter FROM chosen))
ORDER BY l.id LIMIT :limit;

-- name: pick_sealed
INSERT INTO picked (key)
SELECT l.key FROM ledger.letter there JOIN letter l ON l.key = there.key
WHERE there.campaign = :campaign AND there.state IN (SELECT value FROM json_each(:states))
    AND l.id NOT IN (SELECT letter FROM held) AND (NOT :chosen OR l.id IN (SELECT letter FROM chosen))
ORDER BY there.due_at, there.id LIMIT :limit;

-- name: pick_to_print
INSERT INTO picked (key)
SELECT l.key FROM ledger.letter there JOIN letter l ON l.key = there.key
WHERE there.campaign = :campaign AND there.state IN (SELECT value FROM json_each(:states))
    AND l.id NOT IN (SELECT letter FROM held) AND (NOT :chosen OR l.id IN (SELECT letter FROM chosen))
ORDER BY l.id;

-- name: chosen_states
SELECT there.state, there.attempts > 0, count(*) FROM letter l
LEFT JOIN ledger.letter there ON there.campaign = :campaign AND there.key = l.key
WHERE NOT :chosen OR l.id IN (SELECT letter FROM chosen) GROUP BY 1, 2;

-- name: forget_picked
DELETE FROM picked;

-- name: pick_key
INSERT INTO picked (key) VALUES (?);

-- name: picked
SELECT key FROM picked ORDER BY n;

-- name: picked_whole
SELECT l.key, l.digest, s.recipient, s.attachments, s.own
FROM picked p JOIN letter l ON l.key = p.key JOIN sealed s ON s.letter = l.id ORDER BY p.n;

-- name: count_picked
SELECT count(*) FROM picked;

-- name: forget_reached
DELETE FROM reached;

-- name: pairs
SELECT l.key, l.digest, l.mailboxes, there.id, s.digest, there.state, s.mailboxes
FROM letter l
LEFT JOIN ledger.letter there ON there.campaign = :campaign AND there.key = l.key
LEFT JOIN ledger.sealed s ON s.letter = there.id
ORDER BY l.id;

-- name: missing
SELECT there.key, there.state FROM ledger.letter there
WHERE there.campaign = :campaign AND NOT EXISTS (SELECT 1 FROM letter l WHERE l.key = there.key)
ORDER BY there.due_at, there.id;

-- name: note_reached
INSERT OR REPLACE INTO reached (identity, key)
SELECT each.value, there.key FROM ledger.letter there JOIN ledger.sealed s ON s.letter = there.id
JOIN json_each('["' || replace(s.mailboxes, ' ', '","') || '"]') each
WHERE there.campaign = :campaign AND there.state IN (SELECT value FROM json_each(:reached)) AND s.mailboxes <> ''
ORDER BY there.due_at, there.id;

-- name: met_again
SELECT r.identity, l.key, r.key
FROM reached r JOIN mailbox m ON m.identity = r.identity JOIN letter l ON l.id = m.letter
LEFT JOIN ledger.letter there ON there.campaign = :campaign AND there.key = l.key
WHERE r.key <> l.key AND (there.id IS NULL OR there.state IN (SELECT value FROM json_each(:rewritable)))
ORDER BY l.id;

-- name: printed_again
SELECT l.key, min(other.key)
FROM ledger.letter other JOIN ledger.sealed s ON s.letter = other.id JOIN letter l ON l.digest = s.digest AND l.key <> other.key
LEFT JOIN ledger.letter there ON there.campaign = :campaign AND there.key = l.key
WHERE other.campaign = :campaign AND other.state IN ('printed', 'posted') AND l.mailboxes = ''
    AND (there.id IS NULL OR there.state IN (SELECT value FROM json_each(:rewritable)))
GROUP BY l.id ORDER BY l.id;

-- name: changed_in_doubt
SELECT there.key FROM ledger.letter there JOIN ledger.sealed s ON s.letter = there.id
LEFT JOIN letter l ON l.key = there.key
WHERE there.campaign = :campaign AND there.state IN ('unknown', 'at_risk') AND l.digest IS NOT s.digest
ORDER BY there.id LIMIT 1;
