-- name: catalogue
-- `unlike` is how many octets a letter takes deflated against what all letters of a revision have in common.
SELECT l.id, l.key, l.revision, s.channel, s.language, s.recipient, length(s.own) AS unlike
FROM letter l JOIN sealed s ON s.letter = l.id WHERE l.campaign = :campaign ORDER BY l.id;

-- name: ids_by_state
-- In one text a state: a row each would take ten times as long.
SELECT state, group_concat(id, ' ') AS ids FROM letter WHERE campaign = :campaign AND lease IS NULL GROUP BY state
UNION ALL SELECT state, group_concat(id, ' ') FROM letter
WHERE lease IS NOT NULL AND +campaign = :campaign GROUP BY state
UNION ALL SELECT 'deferred', group_concat(id, ' ') FROM letter INDEXED BY letter_deferred
WHERE campaign = :campaign AND state = 'ready' AND lease IS NULL AND attempts > 0;

-- name: standing_of
SELECT id, state, attempts FROM letter WHERE id IN (SELECT value FROM json_each(:ids));

-- name: sealed_letter
SELECT l.id, l.campaign, l.key, l.revision, l.state, l.attempts, l.reason, l.date, s.channel, s.language, s.message_id,
    s.digest, s.recipient, s.attachments, s.own
FROM letter l JOIN sealed s ON s.letter = l.id WHERE l.id = :id AND l.campaign = :campaign;

-- name: id_of
SELECT id FROM letter WHERE campaign = :campaign AND key = :key;
