package command

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/agent"
	"interdict/internal/fault"
)

// testResult is what test found out.
type testResult struct {
	Schema int    `json:"schema"`
	Target string `json:"target"`
	// Verdict is what the rules say.
	Verdict agent.Explanation `json:"verdict"`
	// Attempt is what a real connection met; nil if none was tried.
	Attempt *attempt `json:"attempt,omitempty"`
}

func (c *commander) test() *cobra.Command {
	var rulesOnly bool
	cmd := &cobra.Command{
		Use: "test URL", Short: "Say what happens to a connection and why, and try it", Args: cobra.ExactArgs(1),
		Long: `Say what happens to a connection and why, and try it.

URL is an http or https URL, a host name or an address. The running agent is
asked what its rules say; then the connection is really made, up to the first
bytes that name the host, which leaves the same events as any other program's.
The exit code is 1 when the two do not agree.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := parseTarget(args[0])
			if err != nil {
				return fault.New(fault.Invalid, "%v", err)
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			result := testResult{Schema: 1, Target: args[0]}
			addrs := t.resolve(cmd.Context())
			if result.Verdict, err = explain(cmd.Context(), client, t, addrs.addrs); err != nil {
				return err
			}
			if !rulesOnly {
				result.Attempt = t.try(cmd.Context(), addrs)
			}
			if err := c.print(result, func(w io.Writer) { printTest(w, result) }); err != nil {
				return err
			}
			return disagreement(result)
		},
	}
	cmd.Flags().BoolVar(&rulesOnly, "rules-only", false, "do not try the connection")
	return cmd
}

// explain asks about a target by its name and, as the packets would show,
// by each address it has.
func explain(ctx context.Context, client *agent.Client, t target, addrs []netip.Addr) (agent.Explanation, error) {
	first, err := client.Explain(ctx, t.host, t.path, t.addr)
	if err != nil || first.Action != "" {
		return first, err
	}
	for _, addr := range addrs {
		e, err := client.Explain(ctx, t.host, t.path, addr)
		if err != nil || e.Refused {
			return e, err
		}
	}
	return first, nil
}

// disagreement is an error if what was met is not what the rules say.
func disagreement(r testResult) error {
	switch {
	case r.Attempt == nil, r.Verdict.Refused != r.Attempt.Connected:
		return nil
	case r.Verdict.Refused:
		return fault.New(fault.Internal, "the rules refuse it, and yet it connected").WithHint("interdict-agent doctor")
	default:
		// It may be down for reasons of its own.
		return nil
	}
}

func printTest(w io.Writer, r testResult) {
	v := r.Verdict
	verdict := "allowed"
	switch {
	case v.Refused:
		verdict = "refused"
	case v.Action == "audit":
		verdict = "allowed and recorded (1125)"
	}
	if !v.Enforcing {
		verdict += ", but nothing is enforced now"
	}
	row(w, "By the rules", "%s", verdict)
	row(w, "Because", "%s", because(v))
	if r.Attempt != nil {
		row(w, "Tried", "%s", r.Attempt)
	}
}

// because says in words which step of the judgement decided.
func because(v agent.Explanation) string {
	switch v.Step {
	case "disabled":
		return "network protection is disabled"
	case "none":
		return fmt.Sprintf("no indicator is for it (bundle %d, mode %s)", v.Version, v.Mode)
	case "spared":
		return fmt.Sprintf("the name belongs to %s, which is left alone", name(v))
	default:
		text := fmt.Sprintf("%s indicator %q (%s) asks for it", v.Step, v.Indicator, v.IndicatorID)
		if v.AppID != "" {
			text += fmt.Sprintf(", app %s", name(v))
		}
		text += fmt.Sprintf("; mode %s", v.Mode)
		if v.PolicyID != "" {
			text += " by policy " + v.PolicyID
		}
		return text
	}
}

func name(v agent.Explanation) string {
	if v.App != "" {
		return v.App
	}
	return v.AppID
}

// attempt is what a real connection met.
type attempt struct {
	Connected bool `json:"connected"`
	// Stage is how far it came: look-up, connection, tls or http.
	Stage string     `json:"stage"`
	IP    netip.Addr `json:"ip,omitzero"`
	Error string     `json:"error,omitempty"`
	// Took is in milliseconds.
	Took float64 `json:"took_ms"`
}

// String says it in words.
func (a *attempt) String() string {
	if a.Connected {
		return fmt.Sprintf("connected to %s in %.1f ms", a.IP, a.Took)
	}
	return fmt.Sprintf("failed at the %s after %.1f ms: %s", a.Stage, a.Took, a.Error)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

var _ fmt.Stringer = (*attempt)(nil)

// lookup is the answer of the system's resolver.
type lookup struct {
	addrs []netip.Addr
	err   error
	took  time.Duration
}

func (t target) resolve(ctx context.Context) lookup {
	if t.addr.IsValid() {
		return lookup{addrs: []netip.Addr{t.addr}}
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	began := time.Now()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", t.host)
	return lookup{addrs: addrs, err: err, took: time.Since(began)}
}
