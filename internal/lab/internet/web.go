package internet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// Bounds of the endpoints' parameters.
const (
	defaultRate = 64 << 10 // bytes a second of /slow
	maxRate     = 64 << 20
	defaultBig  = 1 << 20 // bytes of /big
	maxBig      = 4 << 30
	// slowTick is the pause between two pieces of /slow.
	slowTick = 50 * time.Millisecond
)

// httpService is an http.Server and its open socket.
type httpService struct {
	srv      *http.Server
	listener net.Listener
	tls      bool
}

func (s httpService) serve() error {
	var err error
	if s.tls {
		err = s.srv.ServeTLS(s.listener, "", "")
	} else {
		err = s.srv.Serve(s.listener)
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serving HTTP: %w", err)
	}
	return nil
}

// close closes the listener as well, in case the server has not come to serve
// it yet.
func (s httpService) close() error {
	err := s.srv.Close()
	if listenerErr := s.listener.Close(); !errors.Is(listenerErr, net.ErrClosed) {
		err = errors.Join(err, listenerErr)
	}
	return err
}

// http3Service is an http3.Server and its open socket.
type http3Service struct {
	srv  *http3.Server
	conn net.PacketConn
}

func (s http3Service) serve() error {
	err := s.srv.Serve(s.conn)
	if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serving HTTP/3: %w", err)
	}
	return nil
}

func (s http3Service) close() error {
	return errors.Join(s.srv.Close(), s.conn.Close())
}

func (in *Internet) newServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(in.cfg.Logger.Handler(), slog.LevelDebug),
	}
}

func (in *Internet) openHTTP(ctx context.Context, port int) error {
	l, err := listen(ctx, port)
	if err != nil {
		return err
	}
	in.services = append(in.services, httpService{srv: in.newServer(in.pages()), listener: l})
	return nil
}

// openHTTPS opens a port for HTTP over TLS and, over UDP, for HTTP/3.
func (in *Internet) openHTTPS(ctx context.Context, port int) error {
	l, err := listen(ctx, port)
	if err != nil {
		return err
	}
	srv := in.newServer(in.pages())
	srv.TLSConfig = in.tlsConfig()
	srv.TLSConfig.NextProtos = []string{"h2", "http/1.1"}
	in.services = append(in.services, httpService{srv: srv, listener: l, tls: true})
	pc, err := listenUDP(ctx, port)
	if err != nil {
		return err
	}
	h3 := &http3.Server{
		Handler:   in.pages(),
		TLSConfig: http3.ConfigureTLSConfig(in.tlsConfig()),
		Logger:    in.cfg.Logger,
	}
	in.services = append(in.services, http3Service{srv: h3, conn: pc})
	return nil
}

func (in *Internet) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:               tls.VersionTLS12,
		GetCertificate:           in.cfg.CA.forHello,
		EncryptedClientHelloKeys: in.ech.keys(),
	}
}

// pages are what every site of the small Internet serves:
//
//	/            a line that names the host, the protocol and the client
//	/slow?rate=  an endless download of so many bytes a second
//	/big?bytes=  a download of so many bytes
func (in *Internet) pages() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		in.cfg.Logger.DebugContext(r.Context(), "http request", "host", r.Host, "protocol", r.Proto, "client", r.RemoteAddr)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		//nolint:gosec // plain text, as the content type says
		fmt.Fprintf(w, "this is %s by %s for %s\n", r.Host, r.Proto, r.RemoteAddr)
	})
	mux.HandleFunc("/slow", slowPage)
	mux.HandleFunc("/big", bigPage)
	return mux
}

func slowPage(w http.ResponseWriter, r *http.Request) {
	rate, err := parameter(r, "rate", defaultRate, maxRate)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	rc := http.NewResponseController(w)
	piece := make([]byte, max(1, rate*int64(slowTick)/int64(time.Second)))
	tick := time.NewTicker(slowTick)
	defer tick.Stop()
	for {
		if _, err := w.Write(piece); err != nil {
			return
		}
		if err := rc.Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

func bigPage(w http.ResponseWriter, r *http.Request) {
	left, err := parameter(r, "bytes", defaultBig, maxBig)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(left, 10))
	piece := make([]byte, 64<<10)
	for left > 0 {
		n, err := w.Write(piece[:min(left, int64(len(piece)))])
		if err != nil {
			return
		}
		left -= int64(n)
	}
}

// parameter reads a number from 1 to limit out of the query.
func parameter(r *http.Request, name string, fallback, limit int64) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return fallback, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || n > limit {
		return 0, fmt.Errorf("%s must be a number from 1 to %d", name, limit)
	}
	return n, nil
}
