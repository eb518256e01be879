package command

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"interdict/internal/agent"
)

func TestOutcomesAreToldByTheirErrors(t *testing.T) {
	dial := func(errno syscall.Errno) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errno)}
	}
	tests := []struct {
		name string
		err  error
		want outcome
	}{
		{"nothing went wrong", nil, outcomeConnected},
		{"the server does not like the handshake", fmt.Errorf("remote error: %w", tls.AlertError(40)), outcomeConnected},
		{"the server does not speak TLS", tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, outcomeConnected},
		{"the name was refused", &net.DNSError{Err: "no such host", IsNotFound: true}, outcomeRefused},
		{"nobody answers look-ups", &net.DNSError{Err: "i/o timeout", IsTimeout: true}, outcomeUntried},
		{"there is no network to ask in", &net.DNSError{Err: "network is unreachable"}, outcomeUntried},
		{"the address was refused", dial(syscall.ECONNREFUSED), outcomeRefused},
		{"the connection was reset", dial(syscall.ECONNRESET), outcomeRefused},
		{"the connection was ended", io.EOF, outcomeRefused},
		{"there is no route", dial(syscall.ENETUNREACH), outcomeUntried},
		{"the host does not answer", dial(syscall.EHOSTUNREACH), outcomeUntried},
		{"it took too long", context.DeadlineExceeded, outcomeUntried},
	}
	for _, test := range tests {
		if got := outcomeOf(test.err); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
}

func TestRulesAndTrialHaveToAgree(t *testing.T) {
	tests := []struct {
		name               string
		refused, enforcing bool
		met                outcome
		// says is in the error; empty for none.
		says string
	}{
		{"refused as the rules say", true, true, outcomeRefused, ""},
		{"let through as the rules say", false, true, outcomeConnected, ""},
		{"a refusal that did not happen", true, true, outcomeConnected, "yet it connected"},
		{"a failure that the rules do not explain", false, true, outcomeRefused, "yet it failed"},
		{"no network is no refusal", true, true, outcomeUntried, "could not be tried"},
		{"no network lets nothing through", false, true, outcomeUntried, "could not be tried"},
		{"nothing is enforced", true, false, outcomeConnected, ""},
	}
	for _, test := range tests {
		err := disagreement(testResult{
			Verdict: agent.Explanation{Refused: test.refused, Enforcing: test.enforcing}, Attempt: &attempt{Outcome: test.met},
		})
		if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.says)
		}
	}
}

func TestARealAttemptIsJudged(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netip.ParseAddrPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if conn, acceptErr := listener.Accept(); acceptErr == nil {
			_ = conn.Close()
		}
	}()
	at := target{addr: addr.Addr(), port: addr.Port(), path: "/"}
	if got := at.try(t.Context(), at.resolve(t.Context())); got.Outcome != outcomeRefused || got.Stage != "http" {
		t.Errorf("hung up on, got %+v", got)
	}
	_ = listener.Close()
	if got := at.try(t.Context(), at.resolve(t.Context())); got.Outcome != outcomeRefused || got.Stage != "connection" {
		t.Errorf("with nobody there, got %+v", got)
	}
	if got := at.try(t.Context(), lookup{err: errors.New("no network")}); got.Outcome != outcomeUntried {
		t.Errorf("without a look-up, got %+v", got)
	}
}
