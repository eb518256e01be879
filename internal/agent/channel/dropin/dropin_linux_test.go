package dropin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	blocking = "settings: {network_protection: block}\n"
	auditing = "settings: {network_protection: audit}\n"
)

// place is a directory of drop-in files.
type place struct {
	*Directory
	t    *testing.T
	dir  string
	kept string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	root := t.TempDir()
	p := &place{t: t, dir: filepath.Join(root, "policy.d"), kept: filepath.Join(root, "kept")}
	if err := os.Mkdir(p.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p.Directory = New(Config{Dir: p.dir, Kept: p.kept, Protected: protected})
	return p
}

func (p *place) path(name string) string { return filepath.Join(p.dir, name) }

func (p *place) write(name, content string) {
	p.t.Helper()
	if err := os.WriteFile(p.path(name), []byte(content), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// check reads the files and compares what they say: each as "NAME=MODE", and
// each fault as the start of its text after the file's name.
func (p *place) check(files, faults string) {
	p.t.Helper()
	s := p.Read()
	var have []string
	for _, f := range s.Files {
		have = append(have, filepath.Base(f.Path)+"="+f.Settings["network_protection"])
	}
	if got := strings.Join(have, " "); got != files {
		p.t.Errorf("files say %q, want %q", got, files)
	}
	have = nil
	for _, f := range s.Faults {
		have = append(have, filepath.Base(f.Path)+": "+f.Text)
		if f.Hint == "" {
			p.t.Errorf("nothing says what to do about %s", f.Text)
		}
	}
	if got := strings.Join(have, "; "); (got == "") != (faults == "") || !strings.HasPrefix(got, faults) {
		p.t.Errorf("faults are %q, want %q", got, faults)
	}
	if s.Unkept != nil {
		p.t.Errorf("something was not kept: %v", s.Unkept)
	}
}

func TestARefusedFileSaysWhatItSaidBefore(t *testing.T) {
	p := newPlace(t)
	p.check("", "")
	p.write("20-b.yaml", auditing)
	p.write("10-a.yaml", blocking)
	p.write("10-a.yaml~", "an editor's\n")
	p.write(".hidden.yaml", "an editor's too\n")
	p.check("10-a.yaml=block 20-b.yaml=audit", "")

	p.write("10-a.yaml", "settings: {network_protection: sideways}\n")
	p.check("10-a.yaml=block 20-b.yaml=audit", "10-a.yaml: network_protection must be")
	// Another process knows it too.
	p.Directory = New(p.cfg)
	p.check("10-a.yaml=block 20-b.yaml=audit", "10-a.yaml: network_protection must be")

	// A file that was never good says nothing.
	p.write("30-c.yaml", "{\n")
	p.check("10-a.yaml=block 20-b.yaml=audit", "10-a.yaml: network_protection must be")

	p.must(os.Remove(p.path("10-a.yaml")))
	p.must(os.Remove(p.path("30-c.yaml")))
	p.check("20-b.yaml=audit", "")
	// Deleted, it has no past.
	p.write("10-a.yaml", "{\n")
	p.check("20-b.yaml=audit", "10-a.yaml: it is not YAML")

	p.must(os.RemoveAll(p.dir))
	p.check("", "")
	if left := p.Directory.kept(); len(left) > 0 {
		t.Errorf("%v are kept of a directory that is gone", left)
	}
}

func TestOnlyAnAdministratorsFilesAreTaken(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(p *place)
		fault string
		root  bool
	}{
		{"writable by its group", func(p *place) { p.must(os.Chmod(p.path("a.yaml"), 0o664)) }, "others than its owner may write it", false},
		{"writable by others", func(p *place) { p.must(os.Chmod(p.path("a.yaml"), 0o646)) }, "others than its owner may write it", false},
		{"somebody else's", func(p *place) { p.must(os.Chown(p.path("a.yaml"), 4711, 0)) }, "it belongs to user 4711", true},
		{"a link", func(p *place) {
			p.must(os.Rename(p.path("a.yaml"), p.path("real")))
			p.must(os.Symlink("real", p.path("a.yaml")))
		}, "it is a symbolic link", false},
		{"a pipe", func(p *place) {
			p.must(os.Remove(p.path("a.yaml")))
			p.must(unix.Mkfifo(p.path("a.yaml"), 0o600))
		}, "it is no regular file", false},
		{"a directory", func(p *place) {
			p.must(os.Remove(p.path("a.yaml")))
			p.must(os.Mkdir(p.path("a.yaml"), 0o700))
		}, "it is no regular file", false},
		{"too large", func(p *place) { p.write("a.yaml", strings.Repeat("#\n", maxFile)) }, "it is larger than", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.root && os.Geteuid() != 0 {
				t.Skip("giving files away needs root")
			}
			p := newPlace(t)
			p.write("a.yaml", blocking)
			p.check("a.yaml=block", "")
			test.spoil(p)
			p.check("a.yaml=block", "a.yaml: "+test.fault)
		})
	}
}

func TestADirectoryThatOthersCanWriteIsNotBelieved(t *testing.T) {
	p := newPlace(t)
	p.write("a.yaml", blocking)
	p.check("a.yaml=block", "")
	p.must(os.Chmod(p.dir, 0o777))
	p.write("b.yaml", auditing)
	p.check("a.yaml=block", "policy.d: others than its owner may write it")
	p.must(os.Chmod(p.dir, 0o755))
	p.check("a.yaml=block b.yaml=audit", "")
}

func TestTooManyFilesChangeNothing(t *testing.T) {
	p := newPlace(t)
	p.write("a.yaml", blocking)
	p.check("a.yaml=block", "")
	for i := range maxFiles {
		p.write("b"+strings.Repeat("b", i)+".yaml", auditing)
	}
	p.check("a.yaml=block", "policy.d: 201 files are more than 200")
}

func TestWhatCannotBeKeptCountsAndIsTold(t *testing.T) {
	p := newPlace(t)
	p.must(os.WriteFile(p.kept, nil, 0o600))
	p.write("a.yaml", blocking)
	if s := p.Read(); len(s.Files) != 1 || s.Unkept == nil {
		t.Errorf("got %+v, want the file and why it is not kept", s)
	}
}

func TestWhoOnlyLooksKeepsNothing(t *testing.T) {
	p := newPlace(t)
	p.Directory = New(Config{Dir: p.dir, Protected: protected})
	p.write("a.yaml", blocking)
	p.check("a.yaml=block", "")
	p.write("a.yaml", "{\n")
	p.check("", "a.yaml: it is not YAML")
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(p.dir), "*")); err != nil || len(left) != 1 {
		t.Errorf("%v are there, want the files alone (%v)", left, err)
	}
}

func TestWithoutADirectoryThereAreNoFiles(t *testing.T) {
	d := New(Config{})
	if s := d.Read(); len(s.Files)+len(s.Faults) > 0 || s.Unkept != nil {
		t.Errorf("got %+v", s)
	}
}
