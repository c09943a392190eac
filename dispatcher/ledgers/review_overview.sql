-- name: version
PRAGMA data_version;

-- name: count_letters
SELECT count(*) AS letters FROM letter WHERE campaign = :campaign;

-- name: first_letters
-- What stands in the subject of one letter stands, but for its fields, in those of all in its language.
SELECT s.language, s.own, l.revision FROM sealed s JOIN letter l ON l.id = s.letter
WHERE s.letter IN (SELECT value FROM json_each(:letters)) AND s.channel = 'mail' ORDER BY s.language;

-- name: ids_by_place
-- In one text a place: a row each would take ten times as long. Each document is read once for all its fields.
SELECT language, tags, group_concat(letter, ' ') AS ids FROM (
    SELECT letter, language, json_extract(recipient, '$.fields.group', '$.fields.m49', '$.fields.iso3') AS tags FROM sealed
    WHERE letter IN (SELECT id FROM letter WHERE campaign = :campaign)
) GROUP BY language, tags;

-- name: ended_attempts
SELECT substr(coalesce(a.ended_at, a.at), 1, 19) AS second, coalesce(s.host || ':' || s.port, '') AS relay, a.outcome,
    count(*) AS attempts
FROM attempt a LEFT JOIN session s ON s.id = a.session
WHERE a.id > :after AND a.id < :before AND a.outcome <> 'at_risk'
    AND a.run IN (SELECT id FROM run WHERE campaign = :campaign)
GROUP BY 1, 2, 3;

-- name: first_at_risk
SELECT coalesce(min(a.id), 9223372036854775807) AS id
FROM attempt a JOIN letter l ON l.id = a.letter WHERE l.lease IS NOT NULL AND l.state = 'at_risk' AND a.outcome = 'at_risk';
