-- name: count_unknown
SELECT count(*) AS letters FROM letter WHERE campaign = :campaign AND state = 'unknown' AND lease IS NULL;

-- name: attempt_filter
-- Attempts `a` of one campaign that are looked for. What is '' or 0 asks for nothing. An attempt is read once, in the order
-- of its number, and what is beside it only if it is shown: no index is needed, and none costs anything while sending.
(NOT EXISTS (SELECT 1 FROM run WHERE campaign <> :campaign) OR a.run IN (SELECT id FROM run WHERE campaign = :campaign))
    AND (:outcome = '' OR a.outcome = :outcome)
    AND (:phase = '' OR a.phase = :phase)
    AND (:run = 0 OR a.run = :run)
    AND (:since = '' OR a.at >= :since)
    AND (:until = '' OR a.at < :until)
    AND (:lowest = 0 OR a.code BETWEEN :lowest AND :highest)
    AND (:enhanced = '' OR substr(a.enhanced || '.', 1, length(:enhanced)) = :enhanced)
    AND (:relay = '' OR a.session IN (SELECT id FROM session WHERE host || ':' || port = :relay))
    AND (:letters = '' OR a.letter IN (SELECT value FROM json_each(:letters)))

-- name: letters_of
-- Letters with a text in key or addresses, whatever its case and accents.
SELECT l.id FROM letter l JOIN sealed d ON d.letter = l.id
WHERE l.campaign = :campaign AND instr(searchable(l.key || char(10) || d.addresses), :text);

-- name: attempt_columns
SELECT a.id AS attempt, a.at, a.ended_at, l.key, d.addresses,
    CASE WHEN json_valid(d.recipient) THEN coalesce(
        d.recipient ->> '$.to[0].name', d.recipient ->> '$.fields.name') END AS name,
    a.outcome, a.phase, a.code, a.enhanced, a.reply,
    CASE WHEN instr(d.mailboxes, ' ') THEN (
        SELECT group_concat(mailbox || ': ' || code || ' ' || reply, char(10)) FROM (
            SELECT mailbox, code, reply FROM rcpt WHERE attempt = a.id AND outcome <> 'accepted' ORDER BY mailbox)
    ) END AS refused,
    a.queue_id, a.account, a.run, a.message_digest, a.override,
    s.host, s.port, s.peer, s.tls_version, s.cipher, s.certificate, s.mode
FROM attempt a CROSS JOIN letter l ON l.id = a.letter CROSS JOIN sealed d ON d.letter = a.letter
LEFT JOIN session s ON s.id = a.session

-- name: attempts_newest
{attempt_columns} WHERE a.id < :after AND {attempt_filter} ORDER BY a.id DESC LIMIT :limit;

-- name: attempts_oldest
{attempt_columns} WHERE a.id > :after AND {attempt_filter} ORDER BY a.id LIMIT :limit;

-- name: count_attempts
SELECT count(*) AS attempts FROM attempt a WHERE {attempt_filter};

-- name: relays_used
SELECT DISTINCT s.host || ':' || s.port AS relay FROM session s JOIN run r ON r.id = s.run
WHERE r.campaign = :campaign ORDER BY relay;
