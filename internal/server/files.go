package server

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"interdict/internal/bundle"
	"interdict/internal/control"
	"interdict/internal/control/credential"
)

// The names of files in the data directory, see the package comment.
const (
	fileAdminToken = "admin-token"
	fileCA         = "ca.pem"
	fileURL        = "url"
)

// adminTokenName is what the audit log calls the admin token.
const adminTokenName = "admin-token"

func makeDataDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the data directory: %w", err)
	}
	return nil
}

// writeFiles writes what an administrator on this machine needs. The token is
// made at the first start only, which is one without ca.pem: who deletes the
// token later does not want another. With ca.pem deleted as well, the next
// start makes a new one.
func (s *Server) writeFiles(ctx context.Context) error {
	ca := s.control.CA()
	token, err := os.ReadFile(s.file(fileAdminToken))
	switch {
	case errors.Is(err, fs.ErrNotExist) && !s.exists(fileCA):
		token = []byte(credential.NewAPISecret() + "." + bundle.Fingerprint(ca.Raw) + "\n")
		if err = writeFile(s.file(fileAdminToken), token, 0o600); err != nil {
			return err
		}
		s.config.Logger.InfoContext(ctx, "first start, made an admin token",
			"file", s.file(fileAdminToken), "next", "interdict login --data-dir "+s.config.DataDir)
	case errors.Is(err, fs.ErrNotExist):
		token = nil
	case err != nil:
		return fmt.Errorf("reading the admin token: %w", err)
	}
	if secret, _, _ := strings.Cut(strings.TrimSpace(string(token)), "."); secret != "" {
		// The file is the authority: a database that was set up anew, or
		// lost the token in a crash, learns it again.
		if err := s.credentials.EnsureAPIToken(ctx, adminTokenName, secret, control.RoleAdministrator); err != nil {
			return fmt.Errorf("admitting the admin token: %w", err)
		}
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})
	if err := writeFile(s.file(fileCA), block, 0o644); err != nil {
		return err
	}
	return writeFile(s.file(fileURL), []byte(s.place.local+"\n"), 0o644)
}

func (s *Server) file(name string) string { return filepath.Join(s.config.DataDir, name) }

func (s *Server) exists(name string) bool {
	_, err := os.Stat(s.file(name))
	return err == nil
}

// writeFile writes a file that is whole and has its mode from the first
// moment on. A file with this content already is left alone.
func writeFile(name string, content []byte, mode fs.FileMode) error {
	if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, content) {
		return nil
	}
	tmp, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}
