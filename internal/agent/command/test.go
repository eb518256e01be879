package command

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/user"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/agent"
	"interdict/internal/agent/journal"
	"interdict/internal/agent/verdict"
	"interdict/internal/bundle"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
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
	var as string
	cmd := &cobra.Command{
		Use: "test URL", Short: "Say what happens to a connection and why, and try it", Args: exactly("URL"),
		Long: `Say what happens to a connection and why, and try it.

URL is an http or https URL, a host name or an address. The running agent is
asked what its rules say; then the connection is really made, up to the first
bytes that name the host, which leaves the same events as any other program's.
For an address only the rules for addresses can be asked: that a name which is
refused was looked up for it shows in the trial alone.

Rules may be for some users only. Without --user they are asked for you; for
somebody else the connection is not tried, since it would be yours.

The exit code is 0 when both agree, and 1 when they do not, or when the
connection could not be tried for want of a network or of an answer. A
destination that turns the connection down itself looks like a refusal.`,
		Example: `  interdict-agent test https://app.example/path
  interdict-agent test app.example:8443 --user anna
  interdict-agent test --rules-only 203.0.113.7`,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := parseTarget(args[0])
			if err != nil {
				return fault.New(fault.Invalid, "%v", err)
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			result := testResult{Schema: 2, Target: args[0]}
			addrs := t.resolve(cmd.Context())
			me := myself()
			if result.Verdict, err = explain(cmd.Context(), client, t, addrs.addrs, cmp.Or(as, me)); err != nil {
				return err
			}
			switch {
			case rulesOnly:
			case as != "" && as != me:
				c.say("not tried: the connection would be made by %s, not by %s", cmp.Or(me, "you"), as)
			default:
				result.Attempt = t.try(cmd.Context(), addrs)
			}
			if err := c.print(result, func(w io.Writer) { printTest(w, result) }); err != nil {
				return err
			}
			return disagreement(result)
		},
	}
	cmd.Flags().BoolVar(&rulesOnly, "rules-only", false, "do not try the connection")
	cmd.Flags().StringVar(&as, "user", "", "the login `name` of the user to ask for; you if not given")
	return cmd
}

// myself is the login name of who runs the command, empty if that is not
// known.
func myself() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return u.Username
}

// explain asks about a target by its name and, as the packets would show,
// by each address it has.
func explain(ctx context.Context, client *agent.Client, t target, addrs []netip.Addr, as string) (agent.Explanation, error) {
	q := bundle.Question{Host: t.host, Path: t.path, IP: t.addr, Port: t.port, User: as}
	first, err := client.Explain(ctx, q)
	if err != nil || first.Action != "" {
		return first, err
	}
	for _, q.IP = range addrs {
		e, err := client.Explain(ctx, q)
		if err != nil || e.Refused {
			return e, err
		}
	}
	return first, nil
}

// disagreement is an error if what was met is not what the rules say.
func disagreement(r testResult) error {
	if r.Attempt == nil {
		return nil
	}
	refused := r.Verdict.Refused && r.Verdict.Enforcing
	switch met := r.Attempt.Outcome; {
	case met == outcomeUntried:
		return fault.New(fault.Internal, "the connection could not be tried: %s", r.Attempt.Error).
			WithHint("ask the rules alone with --rules-only")
	case refused && met == outcomeConnected:
		return fault.New(fault.Internal, "the rules refuse it, and yet it connected").WithHint("interdict-agent doctor")
	case !refused && met == outcomeRefused:
		return fault.New(fault.Internal, "the rules let it through, and yet it failed").
			WithHint("interdict-agent events says whether it was refused here; if not, the destination or something on the way did it")
	default:
		return nil
	}
}

// printTest says the verdict first, then why.
func printTest(w io.Writer, r testResult) {
	v := r.Verdict
	_, _ = fmt.Fprintln(w, sentence(v))
	row(w, "Because", "%s", because(v))
	row(w, "Network protection", "%s", inMode(v))
	if v.Bypass != nil {
		row(w, "Bypass", "%s goes on until %s", v.User, v.Bypass.Until.Local().Format(time.DateTime))
	}
	if len(v.OutOfScope) > 0 {
		row(w, "Does not count", "%s: for others, or at other times", strings.Join(v.OutOfScope, ", "))
	}
	if v.Host == "" {
		row(w, "Note", "for an address only the rules for addresses can be asked")
	}
	if v.LastEvent != nil {
		row(w, "Last event", "%s %s", v.LastEvent.LastSeen.Local().Format(time.DateTime), journal.Sentence(*v.LastEvent))
	}
	for _, item := range v.Health {
		row(w, "! "+item.Code, "%s", item.Text)
	}
	if r.Attempt != nil {
		row(w, "Tried", "%s", r.Attempt)
	}
}

// sentence is the verdict.
func sentence(v agent.Explanation) string {
	who, what := "Anybody", v.Host
	if v.User != "" {
		who = v.User
	}
	if what == "" {
		what = v.IP.String()
	}
	text := fmt.Sprintf("%s may connect to %s", who, what)
	switch {
	case v.Action == indicator.ActionWarn && v.Refused:
		text = fmt.Sprintf("%s is warned of %s: refused until they say that they go on", who, what)
	case v.Refused:
		text = fmt.Sprintf("%s is refused %s", who, what)
	case v.Action == indicator.ActionAudit:
		text += ", which is recorded (1125)"
	}
	switch {
	case !v.Enforcing:
		text += ", but nothing is enforced now"
	case v.Refused && !v.Listening:
		text += ", but connections are not inspected now, only addresses are refused"
	}
	return text + "."
}

// because says in words which step of the judgement decided.
func because(v agent.Explanation) string {
	switch verdict.Step(v.Step) {
	case verdict.StepDisabled:
		return "network protection is disabled"
	case verdict.StepNone:
		return "no indicator is for it"
	case verdict.StepSpared:
		return fmt.Sprintf("the name belongs to %s, which is left alone", name(v))
	case verdict.StepResolver:
		return fmt.Sprintf("it is an encrypted name service (%s)", name(v))
	default:
		text := fmt.Sprintf("indicator %q (%s) is for it", v.Indicator, v.IndicatorID)
		if v.AppID != "" {
			text += fmt.Sprintf(", of the app %s", name(v))
		}
		return text
	}
}

// inMode says which mode counts, by whose word, and of which bundle.
func inMode(v agent.Explanation) string {
	text := string(v.Mode)
	of := func(s fleet.SettingReport) bool { return s.Setting == fleet.SettingNetworkProtection }
	if i := slices.IndexFunc(v.Settings, of); i >= 0 {
		text += fmt.Sprintf(", by channel %s", v.Settings[i].Channel)
	}
	if v.PolicyID != "" {
		text += ", policy " + cmp.Or(v.Policy, v.PolicyID)
	}
	if v.Version > 0 {
		text += ", bundle " + utoa(v.Version)
	}
	return text
}

func name(v agent.Explanation) string {
	if v.App != "" {
		return v.App
	}
	return v.AppID
}

// outcome is how an attempt ended.
type outcome string

// The outcomes.
const (
	outcomeConnected outcome = "connected"
	// outcomeRefused: it was turned down, by us or somebody else.
	outcomeRefused outcome = "refused"
	// outcomeUntried: it did not come as far as where we could have refused.
	outcomeUntried outcome = "untried"
)

// outcomeOf tells by its error how an attempt ended. The agent refuses a name
// by NXDOMAIN and a connection by a reset.
func outcomeOf(err error) outcome {
	var lookup *net.DNSError
	var alert tls.AlertError
	var garbage tls.RecordHeaderError
	switch {
	case err == nil:
		return outcomeConnected
	case errors.As(err, &alert), errors.As(err, &garbage):
		// The server heard the name and answered.
		return outcomeConnected
	case errors.As(err, &lookup):
		if lookup.IsNotFound {
			return outcomeRefused
		}
		return outcomeUntried
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return outcomeRefused
	default:
		return outcomeUntried
	}
}

// attempt is what a real connection met.
type attempt struct {
	Outcome outcome `json:"outcome"`
	// Connected is true for outcomeConnected.
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
	switch a.Outcome {
	case outcomeConnected:
		return fmt.Sprintf("connected to %s in %.1f ms", a.IP, a.Took)
	case outcomeRefused:
		return fmt.Sprintf("failed at the %s after %.1f ms: %s", a.Stage, a.Took, a.Error)
	default:
		return fmt.Sprintf("could not be tried, at the %s after %.1f ms: %s", a.Stage, a.Took, a.Error)
	}
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
