-- +goose Up

-- How many rows of use a device began on a day, and how many more were left
-- out: days since 1970, in UTC, by the server's clock.
ALTER TABLE usage_reports ADD COLUMN day BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_reports ADD COLUMN begun BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_reports ADD COLUMN left_out BIGINT NOT NULL DEFAULT 0;
