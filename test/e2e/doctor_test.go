package e2e

import (
	"archive/tar"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/lab/internet"
)

// finding is what a check of the doctor found.
type finding struct {
	Check string `json:"check"`
	State string `json:"state"`
	Text  string `json:"text"`
	Mend  string `json:"mend"`
}

// examination is what all checks found.
type examination []finding

// examine runs the doctor on anna.
func (f *fixture) examine(t *testing.T, args ...string) examination {
	t.Helper()
	// It ends with an error if a check fails; what it prints says more.
	out, err := f.site.Agent(t.Context(), hostInside, "doctor",
		append([]string{"--policy-dir", f.site.PolicyDir(hostInside), "--output", "json"}, args...)...)
	var report struct {
		Findings examination `json:"findings"`
	}
	if jsonErr := json.Unmarshal([]byte(out), &report); jsonErr != nil {
		t.Fatalf("the doctor printed %q: %v, %v", out, jsonErr, err)
	}
	return report.Findings
}

// of is what a check found first.
func (e examination) of(check string) finding {
	for _, found := range e {
		if found.Check == check {
			return found
		}
	}
	return finding{}
}

// expect fails the test unless a check found something in a state that says a
// text. What is to be mended says how.
func (e examination) expect(t *testing.T, check, state, text string) {
	t.Helper()
	found := e.of(check)
	if found.State != state || !strings.Contains(found.Text, text) || state == "fail" && found.Mend == "" {
		t.Errorf("the doctor finds %+v, want %s %s that says %q", found, check, state, text)
	}
}

func TestTheDoctorFindsNothingWrongWithAHealthyDevice(t *testing.T) {
	f := install(t)
	found := f.examine(t)
	for _, check := range []string{
		"privileges", "nf_tables", "packet_queue", "connection_table", "agent", "enforcement", "rules", "queues", "health",
		"enrolment", "certificate", "server", "bundle", "settings_files", "state_directory", "spool", "encrypted_dns",
	} {
		found.expect(t, check, "ok", "")
	}
	for _, other := range found {
		if other.State == "fail" {
			t.Errorf("%s fails: %s", other.Check, other.Text)
		}
	}
}

func TestTheDoctorNamesWhatIsBroken(t *testing.T) {
	f := install(t)
	f.mode(t, fleet.ModeBlock)
	if err := f.site.KillServer(); err != nil {
		t.Fatal(err)
	}
	found := f.examine(t)
	found.expect(t, "server", "fail", f.site.ServerAddr().String())
	found.expect(t, "rules", "ok", "")
	f.startServer(t)

	if err := f.site.StopAgent(hostInside); err != nil {
		t.Fatal(err)
	}
	found = f.examine(t)
	found.expect(t, "agent", "fail", "")
	found.expect(t, "rules", "info", "as an agent leaves them")
	found.expect(t, "server", "ok", "")
	works(t, "changing the rules", f.run(t, hostInside, "nft", "flush", "table", "inet", "interdict"))
	f.examine(t).expect(t, "rules", "fail", "")
	works(t, "deleting the rules", f.run(t, hostInside, "nft", "delete", "table", "inet", "interdict"))
	f.examine(t).expect(t, "rules", "info", "none")

	f.startAgent(t)
	found = f.examine(t)
	for _, check := range []string{"agent", "enforcement", "rules", "queues"} {
		found.expect(t, check, "ok", "")
	}
}

func TestTheDoctorNamesTheProgramThatAsksAnEncryptedNameService(t *testing.T) {
	f := install(t)
	cmd := f.lab.Command(t.Context(), hostInside, "openssl", "s_client", "-connect", f.at("dot.example", internet.PortDoT))
	// It stays connected for as long as somebody could type something.
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	download(t, "openssl", cmd)
	f.examine(t).expect(t, "encrypted_dns", "warn", "openssl")
}

func TestWhatTheDoctorWritesForHelpersHasNoSecrets(t *testing.T) {
	f := install(t)
	f.tag(t, app, "unsanctioned")
	f.mode(t, fleet.ModeBlock)
	refused(t, "an unsanctioned app", f.curl(t, hostInside, "https://archive.itunes.apple.com/"))
	f.waitEvent(t, event.IDBlocked, "archive.itunes.apple.com")
	path := filepath.Join(t.TempDir(), "help.tar.gz")
	f.examine(t, "--bundle", path)
	text := unpack(t, path)
	for _, want := range []string{"archive.itunes.apple.com", "table inet interdict", "as they should be"} {
		if !strings.Contains(text, want) {
			t.Errorf("the archive does not have %q", want)
		}
	}
	for _, secret := range append(f.secrets(t), f.site.Token(), "PRIVATE KEY") {
		if strings.Contains(text, secret) {
			t.Errorf("the archive has the secret %.8s...", secret)
		}
	}
	if out, err := f.site.Agent(t.Context(), hostInside, "doctor", "--bundle", path); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("writing it again ended with %v: %s", err, out)
	}
}

// unpack returns all that is in an archive.
func unpack(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if info, statErr := file.Stat(); statErr != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the archive has the mode %v, %v", info.Mode(), statErr)
	}
	zipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for entries := tar.NewReader(zipped); ; {
		_, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return text.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(&text, io.LimitReader(entries, 64<<20)); err != nil {
			t.Fatal(err)
		}
	}
}

// secrets are the lines of anna's private keys.
func (f *fixture) secrets(t *testing.T) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(f.site.StateDir(hostInside), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
			if !strings.Contains(block.Type, "PRIVATE") {
				continue
			}
			body := base64.StdEncoding.EncodeToString(block.Bytes)
			lines = append(lines, body[:64], body[len(body)-64:])
		}
		return err
	})
	if err != nil || len(lines) == 0 {
		t.Fatalf("anna has %d private keys, %v", len(lines)/2, err)
	}
	return lines
}
