-- Tables of one connection, gone with it: what a statement over many letters works on.
PRAGMA temp_store = MEMORY;

-- The letters a person chose for this run.
CREATE TEMP TABLE chosen (id INTEGER PRIMARY KEY);

-- Intents that are written together.
CREATE TEMP TABLE intent (
    letter INTEGER NOT NULL,
    session INTEGER NOT NULL,
    date TEXT NOT NULL,
    message_digest TEXT NOT NULL
) STRICT;

-- How attempts ended, written together.
CREATE TEMP TABLE ending (
    attempt INTEGER NOT NULL,
    letter INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    phase TEXT NOT NULL,
    scope TEXT NOT NULL,
    code INTEGER,
    enhanced TEXT NOT NULL,
    reply TEXT NOT NULL,
    queue_id TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    due_at TEXT,
    counted INTEGER NOT NULL
) STRICT;
