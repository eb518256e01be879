package cli

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"interdict/internal/cli/client"
	"interdict/internal/fault"
)

// defaultServer is where a server on this machine listens unless it was told
// otherwise.
const defaultServer = "https://127.0.0.1:8443"

// session is what the commands of one run share.
type session struct {
	Env
	server, token, ca, format string
	// misused is what is wrong with a command that help was asked for.
	misused error
	// api is the client, once it is made.
	api *client.Client
}

// login is what 'interdict login' remembers.
type login struct {
	Server string `json:"server"`
	// CAFingerprint pins the certificate authority, see bundle.Fingerprint;
	// empty when the system's authorities vouch for the server.
	CAFingerprint string `json:"ca_fingerprint,omitempty"`
	Token         string `json:"token"`
}

func (l login) config(roots *x509.CertPool) client.Config {
	return client.Config{Server: l.Server, Token: l.Token, CAFingerprint: l.CAFingerprint, Roots: roots}
}

// client returns a client of the admin API for the flags, the environment and
// the remembered login, in this order.
func (s *session) client() (*client.Client, error) {
	if s.api != nil {
		return s.api, nil
	}
	if err := checkFormat(s.format); err != nil {
		return nil, err
	}
	l, err := s.chooseLogin()
	if err != nil {
		return nil, err
	}
	roots, err := s.roots()
	if err != nil {
		return nil, err
	}
	s.api, err = client.New(l.config(roots))
	return s.api, err
}

// chooseLogin decides which server and token are meant.
func (s *session) chooseLogin() (login, error) {
	saved, err := s.readLogin()
	if err != nil {
		return login{}, err
	}
	l := login{Server: first(s.server, s.Getenv("INTERDICT_SERVER")), Token: first(s.token, s.Getenv("INTERDICT_TOKEN"))}
	// What was remembered for one server is never shown to another.
	if l.Server == "" || sameServer(l.Server, saved.Server) {
		l.Server = first(l.Server, saved.Server)
		l.Token = first(l.Token, saved.Token)
		l.CAFingerprint = saved.CAFingerprint
	}
	if l.Server == "" && l.Token != "" {
		l.Server = defaultServer
	}
	if l.Server != "" && l.Token == "" {
		return login{}, fault.New(fault.Invalid, "no token to show to %s", l.Server).
			WithHint("give --token or set INTERDICT_TOKEN; the server wrote a token to DIR/admin-token")
	}
	if l.Server == "" {
		return login{}, fault.New(fault.Invalid, "no server and token to work with").
			WithHint("type 'interdict login --data-dir DIR' on the server's machine, or give --server and --token")
	}
	l.CAFingerprint = first(client.TokenPin(l.Token), l.CAFingerprint)
	return l, nil
}

// roots reads the certificate authority of --ca; nil without one.
func (s *session) roots() (*x509.CertPool, error) {
	name := first(s.ca, s.Getenv("INTERDICT_CA"))
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

func (s *session) loginFile() (string, error) {
	if s.ConfigDir == "" {
		return "", errors.New("this user has no configuration directory: set HOME or XDG_CONFIG_HOME")
	}
	return filepath.Join(s.ConfigDir, "interdict", "login.json"), nil
}

// readLogin returns the remembered login, the zero value without one.
func (s *session) readLogin() (login, error) {
	name, err := s.loginFile()
	if err != nil {
		return login{}, nil //nolint:nilerr // then nothing can be remembered
	}
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return login{}, nil
	}
	if err != nil {
		return login{}, fmt.Errorf("reading the remembered login: %w", err)
	}
	var l login
	if err := json.Unmarshal(b, &l); err != nil {
		return login{}, fault.New(fault.Invalid, "the remembered login in %s is damaged", name).
			WithHint("delete the file and type 'interdict login' again").Because(err)
	}
	return l, nil
}

// writeLogin remembers a login, for the user's eyes only.
func (s *session) writeLogin(l login) (string, error) {
	name, err := s.loginFile()
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

// first returns the first of the values that is not empty.
func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
