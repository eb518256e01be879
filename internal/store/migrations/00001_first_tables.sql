-- Written once for SQLite and PostgreSQL: only types and clauses that both
-- know. Times are nanoseconds since 1970, 0 for none. A column named doc is
-- the thing itself in JSON; the columns beside it are what is searched for.

-- +goose Up

-- "revision" grows with every change to what devices are told; whoever
-- changes something holds its row, so changes happen one after the other.
-- "arrival" numbers events, see events.arrival.
CREATE TABLE counters (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('revision', 0), ('arrival', 0);

-- What each revision touched, so that servers can follow.
CREATE TABLE changes (
    revision BIGINT NOT NULL,
    kind     TEXT   NOT NULL,
    id       TEXT   NOT NULL,
    PRIMARY KEY (revision, kind, id)
);

CREATE TABLE server_keys (
    name  TEXT  NOT NULL PRIMARY KEY,
    value BYTEA NOT NULL
);

CREATE TABLE devices (
    id   TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    doc  TEXT NOT NULL
);
CREATE INDEX devices_name ON devices (name);

-- What devices say of themselves. server is the instance that holds the
-- device's stream, empty for none.
CREATE TABLE device_states (
    device_id       TEXT   NOT NULL PRIMARY KEY,
    server          TEXT   NOT NULL,
    last_seen       BIGINT NOT NULL,
    applied_version BIGINT NOT NULL,
    applied_digest  TEXT   NOT NULL,
    applied_at      BIGINT NOT NULL,
    applied_mode    TEXT   NOT NULL,
    applied_error   TEXT   NOT NULL,
    facts           TEXT   NOT NULL,
    updated_at      BIGINT NOT NULL
);

CREATE TABLE device_groups (
    id   TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    doc  TEXT NOT NULL
);

CREATE TABLE group_members (
    group_id  TEXT NOT NULL,
    device_id TEXT NOT NULL,
    PRIMARY KEY (device_id, group_id)
);
CREATE INDEX group_members_group ON group_members (group_id);

CREATE TABLE policies (
    id   TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    doc  TEXT NOT NULL
);

CREATE TABLE taggings (
    id   TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    doc  TEXT NOT NULL
);

-- name is type and value, separated by a space.
CREATE TABLE indicators (
    id   TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    doc  TEXT NOT NULL
);
CREATE INDEX indicators_name ON indicators (name);

CREATE TABLE features (
    id   TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    doc  TEXT NOT NULL
);

CREATE TABLE enrolment_tokens (
    id          TEXT   NOT NULL PRIMARY KEY,
    name        TEXT   NOT NULL,
    secret_hash BYTEA  NOT NULL UNIQUE,
    used        BIGINT NOT NULL,
    doc         TEXT   NOT NULL
);

CREATE TABLE api_tokens (
    id          TEXT  NOT NULL PRIMARY KEY,
    secret_hash BYTEA NOT NULL UNIQUE,
    doc         TEXT  NOT NULL
);

-- arrival is the order in which events, and revisions of events, came in:
-- microseconds since 1970, moved up as far as it takes to be unique and to
-- grow. alert_key is empty for an event that raised no alert.
CREATE TABLE events (
    id          TEXT   NOT NULL,
    device_id   TEXT   NOT NULL,
    arrival     BIGINT NOT NULL,
    time        BIGINT NOT NULL,
    event_id    BIGINT NOT NULL,
    action      TEXT   NOT NULL,
    app_id      TEXT   NOT NULL,
    host        TEXT   NOT NULL,
    user_name   TEXT   NOT NULL,
    alert_key   TEXT   NOT NULL,
    event_count BIGINT NOT NULL,
    doc         TEXT   NOT NULL,
    PRIMARY KEY (id, device_id)
);
CREATE UNIQUE INDEX events_arrival ON events (arrival);
CREATE INDEX events_device ON events (device_id, arrival);

CREATE TABLE alerts (
    id          TEXT   NOT NULL PRIMARY KEY,
    alert_key   TEXT   NOT NULL UNIQUE,
    device_id   TEXT   NOT NULL,
    app_id      TEXT   NOT NULL,
    event_count BIGINT NOT NULL,
    first_seen  BIGINT NOT NULL,
    last_seen   BIGINT NOT NULL,
    doc         TEXT   NOT NULL
);
CREATE INDEX alerts_device ON alerts (device_id, id);

CREATE TABLE audit_log (
    id     TEXT NOT NULL PRIMARY KEY,
    actor  TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    doc    TEXT NOT NULL
);
