-- Tables of one connection, gone with it: what a statement over many letters works on.
PRAGMA temp_store = MEMORY;

-- The letters a person chose for this run.
CREATE TEMP TABLE chosen (id INTEGER PRIMARY KEY);

-- Steps of letters, many in one statement: each row that is put into one of these is carried out, and nothing is kept.
-- A row whose letter is not where its run thinks it is undoes the statement.

-- Leased → at risk (T3).
CREATE TEMP VIEW intent AS
SELECT 0 AS attempt, 0 AS letter, 0 AS run, 0 AS session, '' AS account, '' AS at, '' AS date, '' AS message_digest;

CREATE TEMP TRIGGER intent_is_made INSTEAD OF INSERT ON intent
BEGIN
    UPDATE letter SET state = 'at_risk', date = coalesce(date, NEW.date), first_attempt_at = coalesce(first_attempt_at, NEW.at)
    WHERE id = NEW.letter AND state = 'leased' AND lease = NEW.run;
    SELECT RAISE (ABORT, 'fenced') WHERE changes() <> 1;
    INSERT INTO attempt (id, letter, run, session, account, at, phase, outcome, message_digest)
    VALUES (NEW.attempt, NEW.letter, NEW.run, NEW.session, NEW.account, NEW.at, 'body', 'at_risk', NEW.message_digest);
END;

-- How an attempt at risk ended, and where its letter goes (T3r, T4, T5).
CREATE TEMP VIEW ending AS
SELECT 0 AS attempt, 0 AS letter, 0 AS run, '' AS at, '' AS outcome, '' AS phase, '' AS scope, 0 AS code, '' AS enhanced,
    '' AS reply, '' AS queue_id, '' AS state, '' AS reason, '' AS due_at, 0 AS counted;

CREATE TEMP TRIGGER ending_is_recorded INSTEAD OF INSERT ON ending
BEGIN
    UPDATE attempt SET outcome = NEW.outcome, ended_at = NEW.at, phase = NEW.phase, scope = NEW.scope, code = NEW.code,
        enhanced = NEW.enhanced, reply = NEW.reply, queue_id = NEW.queue_id
    WHERE id = NEW.attempt AND letter = NEW.letter AND run = NEW.run AND outcome = 'at_risk';
    SELECT RAISE (ABORT, 'fenced') WHERE changes() <> 1;
    UPDATE letter SET state = NEW.state, lease = CASE WHEN NEW.state = 'leased' THEN lease END, reason = NEW.reason,
        due_at = coalesce(NEW.due_at, due_at), attempts = attempts + NEW.counted,
        first_attempt_at = coalesce(first_attempt_at, CASE WHEN NEW.counted THEN NEW.at END)
    WHERE id = NEW.letter AND state IN ('leased', 'at_risk') AND lease = NEW.run;
    SELECT RAISE (ABORT, 'fenced') WHERE changes() <> 1;
END;
