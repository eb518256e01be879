-- +goose Up

-- What users ask for. place is a ULID of the server's, in whose order they are
-- listed: the id is the device's. settled is when the request came in or was
-- last decided, by the server's clock.
CREATE TABLE access_requests (
    id        TEXT   NOT NULL PRIMARY KEY,
    place     TEXT   NOT NULL UNIQUE,
    device_id TEXT   NOT NULL,
    app_id    TEXT   NOT NULL,
    user_name TEXT   NOT NULL,
    state     TEXT   NOT NULL,
    settled   BIGINT NOT NULL,
    doc       TEXT   NOT NULL
);
CREATE INDEX access_requests_device ON access_requests (device_id, state);
CREATE INDEX access_requests_state ON access_requests (state, place);
CREATE INDEX access_requests_settled ON access_requests (settled);

-- What ends bypasses of warnings.
CREATE TABLE revocations (
    id   TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    doc  TEXT NOT NULL
);

-- Who went on after a warning. The number is written out in the queries too,
-- because that is how both engines see that the index serves.
CREATE INDEX events_bypassed ON events (arrival) WHERE event_id = 1129;
