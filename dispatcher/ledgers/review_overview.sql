-- name: version
PRAGMA data_version;

-- name: temporary_in_memory
PRAGMA temp_store = MEMORY;

-- name: count_letters
SELECT count(*) AS letters FROM letter WHERE campaign = :campaign;

-- name: first_letters
-- One letter of each language: what stands in its subject stands, but for its fields, in all.
SELECT s.language, s.own, l.revision FROM sealed s JOIN letter l ON l.id = s.letter
WHERE l.id IN (SELECT min(l.id) FROM letter l JOIN sealed s ON s.letter = l.id
    WHERE l.campaign = :campaign AND l.state <> 'cancelled' AND s.channel = 'mail' GROUP BY s.language)
ORDER BY s.language;

-- name: forget_seen
DROP TABLE IF EXISTS temp.seen;

-- name: forget_place
DROP TABLE IF EXISTS temp.place;

-- name: forget_placed
DROP TABLE IF EXISTS temp.placed;

-- name: temp_seen
CREATE TEMP TABLE seen AS
SELECT s.letter, s.language, coalesce(json_extract(s.recipient, '$.fields.group'), '') AS grouping,
    coalesce(json_extract(s.recipient, '$.fields.m49'), json_extract(s.recipient, '$.fields.iso3'), '') AS country
FROM sealed s;

-- name: forget_many_groups
-- A column with that many values groups nothing.
UPDATE seen SET grouping = '' WHERE (SELECT count(DISTINCT grouping) FROM seen) > :most;

-- name: forget_many_countries
UPDATE seen SET country = '' WHERE (SELECT count(DISTINCT country) FROM seen) > :most;

-- name: temp_place
-- What letters are counted by: few rows, which many letters share.
CREATE TEMP TABLE place (id INTEGER PRIMARY KEY, language TEXT, grouping TEXT, country TEXT);

-- name: temp_placed
CREATE TEMP TABLE placed (letter INTEGER PRIMARY KEY, place INTEGER NOT NULL);

-- name: find_places
INSERT INTO place (language, grouping, country) SELECT DISTINCT language, grouping, country FROM seen;

-- name: place_letters
INSERT INTO placed (letter, place) SELECT s.letter, p.id FROM seen s JOIN place p USING (language, grouping, country);

-- name: count_by_place
SELECT p.language, p.grouping, p.country, c.state, c.tried, sum(c.letters) AS letters
FROM (SELECT d.place, l.state, l.state = 'ready' AND l.lease IS NULL AND l.attempts > 0 AS tried, count(*) AS letters
    FROM placed d JOIN letter l ON l.id = d.letter WHERE l.campaign = :campaign GROUP BY 1, 2, 3) c
JOIN place p ON p.id = c.place GROUP BY 1, 2, 3, 4, 5;

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
