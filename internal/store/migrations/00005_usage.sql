-- +goose Up

-- What was connected to and belongs to an app, added up by day: days since
-- 1970, in UTC. user_name and process are empty where they are not known.
CREATE TABLE app_usage (
    app_id     TEXT   NOT NULL,
    day        BIGINT NOT NULL,
    device_id  TEXT   NOT NULL,
    user_name  TEXT   NOT NULL,
    process    TEXT   NOT NULL,
    uses       BIGINT NOT NULL,
    first_seen BIGINT NOT NULL,
    last_seen  BIGINT NOT NULL,
    PRIMARY KEY (app_id, day, device_id, user_name, process)
);
CREATE INDEX app_usage_day ON app_usage (day);

-- The keys of the last reports of each device, newest last, so that one which
-- is sent again does not count again. received is when the last one came.
CREATE TABLE usage_reports (
    device_id TEXT   NOT NULL PRIMARY KEY,
    keys      TEXT   NOT NULL,
    received  BIGINT NOT NULL
);
CREATE INDEX usage_reports_received ON usage_reports (received);

-- Who met with what about an app, answered from the index alone. The condition
-- is written out in the queries too, because that is how both engines see that
-- the index serves.
ALTER TABLE events ADD COLUMN process TEXT NOT NULL DEFAULT '';
CREATE INDEX events_app ON events (app_id, arrival, action, device_id, user_name, process, event_count)
    WHERE app_id <> '' AND event_id IN (1125, 1126, 1129);
