package command

import (
	"bytes"
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
	"text/tabwriter"
	"time"

	"interdict/internal/agent"
	"interdict/internal/bundle"
	"interdict/internal/bypass"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
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
			Verdict: agent.Explanation{Refused: test.refused, Answer: bundle.Answer{Enforcing: test.enforcing}}, Attempt: &attempt{Outcome: test.met},
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

func TestTheVerdictIsSaidFirstAndThenWhy(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	inForce := bundle.Answer{
		Enforcing: true, Listening: true, Mode: fleet.ModeBlock, Version: 7, Step: "none",
		Settings: []fleet.SettingReport{{Setting: fleet.SettingNetworkProtection, Value: "block", Channel: fleet.ChannelServer}},
	}
	refused := inForce
	refused.Action, refused.Step, refused.Indicator, refused.IndicatorID, refused.AppID = indicator.ActionBlock, "domain", "t.example", "tunes:t.example", "tunes"
	warned, audited, spared, bypassed, deaf, suspended, disabled := refused, refused, inForce, refused, refused, refused, inForce
	warned.Action = indicator.ActionWarn
	audited.Action, audited.Mode = indicator.ActionAudit, fleet.ModeAudit
	spared.Step, spared.AppID, spared.OutOfScope = "spared", "aws", []string{"custom-1", "custom-2"}
	bypassed.Action, bypassed.Step, bypassed.Bypass = indicator.ActionAllow, "bypassed", &bypass.Bypass{Until: at}
	deaf.Listening, deaf.Health = false, []fleet.HealthItem{{Code: "capture_missing", Text: "no queue"}}
	suspended.Enforcing = false
	disabled.Step, disabled.Mode = "disabled", fleet.ModeDisabled
	logged := inForce
	logged.LastEvent = &event.Event{EventID: event.IDBlocked, Action: event.ActionBlocked, LastSeen: at, Destination: event.Destination{Host: "t.example"}}
	tests := []struct {
		name   string
		answer bundle.Answer
		// refused is the upshot; says are lines of the output, the first of
		// them first.
		refused bool
		says    []string
	}{
		{"nothing applies", inForce, false, []string{"anna may connect to t.example.", "no indicator is for it", "block, by channel server, policy p-1, bundle 7"}},
		{"refused", refused, true, []string{"anna is refused t.example.", `indicator "t.example" (tunes:t.example) is for it, of the app Tunes`}},
		{"warned", warned, true, []string{"anna is warned of t.example: refused until they say that they go on."}},
		{"audited", audited, false, []string{"anna may connect to t.example, which is recorded (1125).", "audit, by channel server"}},
		{"spared", spared, false, []string{"anna may connect to t.example.", "the name belongs to Tunes, which is left alone", "custom-1, custom-2: for others"}},
		{"bypassed", bypassed, false, []string{"anna may connect to t.example.", "anna goes on until " + at.Local().Format(time.DateTime)}},
		{"nobody listens", deaf, true, []string{"anna is refused t.example, but connections are not inspected now", "capture_missing  ", "no queue"}},
		{"suspended", suspended, true, []string{"anna is refused t.example, but nothing is enforced now."}},
		{"disabled", disabled, false, []string{"anna may connect to t.example.", "network protection is disabled"}},
		{"there was an event", logged, false, []string{"anna may connect to t.example.", "1126 blocked"}},
	}
	for _, test := range tests {
		var out bytes.Buffer
		w := tabwriter.NewWriter(&out, 0, 4, 2, ' ', 0)
		printTest(w, testResult{Verdict: agent.Explanation{
			Host: "t.example", User: "anna", App: "Tunes", PolicyID: "p-1", Answer: test.answer, Refused: test.refused,
		}})
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(out.String(), test.says[0]) {
			t.Errorf("%s: begins with %q, want %q", test.name, out.String(), test.says[0])
		}
		for _, line := range test.says[1:] {
			if !strings.Contains(out.String(), line) {
				t.Errorf("%s: got\n%s, want %q in it", test.name, out.String(), line)
			}
		}
	}
}
