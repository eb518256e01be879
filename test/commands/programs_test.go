// Package commands holds what both programs offer to its word: every command
// of their help is described in docs/cli.md, and played by some test.
package commands

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// programs are the names of both.
func programs() []string { return []string{"interdict", "interdict-agent"} }

// dir has the programs, built for these tests.
var dir string

func TestMain(m *testing.M) {
	code, err := withPrograms(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withPrograms(m *testing.M) (code int, err error) {
	if dir, err = os.MkdirTemp("", "interdict-commands-"); err != nil {
		return 1, fmt.Errorf("building the programs: %w", err)
	}
	defer os.RemoveAll(dir)
	for _, name := range programs() {
		cmd := exec.CommandContext(context.Background(), "go", "build", "-o", filepath.Join(dir, name), "interdict/cmd/"+name)
		if out, err := cmd.CombinedOutput(); err != nil {
			return 1, fmt.Errorf("building %s: %w\n%s", name, err, out)
		}
	}
	return m.Run(), nil
}

// run runs a command, such as "interdict app list", and returns what it prints.
func run(t *testing.T, command string, args ...string) string {
	t.Helper()
	words := append(strings.Fields(command), args...)
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, words[0]), words[1:]...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("running %s: %v", strings.Join(words, " "), err)
	}
	return string(out)
}

// help is a command's help.
type help struct {
	// command is what is typed, such as "interdict app list".
	command string
	text    string
	// below are the words of its own commands.
	below []string
}

// tree is the help of a command and of all below it, in order.
func tree(t *testing.T, command string) []help {
	t.Helper()
	h := help{command: command, text: run(t, command, "--help")}
	h.below = listed(h.text)
	all := []help{h}
	for _, word := range h.below {
		all = append(all, tree(t, command+" "+word)...)
	}
	return all
}

// everything is the help of both programs.
func everything(t *testing.T) []help {
	t.Helper()
	var all []help
	for _, name := range programs() {
		all = append(all, tree(t, name)...)
	}
	return all
}

var listedCommand = regexp.MustCompile(`^  ([a-z-]+) +\S`)

// lists reports whether a section of a help has commands, by its title: all have
// but those that are about the command itself.
func lists(title string) bool {
	return strings.HasSuffix(title, ":") && !slices.Contains([]string{"Aliases:", "Examples:", "Flags:", "Global Flags:"}, title)
}

// listed returns the commands that a help lists, in groups or not.
func listed(text string) []string {
	_, text, _ = strings.Cut(text, "\nUsage:\n")
	var words []string
	for section := range strings.SplitSeq(text, "\n\n") {
		title, list, _ := strings.Cut(section, "\n")
		if !lists(title) {
			continue
		}
		for line := range strings.Lines(list) {
			if found := listedCommand.FindStringSubmatch(line); found != nil {
				words = append(words, found[1])
			}
		}
	}
	return words
}
