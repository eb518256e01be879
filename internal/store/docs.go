package store

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"interdict/internal/cloudapp"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// Kind is a kind of document.
type Kind string

// The kinds of documents.
const (
	KindDevice    Kind = "device"
	KindGroup     Kind = "group"
	KindPolicy    Kind = "policy"
	KindTagging   Kind = "tagging"
	KindIndicator Kind = "indicator"
	KindFeature   Kind = "feature"
)

// FeatureState is whether a feature was turned on or off. A feature without
// one has its default.
type FeatureState struct {
	Name    fleet.Feature `json:"name"`
	Enabled bool          `json:"enabled"`
}

// Docs are the documents of one kind, in a transaction.
type Docs[T any] struct {
	tx   *Tx
	kind Kind
	sql  statements
	// key tells id and name of a document.
	key func(*T) (id, name string)
	// strip takes out what is kept elsewhere, before a document is written.
	strip func(*T)
}

// statements are the same for all tables of documents.
type statements struct{ get, named, all, mentioning, put, remove string }

func statementsFor(table string) statements {
	return statements{
		get:        "SELECT doc FROM " + table + " WHERE id = $1",
		named:      "SELECT doc FROM " + table + " WHERE name = $1 ORDER BY id",
		all:        "SELECT doc FROM " + table + " ORDER BY id",
		mentioning: "SELECT doc FROM " + table + " WHERE doc LIKE $1 ORDER BY id",
		put:        "INSERT INTO " + table + " (id, name, doc) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET name = excluded.name, doc = excluded.doc",
		remove:     "DELETE FROM " + table + " WHERE id = $1",
	}
}

// Devices are the enrolled devices: what they are, not how they are, which is in
// the DeviceState.
func (tx *Tx) Devices() Docs[fleet.Device] {
	return Docs[fleet.Device]{
		tx: tx, kind: KindDevice, sql: statementsFor("devices"),
		key: func(d *fleet.Device) (string, string) { return string(d.ID), d.Name },
		strip: func(d *fleet.Device) {
			*d = fleet.Device{
				ID: d.ID, Name: d.Name, Hostname: d.Hostname, OS: d.OS, OSVersion: d.OSVersion, Arch: d.Arch, AgentVersion: d.AgentVersion,
				Labels: d.Labels, EnrolledAt: d.EnrolledAt, Version: d.Version,
			}
		},
	}
}

// Groups are the device groups without their members, see Memberships.
func (tx *Tx) Groups() Docs[fleet.Group] {
	return Docs[fleet.Group]{
		tx: tx, kind: KindGroup, sql: statementsFor("device_groups"),
		key:   func(g *fleet.Group) (string, string) { return g.ID, g.Name },
		strip: func(g *fleet.Group) { g.Members = nil },
	}
}

// Policies are the configuration policies.
func (tx *Tx) Policies() Docs[fleet.Policy] {
	return Docs[fleet.Policy]{
		tx: tx, kind: KindPolicy, sql: statementsFor("policies"),
		key: func(p *fleet.Policy) (string, string) { return p.ID, p.Name },
	}
}

// Taggings are the tags of apps, by the app's id.
func (tx *Tx) Taggings() Docs[cloudapp.Tagging] {
	return Docs[cloudapp.Tagging]{
		tx: tx, kind: KindTagging, sql: statementsFor("taggings"),
		key: func(t *cloudapp.Tagging) (string, string) { return t.AppID, "" },
	}
}

// Indicators are the custom indicators; their name is "TYPE VALUE".
func (tx *Tx) Indicators() Docs[indicator.Indicator] {
	return Docs[indicator.Indicator]{
		tx: tx, kind: KindIndicator, sql: statementsFor("indicators"),
		key: func(i *indicator.Indicator) (string, string) { return i.ID, string(i.Type) + " " + i.Value },
	}
}

// Features are the states of features.
func (tx *Tx) Features() Docs[FeatureState] {
	return Docs[FeatureState]{
		tx: tx, kind: KindFeature, sql: statementsFor("features"),
		key: func(f *FeatureState) (string, string) { return string(f.Name), "" },
	}
}

// Get returns a document, or ErrNotFound.
func (d Docs[T]) Get(id string) (T, error) {
	var v T
	var doc []byte
	switch err := d.tx.row(d.sql.get, id).Scan(&doc); {
	case errors.Is(err, sql.ErrNoRows):
		return v, fmt.Errorf("reading %s %q: %w", d.kind, id, ErrNotFound)
	case err != nil:
		return v, fmt.Errorf("reading %s %q: %w", d.kind, id, err)
	}
	return v, d.decode(doc, &v)
}

// Named returns the documents with a name, ordered by id.
func (d Docs[T]) Named(name string) ([]T, error) { return d.list(d.sql.named, name) }

// All returns all documents, ordered by id.
func (d Docs[T]) All() ([]T, error) { return d.list(d.sql.all) }

// Mentioning returns the documents that have an id anywhere in their text,
// ordered by id. It reads the whole table, but decodes only these.
func (d Docs[T]) Mentioning(id string) ([]T, error) {
	return d.list(d.sql.mentioning, "%\""+id+"\"%")
}

func (d Docs[T]) list(query string, args ...any) ([]T, error) {
	var all []T
	err := d.tx.each(func(rows *sql.Rows) error {
		var doc sql.RawBytes
		if err := rows.Scan(&doc); err != nil {
			return err
		}
		var v T
		if err := d.decode(doc, &v); err != nil {
			return err
		}
		all = append(all, v)
		return nil
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("reading documents of kind %s: %w", d.kind, err)
	}
	return all, nil
}

func (d Docs[T]) decode(doc []byte, v *T) error {
	if err := json.Unmarshal(doc, v); err != nil {
		return fmt.Errorf("decoding a document of kind %s: %w", d.kind, err)
	}
	return nil
}

// Put writes a document, new or not.
func (d Docs[T]) Put(v T) error {
	if d.strip != nil {
		d.strip(&v)
	}
	id, name := d.key(&v)
	doc, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding %s %q: %w", d.kind, id, err)
	}
	if _, err := d.tx.exec(d.sql.put, id, name, string(doc)); err != nil {
		return fmt.Errorf("writing %s %q: %w", d.kind, id, err)
	}
	return d.tx.touch(d.kind, id)
}

// Delete removes a document, or returns ErrNotFound.
func (d Docs[T]) Delete(id string) error {
	n, err := d.tx.exec(d.sql.remove, id)
	if err != nil {
		return fmt.Errorf("deleting %s %q: %w", d.kind, id, err)
	}
	if n == 0 {
		return fmt.Errorf("deleting %s %q: %w", d.kind, id, ErrNotFound)
	}
	return d.tx.touch(d.kind, id)
}
