package cli

import (
	"interdict/internal/cli/client"
	"interdict/internal/cli/login"
	"interdict/internal/cli/output"
)

// session is what the commands of one run share.
type session struct {
	Env
	server, token, ca, format string
	// misused is what is wrong with a command that help was asked for.
	misused error
	// api is the client, once it is made.
	api *client.Client
}

// client returns a client of the admin API for the flags, the environment and
// the remembered login, in this order.
func (s *session) client() (*client.Client, error) {
	if s.api != nil {
		return s.api, nil
	}
	if err := output.CheckFormat(s.format); err != nil {
		return nil, err
	}
	from := s.login()
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

// login returns where this run's login comes from.
func (s *session) login() *login.Source {
	return &login.Source{
		Server: s.server, Token: s.token, CA: s.ca,
		Getenv: s.Getenv, ConfigDir: s.ConfigDir, Stdin: s.Stdin, Stderr: s.Stderr,
	}
}
