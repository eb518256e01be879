package cli

import (
	"bufio"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"interdict/internal/bundle"
	"interdict/internal/cli/client"
	"interdict/internal/fault"
)

// The files that a server keeps in its data directory for its administrator.
const (
	fileAdminToken = "admin-token"
	fileURL        = "url"
)

func newLoginCmd(s *session) *cobra.Command {
	var dataDir, fingerprint string
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Remember a server and a token for the commands that follow",
		Long: `Login checks that the server accepts a token and remembers both, with the
fingerprint of the server's certificate authority, in interdict/login.json below
the user's configuration directory, readable by the user only.

On the server's machine, --data-dir reads address, token and fingerprint from
the files that the server wrote. Elsewhere give --server, and the token with
--token, INTERDICT_TOKEN or on standard input. The fingerprint is part of the
token that the server wrote; for another token give --fingerprint or --ca.`,
		Example: `  interdict login --data-dir /var/lib/interdict
  ssh server cat /var/lib/interdict/admin-token | interdict login --server https://interdict.example.com:8443`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := s.gatherLogin(dataDir, fingerprint)
			if err != nil {
				return err
			}
			roots, err := s.roots()
			if err != nil {
				return err
			}
			c, err := client.New(l.config(roots))
			if err != nil {
				return err
			}
			if _, err = c.Get(cmd.Context(), "/features", nil); err != nil {
				return err
			}
			name, err := s.writeLogin(l)
			if err != nil {
				return err
			}
			fmt.Fprintf(s.Stderr, "logged in to %s; remembered in %s\n", l.Server, name)
			return nil
		},
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", "", "the data `directory` of a server on this machine")
	cmd.Flags().StringVar(&fingerprint, "fingerprint", "", "SHA-256 of the server's certificate authority in `hex`")
	return cmd
}

// gatherLogin puts a login together from flags, environment, data directory
// and standard input.
func (s *session) gatherLogin(dataDir, fingerprint string) (login, error) {
	l := login{Server: s.server, Token: s.token, CAFingerprint: strings.ToLower(fingerprint)}
	if b, err := hex.DecodeString(fingerprint); err != nil || fingerprint != "" && len(b) != 32 {
		return login{}, fault.New(fault.Invalid, "the fingerprint is not a SHA-256 in hexadecimal")
	}
	if err := l.readDataDir(dataDir); err != nil {
		return login{}, err
	}
	// What was typed wins over the environment, and so do the files it names.
	l.Server = first(l.Server, s.Getenv("INTERDICT_SERVER"))
	l.Token = first(l.Token, s.Getenv("INTERDICT_TOKEN"))
	if l.Server == "" {
		return login{}, fault.New(fault.Invalid, "which server?").
			WithHint("give --data-dir DIR on the server's machine, or --server URL")
	}
	if l.Token == "" {
		fmt.Fprintln(s.Stderr, "reading the token from standard input")
		line, _ := bufio.NewReader(s.Stdin).ReadString('\n')
		l.Token = strings.TrimSpace(line)
	}
	if l.Token == "" {
		return login{}, fault.New(fault.Invalid, "which token?").
			WithHint("give --token, set INTERDICT_TOKEN, or write it to standard input")
	}
	l.CAFingerprint = first(l.CAFingerprint, client.TokenPin(l.Token))
	if l.CAFingerprint != "" {
		return l, nil
	}
	var err error
	l.CAFingerprint, err = s.fileFingerprint()
	return l, err
}

// readDataDir takes the token from a server's data directory, and the address
// unless another was given. An empty dir does nothing.
func (l *login) readDataDir(dir string) (err error) {
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
func (s *session) fileFingerprint() (string, error) {
	name := first(s.ca, s.Getenv("INTERDICT_CA"))
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
		WithHint("the server writes it at its first start; has it started, and is this its --data-dir?")
}
