// Package page decides how long lists are handed out in pages: how many items
// a page has and what its cursor means. What is in the list, and in which
// order, is the caller's.
package page

import (
	"cmp"
	"encoding/base64"
	"slices"

	"github.com/oklog/ulid/v2"

	"interdict/internal/fault"
)

// The bounds of a page.
const (
	usual = 100
	most  = 1000
)

// Query asks for one page of a list.
type Query struct {
	// Limit is how many items at most; 0 means 100, and 1000 is the most.
	Limit int
	// Cursor is the Next of the page before; empty for the first.
	Cursor string
}

// Page is one page of a list.
type Page[T any] struct {
	Items []T `json:"items"`
	// Next is the cursor of the next page; empty on the last.
	Next string `json:"next,omitempty"`
}

// Size returns how many items the page has at most.
func (q Query) Size() (int, error) {
	switch {
	case q.Limit == 0:
		return usual, nil
	case q.Limit < 0 || q.Limit > most:
		var faults fault.Fields
		faults.Add("limit", "must be between 1 and %d", most)
		return 0, faults.Err("the page is not valid")
	default:
		return q.Limit, nil
	}
}

func badCursor() error {
	var faults fault.Fields
	faults.Add("cursor", "must be one that the server returned")
	return faults.Err("the page is not valid")
}

// Of returns one page of a list that is in memory, and sorts the list. key
// tells the place of an item and is unique.
func Of[T any](items []T, q Query, key func(*T) string) (Page[T], error) {
	size, err := q.Size()
	if err != nil {
		return Page[T]{}, err
	}
	after, err := base64.RawURLEncoding.DecodeString(q.Cursor)
	if err != nil {
		return Page[T]{}, badCursor()
	}
	slices.SortFunc(items, func(a, b T) int { return cmp.Compare(key(&a), key(&b)) })
	if q.Cursor != "" {
		at, found := slices.BinarySearchFunc(items, string(after), func(v T, k string) int { return cmp.Compare(key(&v), k) })
		if found {
			at++
		}
		items = items[at:]
	}
	p := Page[T]{Items: items[:min(size, len(items))]}
	if len(items) > size {
		p.Next = base64.RawURLEncoding.EncodeToString([]byte(key(&p.Items[size-1])))
	}
	if p.Items == nil {
		p.Items = []T{}
	}
	return p, nil
}

// Read returns one page of a list that is read piece by piece, such as from
// the store. read is given how many items to return at most, which is one more
// than the page has; those after q.Cursor, which is "" or the id of the page's
// last item, a ULID.
func Read[T any](q Query, read func(limit int) ([]T, error), id func(*T) string) (Page[T], error) {
	size, err := q.Size()
	if err != nil {
		return Page[T]{}, err
	}
	if q.Cursor != "" {
		if _, err = ulid.ParseStrict(q.Cursor); err != nil {
			return Page[T]{}, badCursor()
		}
	}
	items, err := read(size + 1)
	if err != nil {
		return Page[T]{}, err
	}
	p := Page[T]{Items: items}
	if len(items) > size {
		p.Items = items[:size]
		p.Next = id(&p.Items[size-1])
	}
	return p, nil
}
