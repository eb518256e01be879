// Package why decides how the why page is served: the page in the user's
// browser that says which connection was refused, why, and whom to ask, and
// that lets them go on after a warning or ask for access.
//
// It is on the loopback interface alone, at /why/ID. An ID is for one user:
// whose connection a request comes by is asked of the kernel, and everybody
// else gets the answer that an id without a page gets. Root may look and not
// act. What the buttons do is decided by package appeal.
//
// Where there is no desktop, a command of the user asks the same server for what
// they were refused (see Client), as which no web page and no program that
// fetches what others tell it to can pass: see command.
//
// The page is plain HTML without scripts, and without anything from anywhere
// else. No other site can read it, frame it, or press its buttons: see guard.
package why

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"interdict/internal/access"
	"interdict/internal/agent/appeal"
	"interdict/internal/bypass"
	"interdict/internal/fault"
	"interdict/internal/fleet"
)

// DefaultListen is where the page is unless somebody says otherwise.
const DefaultListen = "127.0.0.1:4773"

// The bounds of what clients can ask for.
const (
	maxConnections     = 256
	maxConnectionsUser = 16
	maxHeader          = 16 << 10
	maxBody            = 16 << 10
	// perSecond and burst are for one user, maxUsers of whom are remembered.
	perSecond = rate.Limit(5)
	burst     = 30
	maxUsers  = 256

	headerTimeout   = 5 * time.Second
	requestTimeout  = 10 * time.Second
	idleTimeout     = 30 * time.Second
	shutdownTimeout = 3 * time.Second
)

// Appeals is what was refused, and what can be done about it, as
// appeal.Appeals knows.
type Appeals interface {
	Standing(id string) (appeal.Standing, bool)
	Of(uid uint32) []appeal.Standing
	Continue(ctx context.Context, id string, uid uint32, reason string) (bypass.Bypass, error)
	Request(ctx context.Context, id string, uid uint32, reason string) (access.Request, error)
}

// Config is what a Server needs. Every field is required.
type Config struct {
	// Listen is an address and port on 127.0.0.1.
	Listen  string
	Appeals Appeals
	// Settings returns those in force.
	Settings func() fleet.Settings
	// UID returns the user whose socket is the client's end of a
	// connection, as Peers does.
	UID func(client, server netip.AddrPort) (uint32, error)
	// Now is the clock, in whose zone times are told.
	Now func() time.Time
	Log *slog.Logger
}

// Server serves the why page.
type Server struct {
	cfg      Config
	listener net.Listener
	address  netip.AddrPort
	page     *template.Template
	limits   limits
}

// Listen opens the page's address. Where another program has the port any
// other is taken: addresses of pages are told, not remembered.
func Listen(ctx context.Context, cfg Config) (*Server, error) {
	want, err := parseAddress(cfg.Listen)
	if err != nil {
		return nil, err
	}
	tmpl, err := template.New("page").Parse(pageHTML)
	if err != nil {
		return nil, fmt.Errorf("reading the why page: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", want.String())
	if errors.Is(err, syscall.EADDRINUSE) {
		l, err = lc.Listen(ctx, "tcp4", netip.AddrPortFrom(want.Addr(), 0).String())
	}
	if err != nil {
		return nil, fmt.Errorf("opening the why page: %w", err)
	}
	address, err := netip.ParseAddrPort(l.Addr().String())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the why page: %w", err), l.Close())
	}
	return &Server{
		cfg: cfg, listener: l, address: address, page: tmpl,
		limits: limits{users: make(map[uint32]*rate.Limiter)},
	}, nil
}

func parseAddress(text string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(text)
	if err != nil || a.Addr() != netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
		return netip.AddrPort{}, fault.New(fault.Invalid, "%.64q is not an address on 127.0.0.1 with a port", text).WithHint("such as %s", DefaultListen)
	}
	return a, nil
}

// Address returns where the page is.
func (s *Server) Address() netip.AddrPort { return s.address }

// URL returns the address of the page of a refusal.
func (s *Server) URL(id string) string { return "http://" + s.address.String() + pathOf(id) }

func pathOf(id string) string { return "/why/" + id }

// Serve serves the page until ctx ends.
func (s *Server) Serve(ctx context.Context) error {
	srv := &http.Server{
		Handler: s.handler(), MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout, IdleTimeout: idleTimeout,
		BaseContext: func(net.Listener) context.Context { return ctx },
		// What clients do wrong is no news for the agent's log.
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		shutdownCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		_ = srv.Shutdown(shutdownCtx)
	})
	err := srv.Serve(&slots{
		Listener: s.listener, taken: make(map[uint32]int),
		uid: func(client netip.AddrPort) (uint32, error) { return s.cfg.UID(client, s.address) },
	})
	if stop() {
		return fmt.Errorf("serving the why page: %w", err)
	}
	<-ended
	return nil
}

// Close closes the address of a page that is not served (any more).
func (s *Server) Close() error {
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("closing the why page: %w", err)
	}
	return nil
}

// handler is everything that is served.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /why/{id}", s.look)
	mux.HandleFunc("POST /why/{id}/continue", s.act(func(ctx context.Context, id string, uid uint32, reason string) error {
		_, err := s.cfg.Appeals.Continue(ctx, id, uid, reason)
		return err
	}))
	mux.HandleFunc("POST /why/{id}/request", s.act(func(ctx context.Context, id string, uid uint32, reason string) error {
		_, err := s.cfg.Appeals.Request(ctx, id, uid, reason)
		return err
	}))
	s.handleCommands(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.missing(w, r) })
	return s.guard(mux)
}

// guard lets nothing through that is not from this machine's own pages or a
// link to them. A request for another host is one of a site whose name was
// made to lead here.
func (s *Server) guard(next http.Handler) http.Handler {
	// Sec-Fetch-Site, or Origin where there is none: only our own forms may
	// send something.
	forms := http.NewCrossOriginProtection()
	policy := contentSecurityPolicy()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		// Nobody else learns the address of a page. With no-referrer our own
		// forms would come from an origin of "null".
		h.Set("Referrer-Policy", "same-origin")
		if r.Host != s.address.String() {
			http.Error(w, "this is "+s.address.String(), http.StatusMisdirectedRequest)
			return
		}
		if err := forms.Check(r); err != nil {
			http.Error(w, "this form is not ours", http.StatusForbidden)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// user returns whose request it is. Where that is not known, or they ask too
// often, it has answered, and ok is false.
func (s *Server) user(w http.ResponseWriter, r *http.Request) (uid uint32, ok bool) {
	client, err := netip.ParseAddrPort(r.RemoteAddr)
	if err == nil {
		uid, err = s.cfg.UID(client, s.address)
	}
	if err != nil {
		s.cfg.Log.DebugContext(r.Context(), "asking whose connection it is", "error", err)
		s.missing(w, r)
		return 0, false
	}
	if !s.limits.allow(uid) {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many requests", http.StatusTooManyRequests)
		return 0, false
	}
	return uid, true
}

// visitor returns whose request for a page it is, and what they may see. Where
// that is nothing it has answered, and ok is false.
func (s *Server) visitor(w http.ResponseWriter, r *http.Request) (uid uint32, standing appeal.Standing, ok bool) {
	if uid, ok = s.user(w, r); !ok {
		return 0, appeal.Standing{}, false
	}
	standing, ok = s.cfg.Appeals.Standing(r.PathValue("id"))
	if !ok || uid != standing.UID && uid != 0 {
		s.missing(w, r)
		return 0, appeal.Standing{}, false
	}
	return uid, standing, true
}

// look shows the page.
func (s *Server) look(w http.ResponseWriter, r *http.Request) {
	if uid, standing, ok := s.visitor(w, r); ok {
		s.show(w, r, http.StatusOK, uid, &standing, nil)
	}
}

// act does what a form asks for, and shows the page as it then is.
func (s *Server) act(do func(ctx context.Context, id string, uid uint32, reason string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		uid, standing, ok := s.visitor(w, r)
		if !ok {
			return
		}
		if err := r.ParseForm(); err != nil {
			http.Error(w, "the form is too long or damaged", http.StatusBadRequest)
			return
		}
		err := do(r.Context(), standing.ID, uid, r.PostForm.Get("reason"))
		if err == nil {
			// Loading the page again must not send the form again.
			http.Redirect(w, r, pathOf(standing.ID), http.StatusSeeOther)
			return
		}
		if standing, ok = s.cfg.Appeals.Standing(standing.ID); !ok {
			s.missing(w, r)
			return
		}
		s.show(w, r, statusOf(err), uid, &standing, err)
	}
}

func statusOf(err error) int {
	switch fault.CodeOf(err) {
	case fault.Invalid:
		return http.StatusUnprocessableEntity
	case fault.TooMany:
		return http.StatusTooManyRequests
	case fault.NotFound:
		// Root may see what is not theirs to decide.
		return http.StatusForbidden
	case fault.Conflict, fault.Disabled:
		return http.StatusConflict
	default:
		return http.StatusInternalServerError
	}
}

// limits keeps users from asking too often.
type limits struct {
	mu    sync.Mutex // Guards users.
	users map[uint32]*rate.Limiter
}

func (l *limits) allow(uid uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter := l.users[uid]
	if limiter == nil {
		if len(l.users) >= maxUsers {
			clear(l.users)
		}
		limiter = rate.NewLimiter(perSecond, burst)
		l.users[uid] = limiter
	}
	return limiter.Allow()
}
