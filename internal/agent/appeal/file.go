package appeal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"unicode"
	"unicode/utf8"

	"interdict/internal/agent/state"
	"interdict/internal/bypass"
)

// maxFile bounds the file in bytes. What is kept is bounded well below that.
const maxFile = 8 << 20

// kept is the file.
type kept struct {
	Schema   int             `json:"schema"`
	Bypasses []bypass.Bypass `json:"bypasses"`
	Requests []request       `json:"requests"`
}

// load reads the file; nothing is kept where there is none.
func load(path string) (kept, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return kept{}, nil
	}
	if err != nil {
		return kept{}, fmt.Errorf("reading bypasses and requests: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return kept{}, fmt.Errorf("reading bypasses and requests: %w", err)
	}
	var k kept
	if err := json.Unmarshal(b, &k); err != nil {
		return kept{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return k, nil
}

// save writes the file. Without it what users did is forgotten at the next
// restart, and nothing worse, so that it is not their fault. The caller holds
// acts.
func (a *Appeals) save(ctx context.Context) {
	a.mu.Lock()
	k := kept{Schema: 1, Bypasses: slices.Clone(a.bypasses), Requests: slices.Clone(a.requests)}
	a.mu.Unlock()
	b, err := json.MarshalIndent(k, "", "  ")
	if err == nil {
		err = state.WriteFile(a.cfg.File, append(b, '\n'))
	}
	if err != nil {
		a.cfg.Log.WarnContext(ctx, "keeping bypasses and requests: a restart forgets them", "error", err)
	}
}

// isPlain reports whether a character may be part of a reason.
func isPlain(r rune) bool { return unicode.IsPrint(r) && r != utf8.RuneError }
