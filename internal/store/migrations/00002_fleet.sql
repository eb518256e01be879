-- What devices are, such as their operating system, decides which groups they
-- are in: it is in their document now, and written when it changes. report has,
-- in JSON, the settings that a device has otherwise than it was told, and its
-- lasting faults; empty for none. applied_since is when it first had the digest.

-- +goose Up
ALTER TABLE device_states ADD COLUMN report TEXT NOT NULL DEFAULT '';
ALTER TABLE device_states ADD COLUMN applied_since BIGINT NOT NULL DEFAULT 0;

-- Both are JSON objects, with other names in each: what is between the braces of
-- facts goes before what is in the document. There is no function for it that
-- both engines know.
UPDATE devices SET doc = '{' || (SELECT substr(s.facts, 2, length(s.facts) - 2) FROM device_states s WHERE s.device_id = devices.id) || ',' || substr(doc, 2)
WHERE id IN (SELECT device_id FROM device_states WHERE facts LIKE '{"%');
ALTER TABLE device_states DROP COLUMN facts;
