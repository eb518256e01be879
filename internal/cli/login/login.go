// Package login decides which server and token a command uses: those that were
// typed, those of the environment, or those that 'interdict login' remembered,
// in this order. What was remembered for one server is never shown to another.
package login

import (
	"bufio"
	"cmp"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"interdict/internal/bundle"
	"interdict/internal/cli/client"
	"interdict/internal/fault"
)

// defaultServer is where a server on this machine listens unless it was told
// otherwise.
const defaultServer = "https://127.0.0.1:8443"

// The files that a server keeps in its data directory for its administrator.
const (
	fileAdminToken = "admin-token"
	fileURL        = "url"
)

// Login is what 'interdict login' remembers.
type Login struct {
	Server string `json:"server"`
	// CAFingerprint pins the certificate authority, see bundle.Fingerprint;
	// empty when the system's authorities vouch for the server.
	CAFingerprint string `json:"ca_fingerprint,omitempty"`
	Token         string `json:"token"`
}

// Config says how a client of the server is made, which trusts it by roots
// where no fingerprint pins its authority.
func (l Login) Config(roots *x509.CertPool) client.Config {
	return client.Config{Server: l.Server, Token: l.Token, CAFingerprint: l.CAFingerprint, Roots: roots}
}

// Source is where a login comes from.
type Source struct {
	// Server, Token and CA are what was typed, empty for nothing. CA is the
	// name of a file with the certificate authority to trust the server by.
	Server, Token, CA string
	// Getenv looks up an environment variable.
	Getenv func(string) string
	// ConfigDir is the user's configuration directory, empty where there is
	// none.
	ConfigDir string
	// Stdin has the token if it is nowhere else, which Stderr is told.
	Stdin  io.Reader
	Stderr io.Writer
}

// Choose decides which server and token are meant. It is a fault to have none.
func (s *Source) Choose() (Login, error) {
	saved, err := s.read()
	if err != nil {
		return Login{}, err
	}
	l := Login{Server: cmp.Or(s.Server, s.Getenv("INTERDICT_SERVER")), Token: cmp.Or(s.Token, s.Getenv("INTERDICT_TOKEN"))}
	// What was remembered for one server is never shown to another.
	if l.Server == "" || sameServer(l.Server, saved.Server) {
		l.Server = cmp.Or(l.Server, saved.Server)
		l.Token = cmp.Or(l.Token, saved.Token)
		l.CAFingerprint = saved.CAFingerprint
	}
	if l.Server == "" && l.Token != "" {
		l.Server = defaultServer
	}
	if l.Server != "" && l.Token == "" {
		return Login{}, fault.New(fault.Invalid, "no token to show to %s", l.Server).
			WithHint("give --token or set INTERDICT_TOKEN; the server wrote a token to DIR/admin-token")
	}
	if l.Server == "" {
		return Login{}, fault.New(fault.Invalid, "no server and token to work with").
			WithHint("type 'interdict login --data-dir DIR' on the server's machine, or give --server and --token")
	}
	l.CAFingerprint = cmp.Or(client.TokenPin(l.Token), l.CAFingerprint)
	return l, nil
}

// Roots reads the certificate authority of --ca; nil without one.
func (s *Source) Roots() (*x509.CertPool, error) {
	name := cmp.Or(s.CA, s.Getenv("INTERDICT_CA"))
	if name == "" {
		return nil, nil //nolint:nilnil // no pool is the value for the system's
	}
	pem, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fault.New(fault.Invalid, "%s holds no certificate in PEM", name)
	}
	return pool, nil
}

func (s *Source) file() (string, error) {
	if s.ConfigDir == "" {
		return "", errors.New("this user has no configuration directory: set HOME or XDG_CONFIG_HOME")
	}
	return filepath.Join(s.ConfigDir, "interdict", "login.json"), nil
}

// read returns the remembered login, the zero value without one.
func (s *Source) read() (Login, error) {
	name, err := s.file()
	if err != nil {
		return Login{}, nil //nolint:nilerr // then nothing can be remembered
	}
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Login{}, nil
	}
	if err != nil {
		return Login{}, fmt.Errorf("reading the remembered login: %w", err)
	}
	var l Login
	if err := json.Unmarshal(b, &l); err != nil {
		return Login{}, fault.New(fault.Invalid, "the remembered login in %s is damaged", name).
			WithHint("delete the file and type 'interdict login' again").Because(err)
	}
	return l, nil
}

// Remember remembers a login, for the user's eyes only.
func (s *Source) Remember(l Login) (string, error) {
	name, err := s.file()
	if err != nil {
		return "", err
	}
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return "", fmt.Errorf("writing the login: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return "", fmt.Errorf("remembering the login: %w", err)
	}
	// A file beside it and a rename: the old login stays until the new one
	// is complete, and the mode is right from the first byte on.
	tmp := name + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return "", fmt.Errorf("remembering the login: %w", err)
	}
	if err := os.Rename(tmp, name); err != nil {
		return "", fmt.Errorf("remembering the login: %w", err)
	}
	return name, nil
}

func sameServer(a, b string) bool {
	x, errX := url.Parse(a)
	y, errY := url.Parse(b)
	return errX == nil && errY == nil && x.Host != "" && strings.EqualFold(x.Host, y.Host)
}

// Gather puts a login together from flags, environment, data directory
// and standard input.
func (s *Source) Gather(dataDir, fingerprint string) (Login, error) {
	l := Login{Server: s.Server, Token: s.Token, CAFingerprint: strings.ToLower(fingerprint)}
	if b, err := hex.DecodeString(fingerprint); err != nil || fingerprint != "" && len(b) != 32 {
		return Login{}, fault.New(fault.Invalid, "the fingerprint is not a SHA-256 in hexadecimal")
	}
	if err := l.readDataDir(dataDir); err != nil {
		return Login{}, err
	}
	// What was typed wins over the environment, and so do the files it names.
	l.Server = cmp.Or(l.Server, s.Getenv("INTERDICT_SERVER"))
	l.Token = cmp.Or(l.Token, s.Getenv("INTERDICT_TOKEN"))
	if l.Server == "" {
		return Login{}, fault.New(fault.Invalid, "which server?").
			WithHint("give --data-dir DIR on the server's machine, or --server URL")
	}
	if l.Token == "" {
		fmt.Fprintln(s.Stderr, "reading the token from standard input")
		line, _ := bufio.NewReader(s.Stdin).ReadString('\n')
		l.Token = strings.TrimSpace(line)
	}
	if l.Token == "" {
		return Login{}, fault.New(fault.Invalid, "which token?").
			WithHint("give --token, set INTERDICT_TOKEN, or write it to standard input")
	}
	l.CAFingerprint = cmp.Or(l.CAFingerprint, client.TokenPin(l.Token))
	if l.CAFingerprint != "" {
		return l, nil
	}
	var err error
	l.CAFingerprint, err = s.fileFingerprint()
	return l, err
}

// readDataDir takes the token from a server's data directory, and the address
// unless another was given. An empty dir does nothing.
func (l *Login) readDataDir(dir string) (err error) {
	if dir == "" {
		return nil
	}
	if l.Token != "" {
		return fault.New(fault.Invalid, "there are two tokens, one in %s and one of --token", dir).
			WithHint("give either --data-dir or --token")
	}
	if l.Token, err = readDataFile(dir, fileAdminToken); err != nil || l.Server != "" {
		return err
	}
	l.Server, err = readDataFile(dir, fileURL)
	return err
}

// fileFingerprint returns the fingerprint of the authority in --ca.
func (s *Source) fileFingerprint() (string, error) {
	name := cmp.Or(s.CA, s.Getenv("INTERDICT_CA"))
	if name == "" {
		return "", nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("reading the certificate authority: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return "", fault.New(fault.Invalid, "%s holds no certificate in PEM", name)
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return "", fault.New(fault.Invalid, "%s holds no certificate in PEM", name).Because(err)
	}
	return bundle.Fingerprint(block.Bytes), nil
}

func readDataFile(dir, name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return "", dataDirFault(dir, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// dataDirFault says why a server's data directory cannot be read.
func dataDirFault(dir string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fault.New(fault.Forbidden, "this user may not read the server's data directory: %v", err).Because(err).
			WithHint("ask its owner, often root, for the token; or type: sudo cat %s | interdict login --server URL", filepath.Join(dir, fileAdminToken))
	}
	return fault.New(fault.NotFound, "reading the server's data directory: %v", err).Because(err).
		WithHint("the server writes it at its first start: wait until it says that it is ready, and give its --data-dir")
}
