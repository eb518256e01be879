package store

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// batchRows is how many rows one INSERT writes.
const batchRows = 250

// inserter writes many rows with few statements.
type inserter struct {
	tx             *Tx
	prefix, suffix string
	columns        int
	args           []any
}

// insert starts an insertion; prefix ends with VALUES, suffix is what follows
// the rows.
func (tx *Tx) insert(prefix string, columns int, suffix string) *inserter {
	return &inserter{tx: tx, prefix: prefix, columns: columns, suffix: suffix}
}

func (b *inserter) add(row ...any) error {
	b.args = append(b.args, row...)
	if len(b.args) < b.columns*batchRows {
		return nil
	}
	return b.flush()
}

// flush writes the rows that were added and not written yet.
func (b *inserter) flush() error {
	if len(b.args) == 0 {
		return nil
	}
	var q strings.Builder
	q.WriteString(b.prefix)
	for row := range len(b.args) / b.columns {
		if row > 0 {
			q.WriteByte(',')
		}
		q.WriteByte('(')
		b.tx.placeholders(&q, row*b.columns+1, b.columns)
		q.WriteByte(')')
	}
	q.WriteString(b.suffix)
	_, err := b.tx.exec(q.String(), b.args...)
	b.args = b.args[:0]
	return err
}

// placeholders writes n of them, from number first on. SQLite takes $1 for a
// name, and looks each name up in a list of all: thousands of them take it
// longer than the work itself. It counts question marks instead.
func (tx *Tx) placeholders(q *strings.Builder, first, n int) {
	for i := range n {
		if i > 0 {
			q.WriteByte(',')
		}
		if !tx.postgres {
			q.WriteByte('?')
			continue
		}
		q.WriteByte('$')
		q.WriteString(strconv.Itoa(first + i))
	}
}

// where collects conditions; the zero value has none.
type where struct {
	conditions []string
	args       []any
}

// arg adds an argument and returns its placeholder.
func (w *where) arg(v any) string {
	w.args = append(w.args, v)
	return "$" + strconv.Itoa(len(w.args))
}

// list adds arguments and returns their placeholders.
func (w *where) list(values []string) string {
	marks := make([]string, len(values))
	for i, v := range values {
		marks[i] = w.arg(v)
	}
	return strings.Join(marks, ",")
}

// equal limits a column to a value, unless that is empty.
func (w *where) equal(column, value string) { w.compare(column, "=", value) }

func (w *where) compare(column, operator, value string) {
	if value != "" {
		w.conditions = append(w.conditions, column+" "+operator+" "+w.arg(value))
	}
}

// compareInt is compare for a number, unless that is 0.
func (w *where) compareInt(column, operator string, value int64) {
	if value != 0 {
		w.conditions = append(w.conditions, column+" "+operator+" "+w.arg(value))
	}
}

func (w *where) String() string {
	if len(w.conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.conditions, " AND ")
}

// sortedByKey returns the values of a map in the order of their keys, so
// that transactions lock rows in one order and cannot block each other.
func sortedByKey[K cmp.Ordered, V any](m map[K]V) []V {
	values := make([]V, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		values = append(values, m[k])
	}
	return values
}
