package uplink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"

	"interdict/internal/agent/state"
	"interdict/internal/bundle"
	"interdict/internal/fault"
)

// Stage is a step on the way to the server.
type Stage string

// The stages, in their order. Those that are not needed, such as StageLookup
// for an address, are not gone through.
const (
	StageLookup  Stage = "look-up"
	StageConnect Stage = "connection"
	StageTLS     Stage = "tls"
	StageHTTP    Stage = "http"
)

// Reached says how far an attempt to reach the server came.
type Reached struct {
	// Stage is where it failed, StageHTTP if it did not.
	Stage Stage
	// Address is the one that was tried last: the server's, or a proxy's.
	Address string
	// Took is the time it took in all.
	Took time.Duration
	// Authority is, when TLS failed, who signed the certificate that was shown
	// instead of the server's.
	Authority string
	// Now is the server's clock at the time of Asked, in whole seconds; zero
	// if it did not say.
	Now, Asked time.Time
	Err        error
}

// Reach asks the server for something small in a device's name.
func Reach(ctx context.Context, id state.Identity) Reached {
	return reach(ctx, newClient(id.ServerURL, mutual(id, func() *tls.Certificate { return &id.Certificate }), nil))
}

func reach(ctx context.Context, c *client) Reached {
	defer c.close()
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	progress := progress{r: Reached{Stage: StageLookup}}
	began := time.Now()
	resp, err := c.open(httptrace.WithClientTrace(ctx, progress.trace()), http.MethodGet, bundle.PathRequests, nil, nil)
	if err == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
		_ = resp.Body.Close()
	}
	r := progress.now()
	r.Took = time.Since(began)
	if resp != nil {
		r.Now, _ = http.ParseTime(resp.Header.Get("Date"))
		r.Asked = began
	}
	// A server that does not know the question is a server all the same.
	if fault.CodeOf(err) != fault.NotFound {
		r.Err = err
	}
	var stranger *tls.CertificateVerificationError
	if errors.As(err, &stranger) && len(stranger.UnverifiedCertificates) > 0 {
		r.Authority = describe(stranger.UnverifiedCertificates)
	}
	return r
}

// describe names who signed a chain, and its last certificate's fingerprint.
func describe(chain []*x509.Certificate) string {
	last := chain[len(chain)-1]
	return fmt.Sprintf("%s (SHA-256 %.16s...)", last.Issuer, bundle.Fingerprint(last.Raw))
}

// progress notes how far a request has come.
type progress struct {
	// mu guards r: connections may be tried at the same time.
	mu sync.Mutex
	r  Reached
}

func (p *progress) now() Reached {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.r
}

func (p *progress) at(stage Stage, address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.r.Stage = stage
	if address != "" {
		p.r.Address = address
	}
}

func (p *progress) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		DNSStart:          func(i httptrace.DNSStartInfo) { p.at(StageLookup, i.Host) },
		ConnectStart:      func(_, address string) { p.at(StageConnect, address) },
		TLSHandshakeStart: func() { p.at(StageTLS, "") },
		GotConn:           func(httptrace.GotConnInfo) { p.at(StageHTTP, "") },
	}
}
