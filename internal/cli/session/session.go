// Package session decides what the commands of one run share: which server they
// speak to and by which token, the format they print in, how they list and show
// what the API has, what things are called that the API refers to by id, and
// how a change is told and waited for. It knows no command.
package session

import (
	"io"

	"interdict/internal/cli/client"
	"interdict/internal/cli/login"
	"interdict/internal/cli/output"
)

// Env is what a command knows of the world outside.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Getenv looks up an environment variable.
	Getenv func(string) string
	// ConfigDir is the user's configuration directory, in which
	// interdict/login.json is kept. Empty where there is none.
	ConfigDir string
	// Terminal is true when standard error is a terminal, so that progress
	// can be shown in place.
	Terminal bool
}

// Session is what the commands of one run share. Its fields are filled in
// before a command runs; a session is for one command after the other.
type Session struct {
	Env
	// Server, Token and CA are what was typed, "" for nothing.
	Server, Token, CA string
	// Format is how data is printed, one of the formats of package output
	// once [Session.Client] has returned a client.
	Format string

	// api is the client, once it is made.
	api *client.Client
}

// Client returns the client of the admin API for the flags, the environment and
// the remembered login, in this order. It makes sure of the format as well, so
// that nothing is done whose outcome cannot be printed.
func (s *Session) Client() (*client.Client, error) {
	if s.api != nil {
		return s.api, nil
	}
	if err := output.CheckFormat(s.Format); err != nil {
		return nil, err
	}
	from := s.Login()
	l, err := from.Choose()
	if err != nil {
		return nil, err
	}
	roots, err := from.Roots()
	if err != nil {
		return nil, err
	}
	s.api, err = client.New(l.Config(roots))
	return s.api, err
}

// Login returns where this run's login comes from.
func (s *Session) Login() *login.Source {
	return &login.Source{
		Server: s.Server, Token: s.Token, CA: s.CA,
		Getenv: s.Getenv, ConfigDir: s.ConfigDir, Stdin: s.Stdin, Stderr: s.Stderr,
	}
}
