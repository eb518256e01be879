-- What devices are, such as their operating system, decides which groups they
-- are in: it is in their document now, and written when it changes. A device
-- that was enrolled before says it anew when it connects. report has, in JSON,
-- the settings that a device has otherwise than it was told, and its lasting
-- faults; empty for none. applied_since is when it first had the digest.

-- +goose Up
ALTER TABLE device_states ADD COLUMN report TEXT NOT NULL DEFAULT '';
ALTER TABLE device_states ADD COLUMN applied_since BIGINT NOT NULL DEFAULT 0;
ALTER TABLE device_states DROP COLUMN facts;
