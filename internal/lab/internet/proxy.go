package internet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
)

// openProxy opens the HTTP proxy.
func (in *Internet) openProxy(ctx context.Context) error {
	l, err := listen(ctx, PortProxy)
	if err != nil {
		return err
	}
	onward := &http.Transport{DialContext: in.dial, DisableKeepAlives: true}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in.cfg.Logger.DebugContext(r.Context(), "proxy request", "method", r.Method, "target", r.RequestURI, "client", r.RemoteAddr)
		switch {
		case r.Method == http.MethodConnect:
			in.tunnel(w, r)
		case r.URL.IsAbs():
			forward(w, r, onward)
		default:
			http.Error(w, "this is a proxy", http.StatusBadRequest)
		}
	})
	in.services = append(in.services, httpService{srv: in.newServer(handler), listener: l})
	return nil
}

// forward answers an absolute-form request (RFC 9112, section 3.2.2).
func forward(w http.ResponseWriter, r *http.Request, onward http.RoundTripper) {
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.Header.Del("Proxy-Connection")
	resp, err := onward.RoundTrip(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	// The client sees a body that ends early; there is nobody else to tell.
	_, _ = io.Copy(w, resp.Body)
}

// tunnel answers CONNECT (RFC 9110, section 9.3.6).
func (in *Internet) tunnel(w http.ResponseWriter, r *http.Request) {
	far, err := in.dial(r.Context(), "tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer far.Close()
	near, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer near.Close()
	if _, err := io.WriteString(near, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	splice(near, buffered.Reader, far)
}

// splice copies both ways until both are done. What the near end sends is
// read through its buffer, which may hold some of it already.
func splice(near net.Conn, fromNear io.Reader, far net.Conn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyAndEnd(far, fromNear)
	}()
	copyAndEnd(near, far)
	<-done
}

// copyAndEnd copies until the source ends, then ends the sink's stream. After
// an error both directions are of no use: the deadline wakes the other copy.
func copyAndEnd(to net.Conn, from io.Reader) {
	_, err := io.Copy(to, from)
	if tcp, ok := to.(*net.TCPConn); ok && err == nil {
		err = tcp.CloseWrite()
	}
	if err != nil {
		to.Close()
	}
}

// SOCKS protocol version 5, RFC 1928.
const (
	socksVersion      = 5
	socksNoAuth       = 0
	socksConnect      = 1
	socksIPv4         = 1
	socksName         = 3
	socksIPv6         = 4
	socksSucceeded    = 0
	socksUnreachable  = 4
	socksNotSupported = 7
)

// socks serves one client of the SOCKS5 proxy.
func (in *Internet) socks(ctx context.Context, near net.Conn) error {
	r := bufio.NewReader(near)
	target, err := socksRequest(r, near)
	if err != nil {
		return fmt.Errorf("reading a SOCKS request: %w", err)
	}
	in.cfg.Logger.DebugContext(ctx, "socks request", "target", target, "client", near.RemoteAddr().String())
	far, err := in.dial(ctx, "tcp", target)
	if err != nil {
		return errors.Join(fmt.Errorf("serving a SOCKS request: %w", err), socksReply(near, socksUnreachable))
	}
	defer far.Close()
	if err := socksReply(near, socksSucceeded); err != nil {
		return err
	}
	splice(near, r, far)
	return nil
}

// socksRequest takes the client through the greeting and returns the address
// it asks for, as host:port.
func socksRequest(r *bufio.Reader, w io.Writer) (string, error) {
	var greeting [2]byte
	if _, err := io.ReadFull(r, greeting[:]); err != nil {
		return "", err
	}
	if greeting[0] != socksVersion {
		return "", fmt.Errorf("version %d is not 5", greeting[0])
	}
	if _, err := r.Discard(int(greeting[1])); err != nil {
		return "", err
	}
	if _, err := w.Write([]byte{socksVersion, socksNoAuth}); err != nil {
		return "", err
	}
	var request [4]byte
	if _, err := io.ReadFull(r, request[:]); err != nil {
		return "", err
	}
	if request[1] != socksConnect {
		return "", errors.Join(fmt.Errorf("command %d is not supported", request[1]), socksReply(w, socksNotSupported))
	}
	host, err := socksHost(r, request[3])
	if err != nil {
		return "", err
	}
	var port [2]byte
	if _, err := io.ReadFull(r, port[:]); err != nil {
		return "", err
	}
	return net.JoinHostPort(host, fmt.Sprint(int(port[0])<<8|int(port[1]))), nil
}

func socksHost(r *bufio.Reader, kind byte) (string, error) {
	var size int
	switch kind {
	case socksIPv4:
		size = net.IPv4len
	case socksIPv6:
		size = net.IPv6len
	case socksName:
		n, err := r.ReadByte()
		if err != nil {
			return "", err
		}
		size = int(n)
	default:
		return "", fmt.Errorf("address type %d is not known", kind)
	}
	host := make([]byte, size)
	if _, err := io.ReadFull(r, host); err != nil {
		return "", err
	}
	if kind == socksName {
		return string(host), nil
	}
	return net.IP(host).String(), nil
}

// socksReply tells the client how its request went. The bound address is not
// told.
func socksReply(w io.Writer, code byte) error {
	_, err := w.Write([]byte{socksVersion, code, 0, socksIPv4, 0, 0, 0, 0, 0, 0})
	return err
}
