// Package archive decides what goes into the archive that a machine's
// administrator hands to whoever helps: what doctor found, what the agent says
// of itself, its last events, the kernel's rules and the network around them.
//
// No secret goes in: no key, no certificate, no token, nothing of the state
// directory but events, and of these not the command lines, on which people
// write passwords. What is taken from elsewhere is searched for keys and
// tokens, which are blotted out. Names of users and hosts do go in, since
// without them nobody can help; the archive says so itself.
package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"time"

	"interdict/internal/agent"
	"interdict/internal/agent/doctor"
	"interdict/internal/agent/journal"
	"interdict/internal/event"
)

const (
	// maxEvents is how many of the last events go in.
	maxEvents = 500
	// maxFile bounds every file in bytes: of a longer one the end goes in.
	maxFile = 1 << 20
	// runTimeout bounds how long one program may take.
	runTimeout = 10 * time.Second
)

// Config is what goes in.
type Config struct {
	Report doctor.Report
	// Text is the report as people read it.
	Text []byte
	// Status is the running agent's, nil without one.
	Status *agent.Status
	// Events is the directory of the local event log.
	Events string
	// Root is the tree of /.
	Root fs.FS
	// Run runs a program and returns what it prints; nil means on this
	// machine.
	Run func(ctx context.Context, name string, args ...string) ([]byte, error)
}

// Write writes the archive, a tar compressed with gzip.
func Write(ctx context.Context, w io.Writer, c Config) error {
	if c.Run == nil {
		c.Run = run
	}
	zipped := gzip.NewWriter(w)
	out := tar.NewWriter(zipped)
	for _, f := range c.files(ctx) {
		content := blot(tail(f.content))
		header := &tar.Header{
			Name: path.Join("interdict-doctor", f.name), Mode: 0o600, Size: int64(len(content)), ModTime: c.Report.Time, Typeflag: tar.TypeReg,
		}
		if err := out.WriteHeader(header); err != nil {
			return fmt.Errorf("writing %s to the archive: %w", f.name, err)
		}
		if _, err := out.Write(content); err != nil {
			return fmt.Errorf("writing %s to the archive: %w", f.name, err)
		}
	}
	if err := errors.Join(out.Close(), zipped.Close()); err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	return nil
}

// file is one file of the archive.
type file struct {
	name, about string
	content     []byte
}

func (c *Config) files(ctx context.Context) []file {
	files := []file{
		{"doctor.txt", "what interdict-agent doctor found", c.Text},
		{"doctor.json", "the same for programs", document(c.Report)},
	}
	if c.Status != nil {
		files = append(files, file{"status.json", "the agent's status, with every setting and where it comes from", document(c.Status)})
	}
	files = append(files, file{"events.jsonl", fmt.Sprintf("the last %d events of the local log, without command lines", maxEvents), c.events()})
	for _, p := range []struct {
		name, about string
		command     []string
	}{
		{"rules.txt", "the agent's rules in the kernel", []string{"nft", "list", "table", "inet", "interdict"}},
		{"addresses.txt", "interfaces and addresses", []string{"ip", "-d", "address"}},
		{"routes.txt", "routes", []string{"ip", "route", "show", "table", "all"}},
		{"routing-rules.txt", "rules of routing", []string{"ip", "rule"}},
		{"kernel.txt", "the kernel's version", []string{"uname", "-srvm"}},
		{"journal.txt", "the agent's log of the last day", []string{"journalctl", "--unit", "interdict-agent", "--since", "-1d", "--no-pager", "--output", "short-iso"}},
	} {
		content, err := c.Run(ctx, p.command[0], p.command[1:]...)
		if err != nil {
			content = fmt.Appendf(content, "%v\n", err)
		}
		files = append(files, file{p.name, p.about, content})
	}
	for _, p := range []struct{ name, about, source string }{
		{"resolv.conf", "the system's name servers", "etc/resolv.conf"},
		{"os-release", "the system's name and version", "etc/os-release"},
		{"queues.txt", "who reads the kernel's packet queues", "proc/thread-self/net/netfilter/nfnetlink_queue"},
	} {
		content, err := fs.ReadFile(c.Root, p.source)
		if err != nil {
			content = fmt.Appendf(nil, "%v\n", err)
		}
		files = append(files, file{p.name, p.about, content})
	}
	return append([]file{{"README.txt", "this list", c.readme(files)}}, files...)
}

// readme says what is in the archive, and what of it is whose business.
func (c *Config) readme(files []file) []byte {
	var text bytes.Buffer
	_, _ = fmt.Fprintf(&text, `A support archive of interdict-agent %s, made on %s.

It has no keys, certificates, tokens or passwords in it, and no command lines.
It does have personal data: the names of this machine and of its users, the
programs they ran and the hosts these connected to as far as events were
written about them, and addresses of the network. Hand it only to somebody who
may know that, and delete it when it is not needed any more.

`, c.Report.Agent, c.Report.Time.UTC().Format(time.RFC1123))
	for _, f := range files {
		_, _ = fmt.Fprintf(&text, "%-18s %s\n", f.name, f.about)
	}
	return text.Bytes()
}

// events are the last of the local log, one a line.
func (c *Config) events() []byte {
	var last []event.Event
	for e, err := range journal.Newest(c.Events) {
		if err != nil {
			break
		}
		e.Process.Command = ""
		if last = append(last, e); len(last) == 2*maxEvents {
			last = slices.Clone(last[maxEvents:])
		}
	}
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	for _, e := range last[max(0, len(last)-maxEvents):] {
		if err := out.Encode(e); err != nil {
			_, _ = fmt.Fprintf(&text, "%v\n", err)
		}
	}
	return text.Bytes()
}

func document(data any) []byte {
	content, err := json.MarshalIndent(data, "", "  ")
	if err != nil {
		return fmt.Appendf(nil, "%v\n", err)
	}
	return append(content, '\n')
}

// tail is the end of what is too long.
func tail(content []byte) []byte {
	if len(content) <= maxFile {
		return content
	}
	return append([]byte("(the beginning is left out)\n"), content[len(content)-maxFile:]...)
}

// blot blots out what looks like a secret: enrolment and API tokens, and keys
// and certificates in PEM.
func blot(content []byte) []byte {
	for _, secret := range []string{
		`idt1_[A-Za-z0-9_-]+`,
		`(?i)(token|secret|password|passwd|authorization)(["']?\s*[:=]\s*["']?)(bearer\s+)?[^\s"',]+`,
		`-----BEGIN [A-Z0-9 ]+-----[^-]*(-----END [A-Z0-9 ]+-----)?`,
	} {
		content = regexp.MustCompile(secret).ReplaceAll(content, []byte("[left out]"))
	}
	return content
}

// run runs a program on this machine.
func run(ctx context.Context, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	return exec.CommandContext(ctx, name, args...).CombinedOutput()
}
