package command

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/agent/doctor"
)

func TestAReportFitsATerminal(t *testing.T) {
	r := doctor.Report{
		Findings: []doctor.Finding{
			{Check: "kernel", State: doctor.OK, Text: "Linux 6.1.0"},
			{Check: "network_namespaces", State: doctor.Info, Text: "3 others, with nginx (process 4711), and so on until the end of the line", Means: "what they send through this host is inspected"},
			{Check: "rules", State: doctor.Fail, Text: "the table is missing", Means: "nothing is inspected", Mend: "systemctl restart interdict-agent && interdict-agent sync"},
		},
		Counts: map[doctor.State]int{doctor.OK: 1, doctor.Info: 1, doctor.Fail: 1},
	}
	const want = `ok    kernel              Linux 6.1.0
info  network_namespaces  3 others, with nginx (process 4711), and so on until
                          the end of the line
                          what they send through this host is inspected
fail  rules               the table is missing
                          nothing is inspected
                          mend: systemctl restart interdict-agent && interdict-agent sync

1 fail, 1 info, 1 ok
`
	if diff := cmp.Diff(want, string(examined(r, plain))); diff != "" {
		t.Errorf("the report (-want +got):\n%s", diff)
	}
	if got := string(examined(r, coloured)); !strings.HasPrefix(got, "\x1b[32mok  \x1b[0m  kernel ") {
		t.Errorf("in colours it begins with %.40q", got)
	}
	for _, name := range doctor.Names() {
		if len(name) > nameWidth {
			t.Errorf("%s is longer than %d", name, nameWidth)
		}
	}
}

func TestDoctorWorksWithoutAnAgent(t *testing.T) {
	root := filepath.Join(t.TempDir(), "none")
	got := run(t, "doctor", "--state-dir", root)
	says := "fail  agent "
	if os.Geteuid() != 0 {
		says = "fail  privileges "
	}
	if got.code != ExitFailed || !strings.Contains(got.stdout, says) || !strings.Contains(got.stderr, "failed") {
		t.Errorf("got code %d, %q and %q; want that the agent fails", got.code, got.stdout, got.stderr)
	}
	if strings.Contains(got.stdout, "\x1b") {
		t.Error("there are colours where there is no terminal")
	}
	lines := bufio.NewScanner(strings.NewReader(got.stdout))
	for lines.Scan() {
		if len(lines.Text()) > columns && !strings.Contains(lines.Text(), "mend: ") && strings.Count(strings.TrimSpace(lines.Text()), " ") > 0 {
			t.Errorf("%q is longer than %d columns", lines.Text(), columns)
		}
	}
	got = run(t, "doctor", "--state-dir", root, "--output", "json")
	var r doctor.Report
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil || r.Schema != doctor.Schema || len(r.Findings) < len(doctor.Names()) {
		t.Errorf("as JSON: %v, schema %d, %d findings", err, r.Schema, len(r.Findings))
	}
}

// Every command that the checks name has to be there, with its flags.
func TestTheCommandsThatMendAreThere(t *testing.T) {
	sources, err := filepath.Glob("../doctor/*.go")
	if err != nil {
		t.Fatal(err)
	}
	named := make(map[string]bool)
	for _, source := range sources {
		content, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`"(?:sudo )?interdict-agent ([^"]+)"`).FindAllSubmatch(content, -1) {
			named[string(match[1])] = true
		}
	}
	if len(named) < 5 {
		t.Fatalf("only %d commands are named: %v", len(named), named)
	}
	root := (&commander{}).root()
	for text := range named {
		words := strings.Fields(text)
		cmd, _, err := root.Find(words[:1])
		if err != nil || cmd == root {
			t.Errorf("interdict-agent %s: there is no such command", text)
			continue
		}
		for _, w := range words[1:] {
			if flag, ok := strings.CutPrefix(w, "--"); ok && cmd.Flags().Lookup(flag) == nil {
				t.Errorf("interdict-agent %s: there is no such flag", text)
			}
		}
	}
}

func TestTheArchiveIsForItsOwnerAlone(t *testing.T) {
	stateDir := t.TempDir()
	secrets := writeSecrets(t, stateDir)
	path := filepath.Join(t.TempDir(), "support.tar.gz")
	got := run(t, "doctor", "--state-dir", stateDir, "--bundle", path)
	if !strings.Contains(got.stderr, "is written") {
		t.Fatalf("got %q", got.stderr)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the archive: %v, %v; want mode 600", info.Mode(), err)
	}
	content := contentOf(t, path)
	for _, secret := range secrets {
		if bytes.Contains(content, []byte(secret)) {
			t.Errorf("the archive has %.20q... in it, which the state directory keeps secret", secret)
		}
	}
	if !bytes.Contains(content, []byte("fail  ")) {
		t.Error("the archive does not say what was found")
	}

	again := run(t, "doctor", "--state-dir", stateDir, "--bundle", path)
	if again.code != ExitUsage || !strings.Contains(again.stderr, "exists already") {
		t.Errorf("a second time: code %d and %q, want that it exists", again.code, again.stderr)
	}
	if none := run(t, "doctor", "--state-dir", stateDir, "--bundle", filepath.Join(stateDir, "no", "such")); none.code != ExitFailed {
		t.Errorf("into no directory: code %d and %q", none.code, none.stderr)
	}
}

// writeSecrets fills a state directory and returns what must not leave it:
// every line of every file there but the braces of JSON.
func writeSecrets(t *testing.T, dir string) []string {
	t.Helper()
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: bytes.Repeat([]byte("very secret"), 20)}))
	var secrets []string
	for name, content := range map[string]string{
		"identity.json": `{"device_id": "01J0000000000000000000TEST", "server_url": "https://127.0.0.1:1", "bundle_key": "c2VjcmV0IGtleSBvZiBidW5kbGVz"}`,
		"device.pem":    key, "ca.pem": key, "bundle.json": `{"header":"c2VjcmV0IGhlYWRlciBvZiBidW5kbGU"}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for line := range strings.Lines(key) {
		if !strings.HasPrefix(line, "-") {
			secrets = append(secrets, strings.TrimSpace(line))
		}
	}
	return append(secrets, "PRIVATE KEY", "c2VjcmV0IGtleSBvZiBidW5kbGVz", "c2VjcmV0IGhlYWRlciBvZiBidW5kbGU")
}

// contentOf returns all that is in an archive, one file after another.
func contentOf(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	zipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for in := tar.NewReader(zipped); ; {
		if _, err := in.Next(); err == io.EOF {
			return all.Bytes()
		} else if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(&all, in); err != nil {
			t.Fatal(err)
		}
	}
}
