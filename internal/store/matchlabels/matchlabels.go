// Package matchlabels decides what becomes of the labels by which groups of the
// first release took devices in: a rule that says the same.
package matchlabels

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// ToRules is a migration. Groups had labels that all of their devices
// carry; they have a rule that says the same now.
func ToRules(ctx context.Context, tx *sql.Tx) error {
	all, err := groupDocs(ctx, tx)
	if err != nil {
		return fmt.Errorf("reading the groups: %w", err)
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		doc, altered, err := withRule(all[id])
		if err != nil {
			return fmt.Errorf("making a rule of the labels of group %q: %w", id, err)
		}
		if !altered {
			continue
		}
		if _, err := tx.ExecContext(ctx, `UPDATE device_groups SET doc = $2 WHERE id = $1`, id, doc); err != nil {
			return fmt.Errorf("writing the rule of group %q: %w", id, err)
		}
	}
	return nil
}

// groupDocs returns the documents of all groups, by their ids.
func groupDocs(ctx context.Context, tx *sql.Tx) (all map[string]string, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT id, doc FROM device_groups`)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	all = make(map[string]string)
	for rows.Next() {
		var id, doc string
		if err := rows.Scan(&id, &doc); err != nil {
			return nil, err
		}
		all[id] = doc
	}
	return all, rows.Err()
}

// withRule returns the document of a group with a rule in the place of its
// labels, and whether it had any.
func withRule(doc string) (string, bool, error) {
	const before, after = "match_labels", "rule"
	fields := make(map[string]json.RawMessage)
	if err := json.Unmarshal([]byte(doc), &fields); err != nil {
		return "", false, err
	}
	var labels map[string]string
	if text, ok := fields[before]; !ok {
		return doc, false, nil
	} else if err := json.Unmarshal(text, &labels); err != nil {
		return "", false, err
	}
	delete(fields, before)
	if len(labels) > 0 {
		rule, err := json.Marshal(ruleOf(labels))
		if err != nil {
			return "", false, err
		}
		fields[after] = rule
	}
	text, err := json.Marshal(fields)
	return string(text), true, err
}

// ruleOf returns the rule that is true for the devices that carry all of the
// labels.
func ruleOf(labels map[string]string) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		name := strconv.Quote(key)
		parts = append(parts, name+" in labels && labels["+name+"] == "+strconv.Quote(labels[key]))
	}
	return strings.Join(parts, " && ")
}
