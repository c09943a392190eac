-- name: count_unknown
SELECT count(*) AS letters FROM letter WHERE campaign = :campaign AND state = 'unknown' AND lease IS NULL;
