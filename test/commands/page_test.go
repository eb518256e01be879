package commands

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

//go:generate go test -run TestThePageOfCommandsIsCurrent -update .

var update = flag.Bool("update", false, "write docs/cli.md anew")

// page is what docs/cli.md has to be.
func page(all []help) string {
	var b strings.Builder
	b.WriteString(`# Commands

What the programs say of themselves when they are asked with ` + "`--help`" + `.
This page is written by ` + "`make generate`" + `; a test fails when it is not current.
Flags of a program itself, below its first heading, go with each of its commands.
`)
	for _, h := range all {
		level := strings.Repeat("#", min(2+strings.Count(h.command, " "), 4))
		fmt.Fprintf(&b, "\n%s %s\n\n```text\n%s\n```\n", level, h.command, own(h.text))
	}
	return b.String()
}

// helpFlag is the flag that every command has.
var helpFlag = regexp.MustCompile(`(?m)^  -h, --help +help for .*\n?`)

// own is a help without what is said elsewhere on the page.
func own(text string) string {
	text, _, _ = strings.Cut(text, "\nGlobal Flags:\n")
	text, _, _ = strings.Cut(text, "\nUse \"interdict")
	text = strings.TrimSpace(helpFlag.ReplaceAllString(text, ""))
	return strings.TrimSpace(strings.TrimSuffix(text, "Flags:"))
}

func TestThePageOfCommandsIsCurrent(t *testing.T) {
	golden := filepath.Join("..", "..", "docs", "cli.md")
	got := page(everything(t))
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Error("docs/cli.md is not what the programs say; run go generate ./test/commands")
	}
}
