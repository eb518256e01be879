package commands

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is that of the repository.
const root = "../.."

// exercise says which test plays a command: in exercised.txt, a command, a
// colon, and a file. That is a script, or Go code, followed by the name of the
// test that the code is, or serves.
type exercise struct{ command, file, test string }

func exercises(t *testing.T) []exercise {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "exercised.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []exercise
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		command, where, ok := strings.Cut(line, ": ")
		file, test, _ := strings.Cut(where, " ")
		if !ok || file == "" || strings.HasSuffix(file, ".go") == (test == "") {
			t.Fatalf("the line %q is not of the form COMMAND: SCRIPT or COMMAND: FILE.go TEST", line)
		}
		all = append(all, exercise{command, file, test})
	}
	return all
}

func TestEveryCommandIsPlayedByATest(t *testing.T) {
	played := make(map[string]bool)
	for _, e := range exercises(t) {
		played[e.command] = true
		e.check(t)
	}
	for _, h := range everything(t) {
		if len(h.below) == 0 && !played[h.command] {
			t.Errorf("no test plays %s: write one, and name it in exercised.txt", h.command)
		}
		delete(played, h.command)
	}
	for command := range played {
		t.Errorf("exercised.txt has %s, which is no command", command)
	}
}

// check fails the test unless the file plays the command, and the test is
// there.
func (e exercise) check(t *testing.T) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, e.file))
	if err != nil {
		t.Errorf("%s: %v", e.command, err)
		return
	}
	if !e.plays().Match(content) {
		t.Errorf("%s does not play %s", e.file, e.command)
	}
	if e.test != "" && !defines(t, filepath.Dir(e.file), e.test) && !defines(t, "test/e2e", e.test) {
		t.Errorf("the test %s, which is to play %s, is neither in %s nor in test/e2e", e.test, e.command, filepath.Dir(e.file))
	}
}

// plays matches where the command is run: words of a script, or strings one
// after the other of Go code, which may leave out the program.
func (e exercise) plays() *regexp.Regexp {
	if e.test == "" {
		return regexp.MustCompile(`(?m)^(exec|exits \d) .*` + regexp.QuoteMeta(e.command) + `\b`)
	}
	words := strings.Fields(e.command)[1:]
	return regexp.MustCompile(`"` + strings.Join(words, `", "`) + `"`)
}

// defines reports whether a directory has a test.
func defines(t *testing.T, dir, test string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(content), "\nfunc "+test+"(") {
			return true
		}
	}
	return false
}

func TestCompletionIsWrittenForEveryShell(t *testing.T) {
	for _, words := range [][]string{{"completion", "bash"}, {"completion", "fish"}, {"completion", "powershell"}, {"completion", "zsh"}} {
		if out := run(t, "interdict", words...); !strings.Contains(out, "__complete") {
			t.Errorf("interdict %s does not ask the program for what to type:\n%s", strings.Join(words, " "), out)
		}
	}
}

func TestHelpIsThatOfTheCommand(t *testing.T) {
	for _, words := range [][]string{{"interdict", "policy set"}, {"interdict-agent", "sync"}} {
		program, command := words[0], words[1]
		// The flag --help itself is missing from the former.
		asked, _, _ := strings.Cut(run(t, program, append([]string{"help"}, strings.Fields(command)...)...), "\nFlags:\n")
		want, _, _ := strings.Cut(run(t, program+" "+command, "--help"), "\nFlags:\n")
		if asked != want {
			t.Errorf("%s help %s prints\n%s\nand with --help\n%s", program, command, asked, want)
		}
	}
}
