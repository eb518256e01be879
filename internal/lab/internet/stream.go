package internet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// bannerText is what the server that speaks first says.
const bannerText = "220 mail.example ready\r\n"

// streamService serves a TCP port, one goroutine a connection.
type streamService struct {
	ctx      context.Context
	cancel   context.CancelFunc
	listener net.Listener
	handle   func(context.Context, net.Conn) error
	failed   func(error)

	mu      sync.Mutex
	conns   map[net.Conn]struct{} // guarded by mu
	workers sync.WaitGroup
}

// openStream opens a TCP port. The handler owns the connection's bytes, the
// service closes it; the handler's context ends when the service is closed.
func (in *Internet) openStream(ctx context.Context, port int, handle func(context.Context, net.Conn) error) error {
	l, err := listen(ctx, port)
	if err != nil {
		return err
	}
	s := &streamService{listener: l, handle: handle, conns: make(map[net.Conn]struct{})}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.failed = func(err error) { in.cfg.Logger.DebugContext(s.ctx, "serving a stream", "port", port, "err", err) }
	in.services = append(in.services, s)
	return nil
}

func (s *streamService) serve() error {
	defer s.workers.Wait()
	for {
		c, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accepting a connection: %w", err)
		}
		s.track(c)
		s.workers.Go(func() {
			defer s.forget(c)
			if err := s.handle(s.ctx, c); err != nil {
				s.failed(err)
			}
		})
	}
}

// track notes an open connection; one that comes after close is closed.
func (s *streamService) track(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		c.Close()
	}
	s.conns[c] = struct{}{}
}

func (s *streamService) forget(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Close()
	delete(s.conns, c)
}

func (s *streamService) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancel()
	for c := range s.conns {
		c.Close()
	}
	return s.listener.Close()
}

// echo sends back what it gets.
func echo(_ context.Context, c net.Conn) error {
	_, err := io.Copy(c, c)
	return err
}

// banner speaks first, then sends back what it gets.
func banner(ctx context.Context, c net.Conn) error {
	if _, err := io.WriteString(c, bannerText); err != nil {
		return err
	}
	return echo(ctx, c)
}
