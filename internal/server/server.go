// Package server decides how the server starts, what it is made of, and how
// it ends: one TLS listener, behind it the admin API for people with a token
// and the agent API for devices with a certificate, below them the use cases
// and the store.
//
// In the data directory it keeps:
//
//	admin-token   an API token of the role administrator, mode 0600, made at
//	              the first start
//	ca.pem        the certificate authority that clients trust the server by
//	url           where commands on this machine reach the server
//
// and, unless the store is elsewhere, the database.
package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"interdict/catalog"
	"interdict/internal/bundle"
	"interdict/internal/control"
	"interdict/internal/control/appeal"
	"interdict/internal/control/credential"
	"interdict/internal/control/enrol"
	"interdict/internal/control/groups"
	"interdict/internal/control/history"
	"interdict/internal/control/indicators"
	"interdict/internal/control/inquiry"
	"interdict/internal/control/observation"
	"interdict/internal/control/rollout"
	"interdict/internal/control/usage"
	"interdict/internal/server/adminapi"
	"interdict/internal/server/agentapi"
	"interdict/internal/server/gate"
	"interdict/internal/server/request"
	"interdict/internal/store"
)

// DefaultListen is where a server listens unless it is told otherwise: port
// 8443 of every address, because agents on other machines have to reach it.
// Nothing is served without a token or a certificate but enrolment, the API's
// description and whether the server is up.
const DefaultListen = ":8443"

// The bounds of requests and connections.
const (
	maxHeader         = 32 << 10
	maxBody           = 8 << 20
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = time.Minute
	idleTimeout       = 2 * time.Minute
	// maxStreams is how many requests one HTTP/2 connection may have open.
	maxStreams = 64
	// A connection that is silent for pingAfter is asked whether it is still
	// there, and dead when it does not answer within pingTimeout.
	pingAfter   = 30 * time.Second
	pingTimeout = 15 * time.Second
	// shutdownTimeout is how long requests may take to finish at the end.
	shutdownTimeout = 10 * time.Second
)

// Config is what a server is told at its start.
type Config struct {
	// DataDir is required; it is made if it does not exist.
	DataDir string
	// Listen is the address to listen on; "" means DefaultListen.
	Listen string
	// DatabaseURL names a PostgreSQL database; "" means SQLite in DataDir.
	DatabaseURL string
	// URL is where agents reach the server; "" means the machine's name and
	// the port that is listened on.
	URL string
	// Hosts are more names and addresses that the server is reached under.
	Hosts []string
	// EventRetention is how long events and alerts are kept; 0 means for ever.
	EventRetention time.Duration
	// Version is reported as a metric.
	Version string
	// Logger is required.
	Logger *slog.Logger
}

// service is a part of the server. Start returns when it is ready, Shutdown
// when it is done.
type service struct {
	name     string
	start    func(context.Context) error
	shutdown func(context.Context) error
}

// Server is a server. Make one with New.
type Server struct {
	config   Config
	listener net.Listener
	place    place
	store    *store.Store

	control      *control.Service
	credentials  *credential.Service
	enrolment    *enrol.Service
	indicators   *indicators.Service
	observations *observation.Service
	appeals      *appeal.Service
	usage        *usage.Service
	rollouts     *rollout.Service
	inquiries    *inquiry.Service

	agents  *agentapi.API
	http    *http.Server
	serving errgroup.Group
	// started are the services that run, in the order of their start.
	started []service
	failed  chan error
}

// New returns a server that is not started.
func New(c Config) (*Server, error) {
	if c.DataDir == "" {
		return nil, errors.New("a server needs a data directory")
	}
	if c.Listen == "" {
		c.Listen = DefaultListen
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return nil, fmt.Errorf("finding the data directory: %w", err)
	}
	c.DataDir = dir
	return &Server{config: c, failed: make(chan error, 1)}, nil
}

// Run starts the server and returns when ctx ends, after it was shut down, or
// when it cannot go on.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Start(ctx); err != nil {
		return err
	}
	var err error
	select {
	case <-ctx.Done():
		s.config.Logger.InfoContext(ctx, "shutting down")
	case err = <-s.failed:
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	return errors.Join(err, s.Shutdown(end))
}

// Start returns when the server answers requests. Ctx bounds the start only.
// If it fails, whatever had started is shut down again.
func (s *Server) Start(ctx context.Context) error {
	for _, part := range []service{
		{"listener", s.listen, s.closeListener},
		{"store", s.openStore, s.closeStore},
		{"use cases", s.startControl, s.stopControl},
		{"rollouts", s.startRollouts, s.stopRollouts},
		{"observation", s.startObservation, s.stopObservation},
		{"appeals", s.startAppeals, s.stopAppeals},
		{"usage", s.startUsage, s.stopUsage},
		{"inquiries", s.startInquiries, nothing},
		{"files", s.writeFiles, nothing},
		{"http", s.serve, s.stopServing},
	} {
		if err := part.start(ctx); err != nil {
			return errors.Join(startFault(part.name, s.config, err), s.Shutdown(context.WithoutCancel(ctx)))
		}
		s.started = append(s.started, part)
	}
	s.config.Logger.InfoContext(ctx, "server is ready", "listen", s.listener.Addr().String(), "url", s.place.url,
		"data_dir", s.config.DataDir, "ca_fingerprint", bundle.Fingerprint(s.control.CA().Raw), "version", s.config.Version)
	return nil
}

// Shutdown ends what Start began, in reverse: streams end, requests finish,
// what is stored is complete.
func (s *Server) Shutdown(ctx context.Context) error {
	var errs []error
	for _, part := range slices.Backward(s.started) {
		if err := part.shutdown(ctx); err != nil {
			errs = append(errs, fmt.Errorf("shutting the %s down: %w", part.name, err))
		}
	}
	s.started = nil
	return errors.Join(errs...)
}

func nothing(context.Context) error { return nil }

// URL is where agents reach the server. It is set once Start has returned.
func (s *Server) URL() string { return s.place.url }

// LocalURL is where commands on this machine reach the server.
func (s *Server) LocalURL() string { return s.place.local }

// listen comes first, so that a port that is taken is noticed before anything
// is changed, and so that the port is known if it was 0.
func (s *Server) listen(ctx context.Context) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.config.Listen)
	if err != nil {
		return err
	}
	p, err := findPlace(ctx, l.Addr(), s.config)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	s.listener, s.place = l, p
	return nil
}

func (s *Server) closeListener(context.Context) error {
	// The HTTP server has closed it, if it got that far.
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func (s *Server) openStore(ctx context.Context) error {
	if err := makeDataDir(s.config.DataDir); err != nil {
		return err
	}
	c := store.Config{URL: s.config.DatabaseURL, Logger: s.config.Logger}
	if c.URL == "" {
		c.Dir = s.config.DataDir
	}
	var err error
	if s.store, err = store.Open(ctx, c); err != nil && c.URL != "" {
		return databaseFault(err)
	}
	return err
}

func (s *Server) closeStore(context.Context) error { return s.store.Close() }

func (s *Server) startControl(ctx context.Context) error {
	apps, err := catalog.Load()
	if err != nil {
		return err
	}
	s.control, err = control.New(ctx, control.Config{
		Store: s.store, Catalog: apps, URL: s.place.url, Hosts: s.place.hosts, Logger: s.config.Logger,
	})
	if err != nil {
		return err
	}
	s.credentials = credential.New(credential.Config{Control: s.control})
	s.enrolment = enrol.New(enrol.Config{Control: s.control, Logger: s.config.Logger})
	s.indicators = indicators.New(indicators.Config{Control: s.control})
	return s.control.Start(ctx)
}

func (s *Server) stopControl(ctx context.Context) error { return s.control.Shutdown(ctx) }

func (s *Server) startObservation(ctx context.Context) error {
	var err error
	s.observations, err = observation.New(observation.Config{
		Control: s.control, Store: s.store, Retention: s.config.EventRetention, Observed: s.rollouts.Observed, Logger: s.config.Logger,
	})
	if err != nil {
		return err
	}
	return s.observations.Start(ctx)
}

func (s *Server) stopObservation(ctx context.Context) error { return s.observations.Shutdown(ctx) }

// serve starts to answer requests.
func (s *Server) serve(context.Context) error {
	logger := s.config.Logger
	admin, err := adminapi.New(adminapi.Config{
		Control: s.control, Credentials: s.credentials, Enrolment: s.enrolment,
		Groups: groups.New(groups.Config{Control: s.control}), History: history.New(history.Config{Control: s.control}),
		Indicators:   s.indicators,
		Observations: s.observations, Appeals: s.appeals, Usage: s.usage, Rollouts: s.rollouts, Inquiries: s.inquiries,
		Gate: gate.New(time.Now), Logger: logger,
	})
	if err != nil {
		return err
	}
	s.agents = agentapi.New(agentapi.Config{
		Control: s.control, Enrolment: s.enrolment, Observations: s.observations, Appeals: s.appeals, Usage: s.usage,
		Inquiries: s.inquiries, Gate: gate.New(time.Now), Logger: logger,
	})
	m := newMetrics(s.config.Version, s.agents, s.control)
	m.registry.MustRegister(requestCollector{s.appeals})

	mux := http.NewServeMux()
	mux.Handle(adminapi.Prefix+"/", admin)
	mux.Handle(bundle.PathPrefix+"/", s.agents)
	mux.HandleFunc("GET /healthz", healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", admin.Require(control.RoleViewer, m.handler()))
	mux.HandleFunc("/", nowhere)

	conf, err := s.tlsConfig()
	if err != nil {
		return err
	}
	s.http = &http.Server{
		Handler:           request.Wrap(request.Config{Handler: mux, Logger: logger, MaxBody: maxBody, Observe: m.observe}),
		TLSConfig:         conf,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams,
			SendPingTimeout:      pingAfter,
			PingTimeout:          pingTimeout,
			WriteByteTimeout:     pingTimeout,
		},
	}
	s.http.RegisterOnShutdown(s.agents.Drain)
	s.serving.Go(func() error {
		err := s.http.ServeTLS(s.listener, "", "")
		if !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("serving: %w", err)
		}
		return nil
	})
	return nil
}

func (s *Server) stopServing(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		// Some request does not end in time; ours do, so it is a client's.
		err = s.http.Close()
	}
	return errors.Join(err, s.serving.Wait())
}

// tlsConfig asks clients for a device certificate but does not insist: the
// agent API does. It verifies what they show itself, so that a device whose
// certificate has expired can still renew it.
func (s *Server) tlsConfig() (*tls.Config, error) {
	devices := x509.NewCertPool()
	devices.AddCert(s.control.CA())
	hosts := s.place.hosts
	// Fail now rather than at the first connection.
	if _, err := s.control.ServerCertificate(hosts); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		ClientAuth: tls.RequestClientCert,
		// Tells clients which of their certificates is meant.
		ClientCAs:        devices,
		VerifyConnection: agentapi.VerifyClient(s.control.CA(), time.Now),
		// Asked at every handshake, so that a renewed certificate is used
		// without a restart.
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, err := s.control.ServerCertificate(hosts)
			return &cert, err
		},
	}, nil
}
