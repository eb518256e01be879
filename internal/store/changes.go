package store

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// keptChanges is how many revisions back a server can follow; one that is
// further behind reads everything.
const keptChanges = 10_000

// Touched names a document that a change touched.
type Touched struct {
	Kind Kind
	ID   string
}

var errOutsideChange = errors.New("configuration only changes inside Change")

func (tx *Tx) touch(kind Kind, id string) error {
	if tx.touched == nil {
		return fmt.Errorf("touching %s %q: %w", kind, id, errOutsideChange)
	}
	tx.touched[Touched{kind, id}] = true
	return nil
}

// Republish makes a new revision although no document changed, because what
// follows from the documents did.
func (tx *Tx) Republish() error { return tx.touch("", "") }

func (tx *Tx) writeChanges(revision uint64) error {
	if _, err := tx.exec(`UPDATE counters SET value = $1 WHERE name = 'revision'`, revision); err != nil {
		return fmt.Errorf("writing revision %d: %w", revision, err)
	}
	b := tx.insert(`INSERT INTO changes (revision, kind, id) VALUES `, 3, "")
	for t := range tx.touched {
		if err := b.add(revision, string(t.Kind), t.ID); err != nil {
			return fmt.Errorf("noting what revision %d touched: %w", revision, err)
		}
	}
	if err := b.flush(); err != nil {
		return fmt.Errorf("noting what revision %d touched: %w", revision, err)
	}
	if revision > keptChanges {
		if _, err := tx.exec(`DELETE FROM changes WHERE revision <= $1`, revision-keptChanges); err != nil {
			return fmt.Errorf("forgetting old changes: %w", err)
		}
	}
	return tx.Notify("revision " + strconv.FormatUint(revision, 10))
}

// Revision returns the current revision.
func (tx *Tx) Revision() (uint64, error) {
	var revision uint64
	if err := tx.row(`SELECT value FROM counters WHERE name = 'revision'`).Scan(&revision); err != nil {
		return 0, fmt.Errorf("reading the revision: %w", err)
	}
	return revision, nil
}

// ChangesSince returns what was touched after a revision, up to the current
// one, at most limit documents. complete is false if there were more, or if
// the changes are no longer known; then everything has to be read.
func (tx *Tx) ChangesSince(revision uint64, limit int) (touched []Touched, complete bool, err error) {
	var oldest sql.Null[uint64]
	if err = tx.row(`SELECT MIN(revision) FROM changes`).Scan(&oldest); err != nil {
		return nil, false, fmt.Errorf("reading the oldest change: %w", err)
	}
	if !oldest.Valid || oldest.V > revision+1 {
		var current uint64
		current, err = tx.Revision()
		return nil, current == revision, err
	}
	err = tx.each(func(rows *sql.Rows) error {
		var t Touched
		unread := rows.Scan(&t.Kind, &t.ID)
		touched = append(touched, t)
		return unread
	}, `SELECT DISTINCT kind, id FROM changes WHERE revision > $1 AND kind <> '' ORDER BY kind, id LIMIT $2`, revision, limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("reading the changes since revision %d: %w", revision, err)
	}
	return touched, len(touched) <= limit, nil
}

// Audit adds a line to the audit log. Inside Change it gets the revision.
func (tx *Tx) Audit(e AuditEntry) { tx.audit = append(tx.audit, e) }

func (tx *Tx) writeAudit(revision uint64) error {
	b := tx.insert(`INSERT INTO audit_log (id, actor, action, target, doc) VALUES `, 5, "")
	for i := range tx.audit {
		e := &tx.audit[i]
		e.Revision = revision
		doc, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("encoding a line of the audit log: %w", err)
		}
		if err := b.add(e.ID, e.ActorID, e.Action, e.Target, string(doc)); err != nil {
			return fmt.Errorf("writing the audit log: %w", err)
		}
	}
	if err := b.flush(); err != nil {
		return fmt.Errorf("writing the audit log: %w", err)
	}
	return nil
}

// AuditQuery asks for the audit log.
type AuditQuery struct {
	// Actor is an id. Empty fields do not limit.
	Actor, Action, Target string
	// Before is the id of an entry; only older ones are wanted.
	Before string
	Limit  int
}

// AuditLog returns entries, newest first.
func (tx *Tx) AuditLog(q AuditQuery) ([]AuditEntry, error) {
	var w where
	w.equal("actor", q.Actor)
	w.equal("action", q.Action)
	w.equal("target", q.Target)
	w.compare("id", "<", q.Before)
	return listDocs[AuditEntry](tx, "SELECT doc FROM audit_log"+w.String()+" ORDER BY id DESC LIMIT "+w.arg(q.Limit), w.args)
}

// listDocs runs a query for one column of JSON.
func listDocs[T any](tx *Tx, query string, args []any) ([]T, error) {
	all := []T{}
	err := tx.each(func(rows *sql.Rows) error {
		var doc sql.RawBytes
		if err := rows.Scan(&doc); err != nil {
			return err
		}
		var v T
		if err := json.Unmarshal(doc, &v); err != nil {
			return fmt.Errorf("decoding: %w", err)
		}
		all = append(all, v)
		return nil
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("reading a list: %w", err)
	}
	return all, nil
}
