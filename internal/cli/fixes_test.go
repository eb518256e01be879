package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWhatExplainSaysToTypeExists types every command that explain says mends
// a link, with a server that is not there: all else has to be right to get as
// far as that.
func TestWhatExplainSaysToTypeExists(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "explain", "testdata", "fixes.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for fix := range strings.Lines(string(text)) {
		fix = strings.TrimSpace(fix)
		command, ours := strings.CutPrefix(fix, "interdict ")
		if !ours {
			onDevice := strings.HasPrefix(fix, "on the device: interdict-agent ")
			if !onDevice && !strings.HasPrefix(fix, "on the device: edit /etc/interdict/policy.d/") {
				t.Errorf("%q is no command", fix)
			}
			continue
		}
		var said bytes.Buffer
		env := Env{Stdin: strings.NewReader(""), Stdout: &said, Stderr: &said, Getenv: func(string) string { return "" }}
		args := append([]string{"--server", "https://127.0.0.1:1", "--token", "x"}, words(t, command)...)
		if code := Run(t.Context(), env, args); code != ExitUnreachable {
			t.Errorf("%q ends with %d, want %d:\n%s", fix, code, ExitUnreachable, said.String())
		}
	}
}

// words takes a command apart as a shell does, as far as explain.Quote goes.
func words(t *testing.T, command string) []string {
	t.Helper()
	var all []string
	var word strings.Builder
	quoted, begun, escaped := false, false, false
	for _, r := range command {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\'':
			quoted, begun = !quoted, true
		case r == '\\' && !quoted:
			escaped = true
		case r == ' ' && !quoted:
			if begun {
				all = append(all, word.String())
				word.Reset()
			}
			begun = false
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if quoted || escaped {
		t.Fatalf("%q is not a whole command", command)
	}
	if begun {
		all = append(all, word.String())
	}
	return all
}
