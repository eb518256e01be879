-- +goose Up

-- Staged changes of policies and tags; their name says what they change:
-- "policy ID" or "tag APP".
CREATE TABLE rollouts (
    id   TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    doc  TEXT NOT NULL
);
CREATE INDEX rollouts_name ON rollouts (name);

-- What devices are being asked, so that the answer finds the server that
-- waits for it whichever of several servers it reaches. answer is empty until
-- there is one.
CREATE TABLE questions (
    id        TEXT   NOT NULL PRIMARY KEY,
    device_id TEXT   NOT NULL,
    asked     BIGINT NOT NULL,
    answer    TEXT   NOT NULL
);
