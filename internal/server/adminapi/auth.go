package adminapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"interdict/internal/control"
	"interdict/internal/fault"
	"interdict/internal/problem"
	"interdict/internal/server/request"
)

type actorKey struct{}

// actor returns who asks. Require has put it there.
func actor(ctx context.Context) control.Actor {
	by, _ := ctx.Value(actorKey{}).(control.Actor)
	return by
}

// Require lets only those through to next who show an API token with at least
// the role. Who cannot is told nothing but that; who keeps trying is told to
// wait; and the audit log hears of it.
func (a *API) Require(role control.Role, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		by, err := a.authenticate(r)
		if err != nil {
			a.unauthorized(w, r, err)
			return
		}
		if !by.Role.Allows(role) {
			a.refused(r.Context(), by, r.Method+" "+r.URL.Path, "the role "+string(role)+" is needed")
			request.Fail(w, r, a.logger, fault.New(fault.Forbidden, "this needs the role %s", role))
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), actorKey{}, by)))
	})
}

// authenticate returns whose token the request carries.
func (a *API) authenticate(r *http.Request) (control.Actor, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if token == "" || !strings.EqualFold(scheme, "Bearer") {
		return control.Actor{}, fault.New(fault.Unauthorized, "an API token is needed").
			WithHint("send it as Authorization: Bearer TOKEN")
	}
	// After the dot comes the fingerprint of the certificate authority, by
	// which the client knew the server. It is no secret and no part of one.
	secret, _, _ := strings.Cut(strings.TrimSpace(token), ".")
	by, err := a.credentials.AuthenticateToken(r.Context(), secret)
	by.Source = request.Source(r)
	return by, err
}

func (a *API) unauthorized(w http.ResponseWriter, r *http.Request, err error) {
	if fault.CodeOf(err) != fault.Unauthorized {
		request.Fail(w, r, a.logger, err)
		return
	}
	if wait := a.gate.Failed(request.Source(r)); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)))
		err = fault.New(fault.TooMany, "too many attempts without a valid token").WithHint("try again in %s", wait)
	} else {
		unknown := control.Actor{Kind: control.ActorUnknown, Source: request.Source(r)}
		a.refused(r.Context(), unknown, r.Method+" "+r.URL.Path, err.Error())
		w.Header().Set("WWW-Authenticate", `Bearer realm="interdict"`)
	}
	problem.New(err, request.ID(r.Context())).Write(w)
}

// refused tells the audit log.
func (a *API) refused(ctx context.Context, by control.Actor, action, reason string) {
	if err := a.control.Refused(ctx, control.Attempt{Actor: by, Action: action, Reason: reason}); err != nil {
		a.logger.ErrorContext(ctx, "writing to the audit log", "request_id", request.ID(ctx), "error", err)
	}
}
