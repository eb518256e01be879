// Package edit has the rules that every edit of a document obeys inside its
// transaction: it is based on the version that is there, its name is free, and
// what it refers to still exists.
package edit

import (
	"errors"

	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/store"
)

// AnyVersion as the version to match lets an edit through whatever was
// changed since.
const AnyVersion uint64 = 0

// CheckVersion compares the version that a document has with the one that an
// edit of it is based on.
func CheckVersion(what string, have, want uint64) error {
	if want == AnyVersion || have == want {
		return nil
	}
	return fault.New(fault.Stale, "somebody else changed the %s: it has version %d by now, not %d", what, have, want).
		WithHint("look at it again and repeat the change")
}

// CheckFreeName makes sure that a name is not taken.
func CheckFreeName[T any](docs store.Docs[T], name string) error {
	same, err := docs.Named(name)
	if err != nil {
		return err
	}
	if len(same) > 0 {
		e := fault.New(fault.Conflict, "%q cannot be used", name)
		e.Fields = []fault.Field{{Name: "name", Rule: "must not be that of another one"}}
		return e
	}
	return nil
}

// CheckGroups makes sure that the groups and devices of a scope still exist.
func CheckGroups(tx *store.Tx, lists ...[]string) error {
	for _, list := range lists {
		for _, id := range list {
			if err := exists(tx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// exists makes sure that a group, or the one device of a group, does.
func exists(tx *store.Tx, id string) error {
	if device, ok := fleet.DeviceOf(id); ok {
		_, err := tx.Devices().Get(string(device))
		return deleted(err, "device", string(device))
	}
	_, err := tx.Groups().Get(id)
	return deleted(err, "group", id)
}

func deleted(err error, what, id string) error {
	if errors.Is(err, store.ErrNotFound) {
		return fault.New(fault.Conflict, "%s %q was deleted in the meantime", what, id)
	}
	return err
}

// Gone turns store.ErrNotFound into a fault, and leaves other errors.
func Gone(err error, what, ref string) error {
	if errors.Is(err, store.ErrNotFound) {
		return fault.New(fault.NotFound, "there is no %s %q", what, ref)
	}
	return err
}
