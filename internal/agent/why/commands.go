package why

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"interdict/internal/access"
	"interdict/internal/agent/appeal"
	"interdict/internal/fault"
)

// headerCommand has to be there, with any value, on what a command asks. A web
// page cannot send it to another site unless that agrees to it first, which
// this one never does.
const headerCommand = "Interdict-Command"

const pathRefusals = "/refusals"

// Refusal is what the user was refused, as commands are told.
type Refusal struct {
	ID string `json:"id"`
	// URL is the address of its page.
	URL string `json:"url"`
	// Time is when it last happened, Since when it first did.
	Time  time.Time `json:"time"`
	Since time.Time `json:"since"`
	// Program is the path of the program, empty if it is not known.
	Program string `json:"program,omitempty"`
	// App is the name of the app, empty for a host of none.
	App  string `json:"app,omitempty"`
	Host string `json:"host,omitempty"`
	Port uint16 `json:"port,omitempty"`
	// Warned is set where the user may go on.
	Warned      bool `json:"warned"`
	CanContinue bool `json:"can_continue"`
	CanRequest  bool `json:"can_request"`
	// Until is when the user's bypass or approval ends that counts now.
	Until time.Time `json:"until,omitzero"`
	// Request is what has become of the user's request for access, empty for
	// none, and Note what administrators wrote.
	Request access.State `json:"request,omitempty"`
	Note    string       `json:"note,omitempty"`
}

// list is the answer to a command.
type list struct {
	Refusals []Refusal `json:"refusals"`
}

// problem is the answer to a command where something is wrong.
type problem struct {
	Code    fault.Code `json:"code"`
	Message string     `json:"message"`
	Hint    string     `json:"hint,omitempty"`
}

func (s *Server) refusalOf(standing *appeal.Standing) Refusal {
	e := &standing.Event
	r := Refusal{
		ID: standing.ID, URL: s.URL(standing.ID), Time: e.Time.UTC(), Since: standing.Since.UTC(),
		Program: e.Process.Path, Host: standing.Host(), Port: e.Destination.Port, Warned: standing.Warned(),
		CanContinue: standing.CanContinue, CanRequest: standing.CanRequest,
	}
	if e.AppID != "" {
		r.App = standing.Name()
	}
	if q := standing.Request; q != nil {
		r.Request, r.Note = q.State, q.Note
		if q.State == access.StateApproved {
			r.Until = q.Until
		}
	}
	if standing.Bypass != nil {
		r.Until = standing.Bypass.Until
	}
	return r
}

func (s *Server) handleCommands(mux *http.ServeMux) {
	mux.HandleFunc("GET "+pathRefusals, s.command(func(_ context.Context, _ *http.Request, uid uint32) ([]appeal.Standing, error) {
		return s.cfg.Appeals.Of(uid), nil
	}))
	mux.HandleFunc("POST "+pathRefusals+"/{id}/continue", s.command(func(ctx context.Context, r *http.Request, uid uint32) ([]appeal.Standing, error) {
		_, err := s.cfg.Appeals.Continue(ctx, r.PathValue("id"), uid, r.PostFormValue("reason"))
		return s.one(r.PathValue("id"), err)
	}))
	mux.HandleFunc("POST "+pathRefusals+"/{id}/request", s.command(func(ctx context.Context, r *http.Request, uid uint32) ([]appeal.Standing, error) {
		_, err := s.cfg.Appeals.Request(ctx, r.PathValue("id"), uid, r.PostFormValue("reason"))
		return s.one(r.PathValue("id"), err)
	}))
}

// one is the refusal after something was done about it.
func (s *Server) one(id string, err error) ([]appeal.Standing, error) {
	if err != nil {
		return nil, err
	}
	standing, ok := s.cfg.Appeals.Standing(id)
	if !ok {
		return nil, fault.New(fault.NotFound, "there is no such refusal")
	}
	return []appeal.Standing{standing}, nil
}

// command answers a command of a user. What a browser sent, or anything else
// that does not say that it is one, gets the answer that an address without a
// page gets.
func (s *Server) command(do func(ctx context.Context, r *http.Request, uid uint32) ([]appeal.Standing, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h := r.Header
		if h.Get(headerCommand) == "" || h.Get("Origin") != "" || h.Get("Sec-Fetch-Site") != "" {
			s.missing(w, r)
			return
		}
		uid, ok := s.user(w, r)
		if !ok {
			return
		}
		standings, err := do(r.Context(), r, uid)
		if err != nil {
			reply(w, statusOf(err), problemOf(err))
			return
		}
		l := list{Refusals: make([]Refusal, len(standings))}
		for i := range standings {
			l.Refusals[i] = s.refusalOf(&standings[i])
		}
		reply(w, http.StatusOK, l)
	}
}

func reply(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// Whoever does not read the answer does not want it.
	_ = json.NewEncoder(w).Encode(answer)
}

func problemOf(err error) problem {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return problem{f.Code, f.Error(), f.Hint}
	}
	return problem{Code: fault.Internal, Message: "the agent could not do it; its log says why"}
}
