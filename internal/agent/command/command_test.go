package command

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"interdict/internal/agent/health"
	"interdict/internal/agent/journal"
	"interdict/internal/agent/state"
	"interdict/internal/bundle"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/version"
)

// result is what a command left behind.
type result struct {
	code           int
	stdout, stderr string
}

func run(t *testing.T, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := Run(t.Context(), Env{Stdout: &stdout, Stderr: &stderr}, args)
	return result{code, stdout.String(), stderr.String()}
}

func TestExitCodes(t *testing.T) {
	empty := t.TempDir()
	// A machine that looks enrolled and has no agent.
	enrolled := t.TempDir()
	if err := os.WriteFile(filepath.Join(enrolled, "identity.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Nothing listens on port 1.
	token := bundle.Token{URL: "https://127.0.0.1:1", CAFingerprint: strings.Repeat("ab", 32), Secret: "s"}.String()
	tests := []struct {
		name string
		args []string
		code int
		// says is on standard error.
		says string
	}{
		{"help is done", []string{"--help"}, ExitDone, ""},
		{"a version is done", []string{"version"}, ExitDone, ""},
		{"no such command", []string{"enrol"}, ExitUsage, `unknown command "enrol"`},
		{"no such flag", []string{"status", "--now"}, ExitUsage, "unknown flag"},
		{"an argument is missing", []string{"enroll"}, ExitUsage, "TOKEN is missing"},
		{"one argument too many", []string{"status", "x"}, ExitUsage, `an argument too many: "x"`},
		{"an unknown output", []string{"version", "--output", "xml"}, ExitUsage, "--output must be table or json"},
		{"a label without a value", []string{"enroll", "idt1_x", "--label", "site"}, ExitUsage, `--label "site" is not of the form KEY=VALUE`},
		{"an unknown level", []string{"run", "--log-level", "loud"}, ExitUsage, `--log-level "loud" is none of debug`},
		{"a flag's help", []string{"test", "--rules-only=maybe", "x"}, ExitUsage, "see 'interdict-agent test --help'"},
		{"a token that is none", []string{"enroll", "hello", "--state-dir", empty}, ExitUsage, `does not start with "idt1_"`},
		{"a target that is none", []string{"test", "ftp://x.example", "--state-dir", empty}, ExitUsage, "must be http or https"},
		{"a machine that is not enrolled", []string{"status", "--state-dir", empty}, ExitFailed, "hint: enrol it with"},
		{"unenrolling a machine that no server manages", []string{"unenroll", "--state-dir", empty}, ExitFailed, "interdict-agent rescue; then delete " + empty + " and what is yours in /etc/interdict/policy.d"},
		{"an agent that does not run", []string{"status", "--state-dir", enrolled}, ExitUnreachable, "hint: start it"},
		{"sync without an agent", []string{"sync", "--state-dir", enrolled}, ExitUnreachable, "does not answer"},
		{"following the log of nothing", []string{"events", "--follow", "--state-dir", empty}, ExitFailed, "not enrolled"},
		{"fewer events than none", []string{"events", "--last", "-1"}, ExitUsage, `--last "-1" is not a number of 0 or more`},
		{"an event id in words", []string{"events", "--id", "blocked"}, ExitUsage, `--id "blocked" is not a list of numbers such as 1126,1129`},
		{"a time without a unit", []string{"events", "--since", "10"}, ExitUsage, `--since "10" is not a time such as 10m`},
		{"a time to come", []string{"events", "--since", "-10m"}, ExitUsage, "--since -10m0s is not in the past"},
		{"a state directory that is a file", []string{"status", "--state-dir", filepath.Join(enrolled, "identity.json")}, ExitFailed, "not a directory"},
		{"a state directory that is not there", []string{"status", "--state-dir", filepath.Join(empty, "typo")}, ExitFailed, "not enrolled"},
		{"enrolling twice", []string{"enroll", token, "--state-dir", enrolled}, ExitFailed, "enrolled already"},
		{"enrolling without a server", []string{"enroll", token, "--state-dir", filepath.Join(empty, "new")}, ExitUnreachable, "not reachable"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := run(t, test.args...)
			if got.code != test.code || !strings.Contains(got.stderr, test.says) {
				t.Errorf("got code %d and %q, want %d and %q", got.code, got.stderr, test.code, test.says)
			}
			if strings.Contains(got.stderr, "goroutine") {
				t.Errorf("a stack was shown: %s", got.stderr)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(empty, "typo")); err == nil {
		t.Error("asking made a state directory")
	}
}

func TestFaultsBecomeExitCodes(t *testing.T) {
	tests := []struct {
		err  error
		want int
	}{
		{fault.New(fault.Invalid, "x"), ExitUsage},
		{fault.New(fault.Unreachable, "x"), ExitUnreachable},
		{fault.New(fault.Unavailable, "x"), ExitUnreachable},
		{fault.New(fault.Forbidden, "x"), ExitForbidden},
		{fault.New(fault.Unauthorized, "x"), ExitForbidden},
		{&os.PathError{Op: "open", Path: "x", Err: os.ErrPermission}, ExitForbidden},
		{fault.New(fault.Conflict, "x"), ExitFailed},
		{os.ErrClosed, ExitFailed},
	}
	for _, test := range tests {
		if got := exitCode(test.err); got != test.want {
			t.Errorf("%v: got %d, want %d", test.err, got, test.want)
		}
	}
}

func TestADeviceThatTheServerForgotCanStillLeave(t *testing.T) {
	for _, code := range []fault.Code{fault.Unreachable, fault.Unauthorized} {
		got := withLocalHint(fault.New(code, "no").WithHint("enrol it again"))
		if !strings.Contains(hint(got), "unenroll --local") || fault.CodeOf(got) != code {
			t.Errorf("%s: got %v with the hint %q, want how to leave without the server", code, got, hint(got))
		}
	}
}

func TestTheEventLogIsReadWithoutAnAgent(t *testing.T) {
	root := t.TempDir()
	j, err := journal.Open(journal.Config{
		LogDir: filepath.Join(root, state.DirEvents), SpoolDir: filepath.Join(root, state.DirSpool),
		Health: &health.Set{}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	j.Record(t.Context(), event.Event{
		EventID: event.IDBlocked, Action: event.ActionBlocked, AppName: "Tunes", Evidence: event.EvidenceTLSSNI,
		Destination: event.Destination{Host: "t.example"}, Process: event.Process{Path: "/usr/bin/curl"}, User: event.User{Name: "ann"},
	})
	if err := j.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := run(t, "events", "--state-dir", root)
	if at, _, _ := strings.Cut(got.stdout, " "); !strings.HasSuffix(at, "Z") {
		t.Errorf("the time is %q, want it in UTC", at)
	}
	if want := "1126 blocked: Tunes (t.example) by /usr/bin/curl, seen in tls_sni, user ann\n"; got.code != 0 || !strings.HasSuffix(got.stdout, want) {
		t.Errorf("got code %d and %q, want %q", got.code, got.stdout, want)
	}
	got = run(t, "events", "--state-dir", root, "--output", "json")
	var e event.Event
	if err := json.Unmarshal([]byte(got.stdout), &e); err != nil || e.AppName != "Tunes" || strings.Count(got.stdout, "\n") != 1 {
		t.Errorf("got %q (%v), want one event on one line", got.stdout, err)
	}
	for args, lines := range map[string]int{
		"--last 1 --since 1h --id 5007,1126": 1, "--last 0": 0, "--since 1ns": 0, "--id 5007": 0,
	} {
		got = run(t, append([]string{"events", "--state-dir", root}, strings.Fields(args)...)...)
		if got.code != 0 || strings.Count(got.stdout, "\n") != lines {
			t.Errorf("%s: got code %d and %q, want %d lines", args, got.code, got.stdout, lines)
		}
	}
}

func TestVersionAsJSONHasASchema(t *testing.T) {
	var got struct {
		Schema  int    `json:"schema"`
		Version string `json:"version"`
	}
	if err := json.Unmarshal([]byte(run(t, "version", "--output", "json").stdout), &got); err != nil || got.Schema != 1 || got.Version == "" {
		t.Errorf("got %+v (%v)", got, err)
	}
}

func TestTheVersionIsThatOfTheBuild(t *testing.T) {
	for _, args := range [][]string{{"--version"}, {"version"}} {
		got := run(t, args...)
		if !strings.HasPrefix(got.stdout, "interdict-agent "+version.String()+" go") || strings.Count(got.stdout, "\n") != 1 {
			t.Errorf("%v: got %q", args, got.stdout)
		}
	}
}

func TestHelpShowsExitCodesExamplesAndNoLibrary(t *testing.T) {
	if got := run(t, "--help").stdout; !strings.Contains(got, "Exit codes: 0 done") {
		t.Errorf("no exit codes in %s", got)
	}
	got := run(t, "enroll", "--help").stdout
	if !strings.Contains(got, "Examples:") || strings.Contains(got, "stringToString") || strings.Contains(got, "[]") {
		t.Errorf("got %s", got)
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestTargets(t *testing.T) {
	tests := []struct {
		text string
		want target
		bad  bool
	}{
		{text: "init.tunes.example", want: target{host: "init.tunes.example", port: 443, tls: true}},
		{text: "tunes.example:8443", want: target{host: "tunes.example", port: 8443, tls: true}},
		{text: "https://tunes.example/a/path", want: target{host: "tunes.example", port: 443, tls: true}},
		{text: "http://tunes.example/a/path?q=1", want: target{host: "tunes.example", port: 80, path: "/a/path"}},
		{text: "http://tunes.example", want: target{host: "tunes.example", port: 80, path: "/"}},
		{text: "192.0.2.7", want: target{addr: addr("192.0.2.7"), port: 443, tls: true}},
		{text: "2001:db8::7", want: target{addr: addr("2001:db8::7"), port: 443, tls: true}},
		{text: "https://[2001:db8::7]:8443/", want: target{addr: addr("2001:db8::7"), port: 8443, tls: true}},
		{text: "", bad: true},
		{text: "https://", bad: true},
		{text: "ftp://tunes.example", bad: true},
		{text: "https://tunes.example:0", bad: true},
		{text: "https://tunes.example:99999", bad: true},
		{text: "https://%zz", bad: true},
	}
	for _, test := range tests {
		got, err := parseTarget(test.text)
		if (err != nil) != test.bad {
			t.Errorf("%q: got error %v, want one: %v", test.text, err, test.bad)
			continue
		}
		if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(target{}), cmpopts.EquateComparable(addr("::"))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.text, diff)
		}
	}
}

func TestTheSystemsVersionIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "os-release")
	if err := os.WriteFile(path, []byte("ID=x\nPRETTY_NAME=\"X 12 (twelve)\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := osVersion(path); got != "X 12 (twelve)" {
		t.Errorf("got %q", got)
	}
}

func FuzzTarget(f *testing.F) {
	for _, s := range []string{"a.example", "http://a.example:80/x", "[::1]", "https://[2001:db8::1%25eth0]:1/", "://"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseTarget(text)
		if err == nil && (got.host == "" && !got.addr.IsValid() || got.port == 0 || got.tls && got.path != "") {
			t.Errorf("%q became %+v", text, got)
		}
	})
}
