-- name: recover_unknown_attempts
UPDATE attempt SET outcome = 'unknown', ended_at = :now, reply = 'in flight when the sender stopped'
WHERE outcome = 'at_risk' AND letter IN (SELECT id FROM letter WHERE lease IS NOT NULL AND state = 'at_risk');

-- name: recover_unknown_letters
UPDATE letter SET state = 'unknown', lease = NULL, reason = 'in flight when the sender stopped'
WHERE lease IS NOT NULL AND state = 'at_risk';

-- name: recover_leased
UPDATE letter SET state = 'ready', lease = NULL WHERE lease IS NOT NULL AND state = 'leased';

-- name: mend_due
UPDATE letter SET due_at = CASE WHEN attempts = 0 THEN :now ELSE :latest END
WHERE campaign = :campaign AND state = 'ready' AND lease IS NULL AND due_at > :now AND (attempts = 0 OR due_at > :latest);

-- name: override_unknown_attempts
UPDATE attempt SET override = :why
WHERE outcome = 'unknown' AND override IS NULL
  AND letter IN (SELECT id FROM letter WHERE campaign = :campaign AND state = 'unknown' AND lease IS NULL);

-- name: resend_unknown
UPDATE letter SET state = 'ready', due_at = :now, reason = :why WHERE campaign = :campaign AND state = 'unknown' AND lease IS NULL;

-- name: note_assumed_sent
INSERT INTO event (at, kind, letter, why) SELECT :now, 'assumed sent', id, :why FROM letter
WHERE campaign = :campaign AND state = 'unknown' AND lease IS NULL ORDER BY id;

-- name: assume_unknown_sent
UPDATE letter SET state = 'closed_unknown', reason = :why WHERE campaign = :campaign AND state = 'unknown' AND lease IS NULL;

-- name: insert_run
INSERT INTO run (campaign, account, smime, started_at) VALUES (:campaign, :account, :smime, :now);

-- name: end_run
UPDATE run SET ended_at = :now, ending = :ending WHERE id = :run;

-- name: insert_session
INSERT INTO session (run, opened_at, host, port, peer, tls_version, cipher, certificate, size, mode)
VALUES (:run, :now, :host, :port, :peer, :tls_version, :cipher, :certificate, :size, :mode);

-- name: last_session
SELECT opened_at, size FROM session WHERE host = :host AND port = :port ORDER BY id DESC LIMIT 1;

-- name: latest_moment
SELECT max(at) AS at FROM (
    SELECT * FROM (SELECT at FROM attempt ORDER BY id DESC LIMIT 1)
    UNION ALL SELECT * FROM (SELECT at FROM event ORDER BY id DESC LIMIT 1)
    UNION ALL SELECT * FROM (SELECT opened_at AS at FROM session ORDER BY id DESC LIMIT 1));

-- name: last_secure_session
SELECT opened_at, tls_version, certificate FROM session
WHERE host = :host AND port = :port AND tls_version <> '' ORDER BY id DESC LIMIT 1;

-- name: handed_over_since
SELECT count(*) AS used, min(at) AS oldest FROM (
    SELECT at FROM attempt WHERE account = :account AND at > :since AND at < :until
        AND outcome IN ('at_risk', 'accepted', 'unknown')
    UNION ALL SELECT at FROM test WHERE account = :account AND at > :since AND at < :until
        AND outcome IN ('at_risk', 'accepted', 'unknown')
);

-- name: handed_over_at
SELECT at FROM (
    SELECT at FROM attempt WHERE account = :account AND at > :since AND at < :until
        AND outcome IN ('at_risk', 'accepted', 'unknown')
    UNION ALL SELECT at FROM test WHERE account = :account AND at > :since AND at < :until
        AND outcome IN ('at_risk', 'accepted', 'unknown')
) ORDER BY at DESC LIMIT :limit;

-- name: slots_of
SELECT account, next_at FROM pace WHERE account = :account OR (account > :after AND account < :before);

-- name: held
SELECT count(*) FROM letter WHERE lease = :run AND state = 'leased';

-- name: next_slot
SELECT next_at FROM pace WHERE account = :account;

-- name: keep_slot
INSERT INTO pace (account, next_at) VALUES (:account, :next_at)
ON CONFLICT (account) DO UPDATE SET next_at = excluded.next_at;

-- name: domain_slots
SELECT account, next_at FROM pace WHERE account > :after AND account < :before;

-- name: forget_slots
DELETE FROM pace WHERE account > :after AND account < :before AND next_at <= :now;

-- name: due
SELECT l.id, l.key, l.revision, s.message_id, s.digest, s.mailboxes, s.addresses, s.attachments, s.own, l.date, l.attempts,
    l.first_attempt_at
FROM letter l JOIN sealed s ON s.letter = l.id WHERE l.campaign = :campaign AND l.state = 'ready' AND l.lease IS NULL AND l.due_at <= :now
ORDER BY l.due_at, l.id LIMIT :limit;

-- name: due_chosen
SELECT l.id, l.key, l.revision, s.message_id, s.digest, s.mailboxes, s.addresses, s.attachments, s.own, l.date, l.attempts,
    l.first_attempt_at
FROM letter l JOIN sealed s ON s.letter = l.id WHERE l.campaign = :campaign AND l.state = 'ready' AND l.lease IS NULL AND l.due_at <= :now
    AND EXISTS (SELECT 1 FROM chosen WHERE chosen.id = l.id)
ORDER BY l.due_at, l.id LIMIT :limit;

-- name: ready
SELECT l.id, l.key, l.revision, s.message_id, s.digest, s.mailboxes, s.addresses, s.attachments, s.own, l.date, l.attempts,
    l.first_attempt_at
FROM letter l JOIN sealed s ON s.letter = l.id
WHERE l.id IN (SELECT value FROM json_each(:ids)) AND l.state = 'ready' AND l.lease IS NULL;

-- name: still_ready
SELECT 1 FROM letter WHERE id = :id AND state = 'ready' AND lease IS NULL;

-- name: due_since
SELECT l.id, s.mailboxes FROM letter l JOIN sealed s ON s.letter = l.id
WHERE l.campaign = :campaign AND l.state = 'ready' AND l.lease IS NULL AND l.due_at > :since AND l.due_at <= :now
ORDER BY l.due_at, l.id;

-- name: due_since_chosen
SELECT l.id, s.mailboxes FROM letter l JOIN sealed s ON s.letter = l.id
WHERE l.campaign = :campaign AND l.state = 'ready' AND l.lease IS NULL AND l.due_at > :since AND l.due_at <= :now
    AND EXISTS (SELECT 1 FROM chosen WHERE chosen.id = l.id)
ORDER BY l.due_at, l.id;

-- name: next_due
SELECT due_at FROM letter WHERE campaign = :campaign AND state = 'ready' AND lease IS NULL ORDER BY due_at LIMIT 1;

-- name: next_due_chosen
SELECT due_at FROM letter WHERE campaign = :campaign AND state = 'ready' AND lease IS NULL
    AND EXISTS (SELECT 1 FROM chosen WHERE chosen.id = letter.id)
ORDER BY due_at LIMIT 1;

-- name: lease
UPDATE letter SET state = 'leased', lease = :run
WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 'ready' AND lease IS NULL;

-- name: suppressed_among
SELECT identity, reason FROM suppression WHERE identity IN (SELECT value FROM json_each(:identities));

-- name: suppress_leased
UPDATE letter SET state = 'suppressed', lease = NULL, reason = :reason
WHERE id = :id AND state = 'leased' AND lease = :run;

-- name: last_attempt
SELECT coalesce(max(id), 0) AS id FROM attempt;

-- name: insert_attempt
INSERT INTO attempt (id, letter, run, session, account, at, ended_at, phase, outcome, scope, code, enhanced, reply, queue_id, message_digest)
VALUES (:id, :letter, :run, :session, :account, :now, :ended_at, :phase, :outcome, :scope, :code, :enhanced, :reply, :queue_id, :message_digest);

-- name: end_attempt
UPDATE attempt SET outcome = :outcome, ended_at = :ended_at, phase = :phase, scope = :scope, code = :code,
    enhanced = :enhanced, reply = :reply, queue_id = :queue_id
WHERE id = :attempt AND letter = :letter AND run = :run AND outcome = 'at_risk';

-- name: insert_rcpt
INSERT INTO rcpt (attempt, mailbox, outcome, code, enhanced, reply)
VALUES (:attempt, :mailbox, :outcome, :code, :enhanced, :reply);

-- name: end_letter
UPDATE letter SET state = :state, lease = CASE WHEN :state = 'leased' THEN lease END, reason = :reason,
    due_at = coalesce(:due_at, due_at), attempts = attempts + :counted,
    first_attempt_at = coalesce(first_attempt_at, CASE WHEN :counted THEN :now END)
WHERE id = :letter AND state IN ('leased', 'at_risk') AND lease = :run;

-- name: judge
UPDATE letter SET state = :state, lease = NULL, reason = CASE WHEN :reason = '' THEN reason ELSE :reason END
WHERE id = :id AND state = 'leased' AND lease = :run;

-- name: insert_suppression
-- A person's word takes the place of a relay's refusal, which holds back mail alone.
INSERT INTO suppression (identity, address, reason, since, source) VALUES (:identity, :address, :reason, :now, :source)
ON CONFLICT (identity) DO UPDATE SET address = :address, reason = :reason, since = :now, source = :source
WHERE suppression.source = 'refused by the relay' AND :source <> 'refused by the relay';

-- name: delete_suppression
DELETE FROM suppression WHERE identity = :identity;

-- name: suppressed_by_people_among
SELECT identity, reason FROM suppression WHERE source <> :refused AND identity IN (SELECT value FROM json_each(:identities));

-- name: suppress_ready
UPDATE letter SET state = 'suppressed', reason = :reason WHERE id = :id AND state IN ('ready', 'to_print');

-- name: letters_in
SELECT l.id, s.channel, s.mailboxes FROM letter l JOIN sealed s ON s.letter = l.id
WHERE l.campaign IN (SELECT campaign FROM plan) AND l.state = :state AND l.lease IS NULL AND length(s.own) > 0;

-- name: reopen_suppressed
UPDATE letter SET state = :state, due_at = :now, reason = '' WHERE id = :id AND state = 'suppressed';

-- name: insert_event
INSERT INTO event (at, kind, letter, subject, who, why) VALUES (:now, :kind, :letter, :subject, :who, :why);

-- name: insert_plan
INSERT INTO plan (campaign, revision, digest, sealed_at, frozen, dictionary, origin)
VALUES (:campaign, :revision, :digest, :now, :frozen, :dictionary, :origin);

-- name: sealed_whole
-- Everything that was sealed of a campaign's letters, in the order of their keys.
SELECT CAST(json_array(l.id, l.key, l.revision, s.channel, s.language, s.message_id, s.digest, s.mailboxes, s.addresses,
    s.recipient, s.attachments) AS BLOB), s.own
FROM letter l JOIN sealed s ON s.letter = l.id WHERE l.campaign = :campaign ORDER BY l.key;

-- name: skipped_whole
SELECT CAST(json_array(key, reason, detail, place) AS BLOB) FROM skip WHERE campaign = :campaign AND revision = :revision ORDER BY rowid;

-- name: finish_plan
UPDATE plan SET letters = :letters, skips = :skips WHERE campaign = :campaign AND revision = :revision;

-- name: chain_head
SELECT number, link FROM link ORDER BY number DESC LIMIT 1;

-- name: insert_link
INSERT INTO link (number, names, digests, salts, link) VALUES (?, ?, ?, ?, ?);

-- name: insert_content
INSERT INTO content (digest, octets) VALUES (:digest, :octets) ON CONFLICT (digest) DO NOTHING;

-- name: insert_letter
INSERT INTO letter (campaign, key, revision, state, due_at) VALUES (:campaign, :key, :revision, :begins, :now);

-- name: insert_sealed
INSERT INTO sealed (letter, channel, language, message_id, digest, mailboxes, addresses, recipient, attachments, own)
VALUES (:id, :channel, :language, :message_id, :digest, :mailboxes, :addresses, :recipient, :attachments, :own);

-- name: rewrite_letter
UPDATE letter SET revision = :revision, state = :begins, reason = '', due_at = :now, date = NULL, attempts = 0,
    first_attempt_at = NULL
WHERE id = :id AND state IN ('ready', 'failed', 'suppressed', 'cancelled', 'to_print');

-- name: rewrite_sealed
UPDATE sealed SET channel = :channel, language = :language, message_id = :message_id, digest = :digest, mailboxes = :mailboxes,
    addresses = :addresses, recipient = :recipient, attachments = :attachments, own = :own
WHERE letter = :id;

-- name: note_absent
INSERT INTO event (at, kind, letter, who, why) SELECT :now, 'cancelled', id, :who, 'removed from the list' FROM letter
WHERE campaign = :campaign AND lease IS NULL AND state IN ('ready', 'failed', 'suppressed', 'to_print')
    AND id NOT IN (SELECT letter FROM planned) ORDER BY id;

-- name: cancel_absent
UPDATE letter SET state = 'cancelled', reason = 'removed from the list'
WHERE campaign = :campaign AND lease IS NULL AND state IN ('ready', 'failed', 'suppressed', 'to_print')
    AND id NOT IN (SELECT letter FROM planned);

-- name: insert_skip
INSERT INTO skip (campaign, revision, key, reason, detail, place)
VALUES (:campaign, :revision, :key, :reason, :detail, :place);

-- name: latest_plan
SELECT revision, digest, sealed_at, frozen, origin FROM plan WHERE campaign = :campaign ORDER BY revision DESC LIMIT 1;

-- name: dictionary
SELECT dictionary FROM plan WHERE campaign = :campaign AND revision = :revision;

-- name: frozen
SELECT frozen FROM plan WHERE campaign = :campaign AND revision = :revision;

-- name: octets
SELECT octets FROM content WHERE digest = :digest;

-- name: standing
SELECT l.id, s.digest, l.state FROM letter l JOIN sealed s ON s.letter = l.id
WHERE l.campaign = :campaign AND l.key = :key;

-- name: any_in_doubt
SELECT 1 FROM letter WHERE campaign = :campaign AND state = 'unknown' AND lease IS NULL
UNION ALL SELECT 1 FROM letter WHERE lease IS NOT NULL AND +campaign = :campaign AND state = 'at_risk' LIMIT 1;

-- name: letters_in_doubt
SELECT l.key, l.state, s.mailboxes FROM letter l JOIN sealed s ON s.letter = l.id
WHERE l.lease IS NOT NULL AND +l.campaign = :campaign
UNION ALL SELECT l.key, l.state, s.mailboxes FROM letter l JOIN sealed s ON s.letter = l.id
WHERE l.campaign = :campaign AND l.state = 'unknown' AND l.lease IS NULL;

-- name: letters_at_rest
SELECT l.key, l.state, s.mailboxes FROM letter l JOIN sealed s ON s.letter = l.id
WHERE l.campaign = :campaign AND l.state = 'ready' AND l.lease IS NULL;

-- name: choice_in_doubt
SELECT l.key, l.state, s.recipient FROM letter l JOIN sealed s ON s.letter = l.id
WHERE l.lease IS NOT NULL AND +l.campaign = :campaign
UNION ALL SELECT l.key, l.state, s.recipient FROM letter l JOIN sealed s ON s.letter = l.id
WHERE l.campaign = :campaign AND l.state = 'unknown' AND l.lease IS NULL;

-- name: choice_at_rest
SELECT l.key, l.state, s.recipient FROM letter l JOIN sealed s ON s.letter = l.id
WHERE l.campaign = :campaign AND l.state = 'ready' AND l.lease IS NULL ORDER BY l.due_at, l.id;

-- name: keys
SELECT key FROM letter WHERE campaign = :campaign ORDER BY due_at, id;

-- name: any_letter
SELECT 1 FROM letter WHERE campaign = :campaign LIMIT 1;

-- name: any_suppression
SELECT 1 FROM suppression LIMIT 1;

-- name: temp_planned
CREATE TEMP TABLE IF NOT EXISTS planned (letter INTEGER PRIMARY KEY);

-- name: forget_planned
DELETE FROM planned;

-- name: note_planned
INSERT INTO planned (letter) VALUES (:id);

-- name: temp_reached
CREATE TEMP TABLE IF NOT EXISTS reached (identity TEXT PRIMARY KEY, key TEXT NOT NULL) WITHOUT ROWID;

-- name: forget_reached
DELETE FROM reached;

-- name: note_reached
INSERT OR REPLACE INTO reached (identity, key)
SELECT each.value, l.key FROM letter l JOIN sealed s ON s.letter = l.id
JOIN json_each('["' || replace(s.mailboxes, ' ', '","') || '"]') each
WHERE l.campaign = :campaign AND l.state IN (SELECT value FROM json_each(:reached)) AND s.mailboxes <> ''
ORDER BY l.due_at, l.id;

-- name: reached_by_another
SELECT key FROM reached WHERE identity = :identity AND key <> :key;

-- name: on_paper_by_another
SELECT l.key FROM letter l JOIN sealed s ON s.letter = l.id
WHERE l.campaign = :campaign AND l.state IN ('printed', 'posted') AND l.lease IS NULL AND s.digest = :digest AND l.key <> :key;

-- name: counts
SELECT state, count(*) AS letters FROM letter WHERE campaign = :campaign AND lease IS NULL GROUP BY state
UNION ALL SELECT 'leased', count(*) FROM letter WHERE lease IS NOT NULL AND +campaign = :campaign AND state = 'leased'
UNION ALL SELECT 'at_risk', count(*) FROM letter WHERE lease IS NOT NULL AND +campaign = :campaign AND state = 'at_risk';

-- name: waiting
SELECT count(*) AS letters, min(due_at) AS next_due_at FROM letter INDEXED BY letter_deferred
WHERE campaign = :campaign AND state = 'ready' AND lease IS NULL AND attempts > 0;

-- name: mailboxes_waiting
SELECT l.key, s.mailboxes FROM letter l JOIN sealed s ON s.letter = l.id
WHERE l.campaign = :campaign AND l.state IN ('ready', 'leased');

-- name: refused_mailboxes
SELECT count(DISTINCT l.id) AS letters
FROM rcpt r CROSS JOIN attempt a ON a.id = r.attempt CROSS JOIN letter l ON l.id = a.letter
WHERE r.outcome <> 'accepted' AND a.outcome = 'accepted' AND l.campaign = :campaign AND l.state = 'accepted';

-- name: letter_by_key
SELECT l.id, l.key, l.revision, l.state, s.channel, s.language, s.message_id, s.digest, s.recipient, s.attachments, l.date, l.due_at,
    l.attempts, l.reason
FROM letter l JOIN sealed s ON s.letter = l.id WHERE l.campaign = :campaign AND l.key = :key;

-- name: letter_attempts
SELECT a.id, a.at, a.ended_at, a.phase, a.outcome, a.scope, a.code, a.enhanced, a.reply, a.queue_id, a.message_digest,
    a.override, a.run, r.smime, s.host, s.port, s.peer, s.tls_version, s.cipher, s.certificate, s.mode
FROM attempt a JOIN run r ON r.id = a.run LEFT JOIN session s ON s.id = a.session WHERE a.letter = :letter ORDER BY a.id;

-- name: attempt_rcpts
SELECT mailbox, outcome, code, enhanced, reply FROM rcpt WHERE attempt = :attempt ORDER BY mailbox;

-- name: letter_events
SELECT at, kind, subject, who, why FROM event WHERE letter = :letter ORDER BY id;

-- name: log
SELECT l.key, l.state, d.channel, d.language, d.recipient, d.message_id, d.digest, l.revision, l.attempts, l.due_at, l.reason,
    coalesce(e.at, a.at) AS at, a.ended_at, a.phase, a.outcome, a.code, a.enhanced, a.reply, a.queue_id, a.message_digest,
    s.host, s.port, s.tls_version
FROM letter l JOIN sealed d ON d.letter = l.id
LEFT JOIN attempt a ON a.id = (SELECT max(id) FROM attempt WHERE letter = l.id)
LEFT JOIN session s ON s.id = a.session
LEFT JOIN event e ON e.id = CASE WHEN l.state IN ('printed', 'posted') THEN (
    SELECT max(id) FROM event WHERE letter = l.id AND kind IN ('printed', 'reprinted', 'posted')) END
WHERE l.campaign = :campaign
  AND (:state = '' OR l.state = :state OR (:state = 'waiting' AND l.state IN ('ready', 'leased', 'at_risk'))
       OR (:state = 'deferred' AND l.state = 'ready' AND l.attempts > 0))
  AND (:key = '' OR l.key = :key OR instr(d.recipient, :key) > 0)
  AND (:since = '' OR coalesce(e.at, a.at) >= :since)
ORDER BY l.id;

-- name: skips
SELECT key, reason, detail, place FROM skip WHERE campaign = :campaign AND revision = :revision ORDER BY rowid;

-- name: count_skips
SELECT count(*) AS rows FROM skip WHERE campaign = :campaign AND revision = :revision;

-- name: suppressions
SELECT identity, address, reason, since, source FROM suppression ORDER BY identity;

-- name: resolve
UPDATE letter SET state = :new, reason = :reason, due_at = CASE WHEN :new = 'ready' THEN :now ELSE due_at END,
    attempts = CASE WHEN :new = 'ready' THEN 0 ELSE attempts END,
    first_attempt_at = CASE WHEN :new = 'ready' THEN NULL ELSE first_attempt_at END
WHERE id = :id AND state = :old AND state IN ('unknown', 'failed');

-- name: override_attempts
UPDATE attempt SET override = :why WHERE letter = :id AND outcome = 'unknown' AND override IS NULL;

-- name: tests
SELECT key, address, account, at, outcome, reply, message_id FROM test WHERE campaign = :campaign ORDER BY id;

-- name: decisions
SELECT at, kind, subject, who, why FROM event WHERE letter IS NULL ORDER BY id;

-- name: accepted_elsewhere
SELECT campaign, count(*) AS letters FROM letter WHERE state = 'accepted' AND lease IS NULL AND campaign <> :campaign GROUP BY campaign;

-- name: insert_test
INSERT INTO test (campaign, key, address, account, at, outcome, reply, message_id)
VALUES (:campaign, :key, :address, :account, :now, 'at_risk', '', :message_id);

-- name: end_test
UPDATE test SET outcome = :outcome, reply = :reply WHERE id = :id;

-- name: runs
SELECT id, account, started_at, ended_at, ending FROM run WHERE campaign = :campaign ORDER BY id;

-- name: campaigns_waiting
SELECT DISTINCT campaign FROM letter WHERE campaign IN (SELECT campaign FROM plan) AND state = 'ready';

-- name: lease_waiting
UPDATE letter SET state = 'leased', lease = :run WHERE campaign = :campaign AND state = 'ready';

-- name: put_waiting_at_risk
UPDATE letter SET state = 'at_risk' WHERE campaign = :campaign AND state = 'leased' AND lease = :run;

-- name: attempt_waiting
INSERT INTO attempt (letter, run, account, at, ended_at, phase, outcome, reply)
SELECT id, :run, :account, :now, :now, 'final', 'unknown', :reason FROM letter
WHERE campaign = :campaign AND state = 'at_risk' AND lease = :run;

-- name: hold_waiting
UPDATE letter SET state = 'unknown', lease = NULL, reason = :reason
WHERE campaign = :campaign AND state = 'at_risk' AND lease = :run;

-- name: to_be_printed
SELECT l.id, l.key, l.revision, l.state, s.channel, s.language, s.message_id, s.digest, s.recipient, s.attachments, s.own
FROM letter l JOIN sealed s ON s.letter = l.id WHERE l.campaign = :campaign AND l.key = :key;

-- name: print
UPDATE letter SET state = 'printed', reason = :reason WHERE id = :id AND state = :old AND lease IS NULL
    AND EXISTS (SELECT 1 FROM sealed WHERE letter = :id AND digest = :digest);

-- name: still_printed
SELECT s.mailboxes FROM letter l JOIN sealed s ON s.letter = l.id
WHERE l.id = :id AND l.state = 'printed' AND s.digest = :digest;

-- name: insert_printing
INSERT INTO printing (id, campaign, at, who, files) VALUES (:printing, :campaign, :now, :who, :files);

-- name: next_printing
SELECT coalesce(max(id), 0) + 1 AS number FROM printing;

-- name: printings
SELECT id, at, who, files FROM printing WHERE campaign = :campaign ORDER BY id;

-- name: on_paper
SELECT l.id, l.key, l.state, l.reason, s.recipient FROM letter l JOIN sealed s ON s.letter = l.id
WHERE l.campaign = :campaign AND l.lease IS NULL AND l.state IN ('to_print', 'printed', 'posted') ORDER BY l.id;

-- name: written_to
SELECT s.mailboxes FROM letter l JOIN sealed s ON s.letter = l.id WHERE l.campaign = :campaign;

-- name: printed_to
SELECT l.key, s.mailboxes FROM letter l JOIN sealed s ON s.letter = l.id
WHERE l.campaign = :campaign AND l.lease IS NULL AND l.state = 'printed' ORDER BY l.id;

-- name: post
UPDATE letter SET state = 'posted', reason = :reason WHERE id = :id AND state = 'printed';

-- name: mailboxes_of
SELECT mailboxes FROM sealed WHERE letter = :id;

-- name: throw_away
UPDATE letter SET reason = :reason,
    state = (SELECT CASE channel WHEN 'paper' THEN 'to_print' ELSE 'failed' END FROM sealed WHERE letter = :id)
WHERE id = :id AND state = 'printed';

-- name: note_held_to_print
INSERT INTO event (at, kind, letter, who, why) SELECT :now, 'adopted', id, :who, :reason FROM letter
WHERE campaign IN (SELECT campaign FROM plan) AND state = 'to_print' AND lease IS NULL ORDER BY id;

-- name: hold_to_print
UPDATE letter SET state = 'printed', reason = :reason
WHERE campaign IN (SELECT campaign FROM plan) AND state = 'to_print' AND lease IS NULL;

-- name: attempt_at_risk
SELECT a.id FROM attempt a JOIN letter l ON l.id = a.letter JOIN run r ON r.id = a.run
WHERE a.id = :attempt AND a.letter = :letter AND a.run = :run AND r.started_at = :began
    AND a.outcome = 'at_risk' AND l.state = 'at_risk' AND l.lease = :run;

-- name: insert_approval
INSERT INTO approval (campaign, revision, digest, name, person, at, key, signature, recorded_at, recorded_by)
VALUES (:campaign, :revision, :digest, :name, :person, :at, :key, :signature, :now, :who);

-- name: approvals
SELECT digest, name, at, key, signature, recorded_at, recorded_by FROM approval
WHERE campaign = :campaign AND revision = :revision ORDER BY id;

-- name: sealed_letters
SELECT s.language, s.channel, count(*) AS letters FROM letter l JOIN sealed s ON s.letter = l.id
WHERE l.campaign = :campaign AND l.state <> 'cancelled' GROUP BY s.language, s.channel ORDER BY letters DESC, s.language;

-- name: sealed_attachments
SELECT s.attachments, count(*) AS letters FROM letter l JOIN sealed s ON s.letter = l.id
WHERE l.campaign = :campaign AND l.state <> 'cancelled' AND s.attachments <> '[]'
GROUP BY s.attachments ORDER BY letters DESC, s.attachments LIMIT :most;

-- name: skips_by_reason
SELECT reason, count(*) AS rows FROM skip WHERE campaign = :campaign AND revision = :revision
GROUP BY reason ORDER BY reason;

-- name: sealed_by
SELECT who FROM event WHERE letter IS NULL AND kind IN ('sealed', 'amended') AND subject = 'revision ' || :revision
    AND why = :digest ORDER BY id DESC LIMIT 1;

-- name: ledger
SELECT uuid, created_at FROM ledger;

-- name: links
SELECT number, names, digests, salts, link FROM link ORDER BY number;

-- name: last_link
SELECT number, link FROM link ORDER BY number DESC LIMIT 1;

-- name: plans_sealed
SELECT revision, digest, sealed_at, frozen, dictionary FROM plan WHERE campaign = :campaign ORDER BY revision;

-- name: dossier_rows
SELECT l.id, l.key, l.state, l.revision, l.date, l.reason, d.channel, d.language, d.recipient, d.message_id, d.digest,
    (SELECT count(*) FROM attempt WHERE letter = l.id AND outcome <> 'at_risk') AS attempts,
    a.at, a.ended_at, a.phase, a.outcome, a.code, a.enhanced, a.reply, a.queue_id, a.message_digest, s.host, s.port,
    s.tls_version, (
        SELECT max(at) FROM event WHERE letter = l.id AND kind IN ('printed', 'reprinted', 'posted')
    ) AS on_paper_at
FROM letter l JOIN sealed d ON d.letter = l.id
LEFT JOIN attempt a ON a.id = (SELECT max(id) FROM attempt WHERE letter = l.id AND outcome <> 'at_risk')
LEFT JOIN session s ON s.id = a.session
WHERE l.campaign = :campaign ORDER BY l.id;

-- name: dossier_letters
SELECT l.id, l.key, l.revision, d.channel, d.language, d.message_id, d.digest, d.mailboxes, d.addresses, d.recipient,
    d.attachments, l.date, d.own
FROM letter l JOIN sealed d ON d.letter = l.id WHERE l.campaign = :campaign ORDER BY l.key;

-- name: digests_of_attempts
SELECT id, at, message_digest FROM attempt WHERE letter = :letter AND message_digest <> '' ORDER BY id;

-- name: dossier_span
SELECT count(*) AS attempts, min(a.at) AS first, max(coalesce(a.ended_at, a.at)) AS last
FROM attempt a JOIN letter l ON l.id = a.letter WHERE l.campaign = :campaign AND a.outcome <> 'at_risk';

-- name: dossier_relays
SELECT s.host, s.port, s.tls_version, s.certificate FROM session s JOIN run r ON r.id = s.run
WHERE r.campaign = :campaign
GROUP BY s.host, s.port, s.tls_version, s.certificate ORDER BY min(s.id);

-- name: dossier_certificates
SELECT smime FROM run r WHERE campaign = :campaign AND smime <> '' AND EXISTS (SELECT 1 FROM attempt WHERE run = r.id)
GROUP BY smime ORDER BY min(id);

-- name: first_in_each_language
SELECT l.key, l.revision, d.channel, d.own FROM letter l JOIN sealed d ON d.letter = l.id
WHERE l.id IN (
    SELECT min(l.id) FROM letter l JOIN sealed d ON d.letter = l.id
    WHERE l.campaign = :campaign AND d.channel = 'mail' GROUP BY d.language
) ORDER BY l.id;

-- name: timeline
SELECT run, outcome, phase, code, CASE outcome WHEN 'accepted' THEN '' ELSE reply END AS said, count(*) AS letters,
    min(at) AS first, max(coalesce(ended_at, at)) AS last
FROM attempt GROUP BY run, outcome, phase, code, said ORDER BY run, first, outcome, said;

-- name: handed_over
SELECT l.key, l.campaign, l.revision, l.state, l.date, s.language, s.message_id, s.digest, s.recipient, s.attachments, s.own,
    (SELECT count(*) FROM attempt a WHERE a.letter = l.id AND a.outcome IN ('accepted', 'unknown')) AS copies
FROM letter l JOIN sealed s ON s.letter = l.id WHERE l.campaign = :campaign AND s.channel = 'mail' ORDER BY l.id;
