-- name: attempt_filter
-- Attempts `a` of one campaign that are looked for; what is '' or 0 asks for nothing. They are gone through in the
-- order of their numbers, and what is beside them is read only if it is shown: no index is needed that would cost while
-- sending.
(NOT EXISTS (SELECT 1 FROM run WHERE campaign <> :campaign) OR a.run IN (SELECT id FROM run WHERE campaign = :campaign))
    AND (:outcome = '' OR a.outcome = :outcome)
    AND (:phase = '' OR a.phase = :phase)
    AND (:run = 0 OR a.run = :run)
    AND (:since = '' OR a.at >= :since)
    AND (:until = '' OR a.at < :until)
    AND (:lowest = 0 OR a.code BETWEEN :lowest AND :highest)
    AND (:enhanced = '' OR substr(a.enhanced || '.', 1, length(:enhanced)) = :enhanced)
    AND (:relay = '' OR a.session IN (SELECT id FROM session WHERE host || ':' || port = :relay))

-- name: of_letters
(:letters = '' OR a.letter IN (SELECT value FROM json_each(:letters)))

-- name: few_letters
json_each(:letters) f CROSS JOIN attempt a INDEXED BY attempt_by_letter ON a.letter = f.value

-- name: attempts_newest
SELECT a.id FROM attempt a WHERE a.id < :after AND {attempt_filter} AND {of_letters} ORDER BY a.id DESC LIMIT :limit;

-- name: attempts_oldest
SELECT a.id FROM attempt a WHERE a.id > :after AND {attempt_filter} AND {of_letters} ORDER BY a.id LIMIT :limit;

-- name: count_attempts
SELECT count(*) AS attempts FROM attempt a WHERE {attempt_filter} AND {of_letters};

-- name: attempts_newest_of_few
SELECT a.id FROM {few_letters} WHERE a.id < :after AND {attempt_filter} ORDER BY a.id DESC LIMIT :limit;

-- name: attempts_oldest_of_few
SELECT a.id FROM {few_letters} WHERE a.id > :after AND {attempt_filter} ORDER BY a.id LIMIT :limit;

-- name: count_attempts_of_few
SELECT count(*) AS attempts FROM {few_letters} WHERE {attempt_filter};

-- name: found_by_as_of
SELECT max(revision) AS revision, (SELECT count(*) FROM purge WHERE campaign = :campaign) AS purges
FROM plan WHERE campaign = :campaign;

-- name: found_by
-- What letters are looked for with: number, key, addresses; a JSON list for many, since a row each would take longer.
SELECT json_group_array(json_array(l.id, l.key, d.addresses)) AS letters
FROM letter l JOIN sealed d ON d.letter = l.id WHERE l.campaign = :campaign GROUP BY l.id / 1000 ORDER BY l.id / 1000;

-- name: recipients_name
CASE WHEN json_valid(d.recipient) THEN
    coalesce(nullif(d.recipient ->> '$.to[0].name', ''), d.recipient ->> '$.fields.name') END AS name

-- name: attempts_shown
SELECT a.id AS attempt, a.at, a.ended_at, l.key, d.addresses,
    {recipients_name},
    a.outcome, a.phase, a.code, a.enhanced, a.reply,
    CASE WHEN instr(d.mailboxes, ' ') THEN (
        SELECT group_concat(mailbox || ': ' || code || ' ' || reply, char(10)) FROM (
            SELECT mailbox, code, reply FROM rcpt WHERE attempt = a.id AND outcome <> 'accepted' ORDER BY mailbox)
    ) END AS refused,
    a.queue_id, a.account, a.run, r.smime, a.message_digest, a.override,
    s.host, s.port, s.peer, s.tls_version, s.cipher, s.certificate, s.mode
FROM attempt a CROSS JOIN letter l ON l.id = a.letter CROSS JOIN sealed d ON d.letter = a.letter
CROSS JOIN run r ON r.id = a.run LEFT JOIN session s ON s.id = a.session
WHERE a.id IN (SELECT value FROM json_each(:ids));

-- name: relays_used
SELECT DISTINCT s.host || ':' || s.port AS relay FROM session s JOIN run r ON r.id = s.run
WHERE r.campaign = :campaign ORDER BY relay;

-- name: count_to_settle
SELECT count(*) AS letters FROM letter WHERE campaign = :campaign AND state IN ('unknown', 'printed') AND lease IS NULL;

-- name: unknown_letters
-- Which they are first, so that nothing else is looked up for letters that are not shown.
SELECT l.id, l.key, l.reason, d.addresses, d.message_id, {recipients_name}, a.id AS attempt, a.at, a.ended_at,
    a.phase, a.code, a.enhanced, a.reply, a.queue_id, a.message_digest, a.account, a.run,
    s.host, s.port, s.peer, s.tls_version, s.cipher, r.ended_at AS run_ended_at, r.ending
FROM (SELECT id FROM letter INDEXED BY letter_at_rest
    WHERE campaign = :campaign AND state = 'unknown' AND lease IS NULL AND id > :after ORDER BY id LIMIT :limit) u
JOIN letter l ON l.id = u.id JOIN sealed d ON d.letter = l.id
LEFT JOIN attempt a ON a.id = (SELECT max(id) FROM attempt WHERE letter = l.id)
LEFT JOIN session s ON s.id = a.session LEFT JOIN run r ON r.id = a.run
ORDER BY l.id;

-- name: printed_letters
SELECT l.id, l.key, l.reason, d.addresses, d.mailboxes, {recipients_name}
FROM (SELECT id FROM letter INDEXED BY letter_at_rest
    WHERE campaign = :campaign AND state = 'printed' AND lease IS NULL AND id > :after ORDER BY id LIMIT :limit) u
JOIN letter l ON l.id = u.id JOIN sealed d ON d.letter = l.id ORDER BY l.id;

-- name: last_attempt_of
SELECT max(id) AS attempt FROM attempt WHERE letter = :letter;

-- name: skips_shown
SELECT rowid AS number, key, reason, detail, place FROM skip
WHERE campaign = :campaign AND revision = :revision AND (:reason = '' OR reason = :reason) AND rowid > :after
ORDER BY rowid LIMIT :limit;

-- name: suppressions_shown
SELECT identity, address, reason, since, source FROM suppression
WHERE identity > :after AND (:text = '' OR instr(searchable(address || char(10) || reason), :text))
ORDER BY identity LIMIT :limit;

-- name: count_suppressions
SELECT count(*) AS addresses FROM suppression;

-- name: decided_lately
SELECT e.id, e.at, e.kind, e.subject, e.who, e.why, l.key FROM event e LEFT JOIN letter l ON l.id = e.letter
WHERE e.kind IN ('resolved', 'suppressed', 'unsuppressed', 'posted', 'thrown away')
    AND (l.campaign = :campaign OR e.letter IS NULL) AND e.id <= :until
ORDER BY e.id DESC LIMIT :limit;
