// Package dropin decides what the drop-in files of policy on a machine say:
// settings and indicators for an agent, from whatever manages the machine's
// files.
//
// A file counts as a whole or not at all. One with a fault, or one that
// somebody else than the machine's administrator could have written, is
// refused, and what that file said before goes on counting until it is mended
// or deleted. So that a restart changes nothing about that, the last good
// content of every file is kept in a directory of the agent's own, under the
// file's name.
//
// A file's name ends in .yaml and does not begin with a dot; other files are
// not looked at. This is all that can be in one:
//
//	settings:
//	  network_protection: block       # names and values as "interdict-agent set" lists them
//	indicators:
//	  - type: domain                  # domain, url, ip, cidr, certificate, file_sha256
//	    value: tunes.example
//	    action: block                 # allow, audit, warn, block
//	    severity: high                # all from here on may be left out
//	    description: what it is for
//	    expires_at: 2030-01-31
//	    generate_alert: true
//	    scope:                        # include_users, exclude_users,
//	      exclude_user_groups: [it]   # include_user_groups, exclude_user_groups
//	      windows: [{days: [mon, fri], from: "08:00", to: "17:30"}]
package dropin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"interdict/internal/agent/state"
	"interdict/internal/indicator"
)

// DefaultDir is where the files are unless the agent is told otherwise.
const DefaultDir = "/etc/interdict/policy.d"

const (
	extension = ".yaml"
	// maxFiles bounds the files that are looked at.
	maxFiles = 200
)

// Config is what a Directory needs.
type Config struct {
	// Dir is where the files are; it need not exist. Empty means that there
	// are no files.
	Dir string
	// Kept is the directory for the last good content of each file. Without
	// one nothing is kept, and a file with a fault says nothing.
	Kept string
	// Protected is what no indicator of a file may refuse.
	Protected *indicator.Protected
}

// Directory is a directory of drop-in files. It may be watched while it is
// read, but there must be one reader at a time.
type Directory struct{ cfg Config }

// New returns the directory.
func New(cfg Config) *Directory { return &Directory{cfg: cfg} }

// Snapshot is what the files say at one time.
type Snapshot struct {
	// Files are in the order of their names. Of one with a fault it is what
	// it said before, if it said anything.
	Files []File
	// Faults are why files were not taken, in the same order.
	Faults []FileError
	// Unkept is why the content of a good file could not be kept, so that a
	// restart would not know it if the file had a fault by then.
	Unkept error
}

// Read reads all files. It keeps the content of the good ones, and forgets
// that of files which are gone.
func (d *Directory) Read() Snapshot {
	if d.cfg.Dir == "" {
		return Snapshot{}
	}
	var s Snapshot
	names, fault := d.list()
	if fault != nil {
		// Nobody knows which files there are: those that were good count.
		s.Faults = append(s.Faults, *fault)
		for _, name := range d.kept() {
			s.fallBack(d, name)
		}
		return s
	}
	for _, name := range names {
		f, err := d.read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if fault, ok := errors.AsType[*FileError](err); ok {
			s.Faults = append(s.Faults, *fault)
			s.fallBack(d, name)
			continue
		}
		s.Files = append(s.Files, f)
		s.Unkept = errors.Join(s.Unkept, err)
	}
	for _, name := range d.kept() {
		if !slices.Contains(names, name) {
			s.Unkept = errors.Join(s.Unkept, os.Remove(filepath.Join(d.cfg.Kept, name)))
		}
	}
	return s
}

// fallBack adds what a file said before, if that is known.
func (s *Snapshot) fallBack(d *Directory, name string) {
	if d.cfg.Kept == "" {
		return
	}
	content, err := os.ReadFile(filepath.Join(d.cfg.Kept, name))
	if err != nil {
		return
	}
	// What is protected may have changed since.
	if f, err := Parse(filepath.Join(d.cfg.Dir, name), content, d.cfg.Protected); err == nil {
		s.Files = append(s.Files, f)
	}
}

// list returns the names of the files in order. A directory that is not there
// has none.
func (d *Directory) list() ([]string, *FileError) {
	unreadable := func(err error) *FileError {
		return &FileError{Path: d.cfg.Dir, Text: fmt.Sprintf("the directory cannot be read: %v", err), Hint: "see to it that the agent may read it"}
	}
	info, err := os.Stat(d.cfg.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, unreadable(err)
	}
	if fault := trust(d.cfg.Dir, info); fault != nil {
		return nil, fault
	}
	entries, err := os.ReadDir(d.cfg.Dir)
	if err != nil {
		return nil, unreadable(err)
	}
	var names []string
	for _, entry := range entries {
		if name := entry.Name(); isPolicy(name) {
			names = append(names, name)
		}
	}
	if len(names) > maxFiles {
		return nil, &FileError{Path: d.cfg.Dir, Text: fmt.Sprintf("%d files are more than %d", len(names), maxFiles), Hint: "put several into one"}
	}
	return names, nil
}

// Names returns the names of the files in a directory that are read, and of
// those that are not: without those of editors, which begin with a dot or end
// in a tilde.
func Names(dir string) (read, unread []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("looking for drop-in files: %w", err)
	}
	for _, entry := range entries {
		switch name := entry.Name(); {
		case isPolicy(name):
			read = append(read, name)
		case !entry.IsDir() && !strings.HasPrefix(name, ".") && !strings.HasSuffix(name, "~"):
			unread = append(unread, name)
		}
	}
	return read, unread, nil
}

// isPolicy reports whether a file is looked at by its name. What editors and
// package managers leave beside a file ends otherwise.
func isPolicy(name string) bool {
	return strings.HasSuffix(name, extension) && !strings.HasPrefix(name, ".") &&
		!strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f })
}

// read reads one file and keeps its content. The error is a *FileError if the file
// cannot be taken, wraps fs.ErrNotExist if it is gone, and is any other if it
// was taken and could not be kept.
func (d *Directory) read(name string) (File, error) {
	path := filepath.Join(d.cfg.Dir, name)
	content, err := open(path)
	if err != nil {
		return File{}, err
	}
	f, err := Parse(path, content, d.cfg.Protected)
	if err != nil {
		return File{}, err
	}
	return f, d.keep(name, content)
}

// open reads a file whose content is certain to be an administrator's.
func open(path string) ([]byte, error) {
	refuse := func(text, hint string) error { return &FileError{Path: path, Text: text, Hint: hint} }
	before, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case err != nil:
		return nil, refuse(err.Error(), "see to it that the agent may read it")
	case before.Mode()&fs.ModeSymlink != 0:
		return nil, refuse("it is a symbolic link", "put the file itself here")
	case !before.Mode().IsRegular():
		return nil, refuse("it is no regular file", "move it away")
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return nil, refuse(err.Error(), "see to it that the agent may read it")
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, refuse(err.Error(), "see to it that the agent may read it")
	}
	if !os.SameFile(before, info) {
		return nil, refuse("it was replaced while it was read", "it is read again at once")
	}
	if fault := trust(path, info); fault != nil {
		return nil, fault
	}
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, refuse(err.Error(), "see to it that the agent may read it")
	}
	return content, nil
}

// trust returns why the agent must not believe what a file or directory says:
// somebody else than an administrator can write it.
func trust(path string, info fs.FileInfo) *FileError {
	if owner, known := ownerOf(info); known && owner != 0 && owner != os.Geteuid() {
		return &FileError{Path: path, Text: fmt.Sprintf("it belongs to user %d, who could change it", owner), Hint: "chown root " + path}
	}
	if info.Mode().Perm()&0o022 != 0 {
		return &FileError{Path: path, Text: "others than its owner may write it", Hint: "chmod go-w " + path}
	}
	return nil
}

// kept returns the names of the files whose content is kept.
func (d *Directory) kept() []string {
	if d.cfg.Kept == "" {
		return nil
	}
	entries, err := os.ReadDir(d.cfg.Kept)
	if err != nil {
		return nil
	}
	var names []string
	for _, entry := range entries {
		if isPolicy(entry.Name()) {
			names = append(names, entry.Name())
		}
	}
	return names
}

// keep keeps the content of a good file, unless it is kept already.
func (d *Directory) keep(name string, content []byte) error {
	if d.cfg.Kept == "" {
		return nil
	}
	path := filepath.Join(d.cfg.Kept, name)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	if err := os.MkdirAll(d.cfg.Kept, 0o700); err != nil {
		return fmt.Errorf("keeping a copy of %s: %w", name, err)
	}
	return state.WriteFile(path, content)
}

func baseName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }
