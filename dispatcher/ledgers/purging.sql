-- name: stale
-- Campaigns that are sealed and not purged, with the last moment at which something happened in them.
SELECT p.campaign, max(p.at) AS last_at FROM (
    SELECT campaign, sealed_at AS at FROM plan
    UNION ALL SELECT campaign, coalesce(ended_at, started_at) FROM run
    UNION ALL SELECT campaign, recorded_at FROM approval
    UNION ALL SELECT campaign, at FROM printing
    UNION ALL SELECT campaign, at FROM test
    UNION ALL SELECT l.campaign, coalesce(a.ended_at, a.at) FROM attempt a JOIN letter l ON l.id = a.letter
    UNION ALL SELECT l.campaign, e.at FROM event e JOIN letter l ON l.id = e.letter
) p
WHERE p.campaign IN (SELECT campaign FROM plan) AND p.campaign NOT IN (SELECT campaign FROM purge)
GROUP BY p.campaign HAVING max(p.at) < :before ORDER BY p.campaign;

-- name: states_of
SELECT state, count(*) AS letters FROM letter WHERE campaign = :campaign GROUP BY state;

-- name: first_seal_of_others
SELECT min(sealed_at) AS at FROM plan
WHERE campaign NOT IN (SELECT value FROM json_each(:campaigns)) AND campaign NOT IN (SELECT campaign FROM purge);

-- name: temp_purging
CREATE TEMP TABLE IF NOT EXISTS purging (name INTEGER PRIMARY KEY, personal BLOB);

-- name: forget_purging
DELETE FROM purging;

-- name: choose_rows
-- The rows of a campaign in which something is personal.
INSERT OR IGNORE INTO purging (name)
SELECT (1 << 56) + a.id FROM attempt a JOIN letter l ON l.id = a.letter WHERE l.campaign = :campaign
UNION ALL SELECT (2 << 56) + a.id FROM attempt a JOIN letter l ON l.id = a.letter
    WHERE l.campaign = :campaign AND a.override IS NOT NULL
UNION ALL SELECT (3 << 56) + e.id FROM event e JOIN letter l ON l.id = e.letter WHERE l.campaign = :campaign
UNION ALL SELECT (4 << 56) + id FROM approval WHERE campaign = :campaign
UNION ALL SELECT (5 << 56) + id FROM printing WHERE campaign = :campaign
UNION ALL SELECT (6 << 56) + id FROM plan WHERE campaign = :campaign
UNION ALL SELECT (8 << 56) + id FROM run WHERE campaign = :campaign
UNION ALL SELECT (10 << 56) + id FROM test WHERE campaign = :campaign;

-- name: choose_decisions
-- Decisions about no letter from before :alone, and those about letters that were purged before they were made.
INSERT OR IGNORE INTO purging (name)
SELECT (3 << 56) + e.id FROM event e LEFT JOIN letter l ON l.id = e.letter
WHERE e.at < CASE WHEN e.letter IS NULL THEN :alone ELSE :before END AND e.id NOT IN (SELECT id FROM purged WHERE kind = 3)
    AND (e.letter IS NULL OR l.campaign IN (SELECT campaign FROM purge));

-- name: count_decisions
SELECT count(*) AS decisions FROM event e LEFT JOIN letter l ON l.id = e.letter
WHERE e.at < CASE WHEN e.letter IS NULL THEN :alone ELSE :before END AND e.id NOT IN (SELECT id FROM purged WHERE kind = 3)
    AND (e.letter IS NULL OR l.campaign IN (SELECT campaign FROM purge));

-- name: blank_attempts
UPDATE attempt SET account = '', reply = '', queue_id = '', override = CASE WHEN override IS NULL THEN NULL ELSE '' END
WHERE id IN (SELECT name & 0xffffffffffffff FROM purging WHERE name >> 56 = 1);

-- name: blank_rcpts_aside
CREATE TEMP TABLE replies AS
SELECT attempt, printf('%06d', row_number() OVER (PARTITION BY attempt ORDER BY mailbox)) AS mailbox, outcome, code, enhanced
FROM rcpt WHERE attempt IN (SELECT name & 0xffffffffffffff FROM purging WHERE name >> 56 = 1);

-- name: blank_rcpts_away
DELETE FROM rcpt WHERE attempt IN (SELECT name & 0xffffffffffffff FROM purging WHERE name >> 56 = 1);

-- name: blank_rcpts_back
INSERT INTO rcpt (attempt, mailbox, outcome, code, enhanced, reply) SELECT attempt, mailbox, outcome, code, enhanced, '' FROM replies;

-- name: blank_rcpts_end
DROP TABLE replies;

-- name: blank_events
UPDATE event SET subject = '', who = '', why = ''
WHERE id IN (SELECT name & 0xffffffffffffff FROM purging WHERE name >> 56 = 3);

-- name: blank_reasons
UPDATE letter SET reason = '' WHERE reason <> '' AND id IN (
    SELECT letter FROM event WHERE id IN (SELECT name & 0xffffffffffffff FROM purging WHERE name >> 56 = 3));

-- name: blank_approvals
UPDATE approval SET name = 'purged', person = 'purged ' || id, key = '', signature = '', recorded_by = '' WHERE campaign = :campaign;

-- name: blank_printings
UPDATE printing SET who = '', files = (
    SELECT json_group_array(json_object('name', '', 'holds', json_extract(value, '$.holds'), 'size',
        json_extract(value, '$.size'), 'digest', json_extract(value, '$.digest')))
    FROM json_each(printing.files))
WHERE campaign = :campaign;

-- name: blank_plan
UPDATE plan SET frozen = :frozen, dictionary = x'', origin = '' WHERE id = :id;

-- name: blank_runs
UPDATE run SET account = '', smime = '' WHERE campaign = :campaign;

-- name: blank_tests
UPDATE test SET key = '', address = '', account = '', reply = '', message_id = '' WHERE campaign = :campaign;

-- name: blank_sealed
UPDATE sealed SET message_id = '<purged-' || letter || '>', mailboxes = '', addresses = '', attachments = '[]', own = x'',
    recipient = json_object('cc', json_array(), 'channel', channel, 'fields', json('{}'), 'key', '', 'language', '',
        'place', json('{"column":"","file":"","line":null,"recipient":""}'), 'to', json_array())
WHERE letter IN (SELECT id FROM letter WHERE campaign = :campaign);

-- name: blank_letters
UPDATE letter SET key = 'purged-' || id, reason = '', state = CASE WHEN state IN ('ready', 'to_print') THEN 'cancelled' ELSE state END
WHERE campaign = :campaign;

-- name: blank_skips
UPDATE skip SET key = '', detail = '', place = '' WHERE campaign = :campaign;

-- name: attachments_left
SELECT DISTINCT s.attachments FROM letter l JOIN sealed s ON s.letter = l.id
WHERE l.campaign NOT IN (SELECT value FROM json_each(:campaigns));

-- name: frozen_left
SELECT frozen FROM plan WHERE campaign NOT IN (SELECT value FROM json_each(:campaigns));

-- name: delete_contents
DELETE FROM content WHERE digest NOT IN (SELECT value FROM json_each(:needed));

-- name: delete_refusals
DELETE FROM suppression WHERE since < :before AND source = :refused;

-- name: blank_suppressions
UPDATE suppression SET reason = 'asked not to be written to', source = :kept
WHERE since < :before AND source <> :refused;

-- name: delete_paces
DELETE FROM pace WHERE next_at < :before;

-- name: plans_of
SELECT id, revision, frozen FROM plan WHERE campaign = :campaign ORDER BY revision;

-- name: left_beside
-- What is left of a purged campaign beside what was sealed of its letters, and is in no digest of the chain any more.
SELECT text FROM (
    SELECT 1 AS part, id, CAST(json_array('plan', id, frozen) AS BLOB) AS text FROM plan WHERE campaign = :campaign
    UNION ALL SELECT 2, id, CAST(json_array('printing', id, files) AS BLOB) FROM printing WHERE campaign = :campaign
    UNION ALL SELECT 3, id, CAST(json_array('letter', id, date) AS BLOB) FROM letter WHERE campaign = :campaign
    UNION ALL SELECT 4, rowid, CAST(json_array('skip', revision, key, reason, detail, place) AS BLOB) FROM skip
        WHERE campaign = :campaign
) ORDER BY part, id;

-- name: insert_purge
INSERT INTO purge (at, campaign, before, rows, removed, letters, who) VALUES (:now, :campaign, :before, :rows, :removed, :letters, :who);

-- name: insert_purged
INSERT INTO purged (purge, kind, id, personal)
SELECT :purge, name >> 56, name & 0xffffffffffffff, personal FROM purging;

-- name: purges
SELECT campaign, at, before, rows FROM purge ORDER BY id;

-- name: purge_of
SELECT at FROM purge WHERE campaign = :campaign;

-- name: unclean
SELECT unclean FROM ledger;

-- name: set_unclean
UPDATE ledger SET unclean = :unclean;
