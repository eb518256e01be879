package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/agent"
	"interdict/internal/agent/state"
	"interdict/internal/agent/uplink"
	"interdict/internal/fault"
)

// staleAfter is the age from which a bundle is worth a remark while the
// server is away.
const staleAfter = 7 * 24 * time.Hour

func (c *commander) doctor() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Probe everything the agent depends on and say what is missing", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			probes := c.examine(cmd.Context())
			err := c.print(map[string]any{"schema": 1, "probes": probes}, func(w io.Writer) {
				for _, p := range probes {
					_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", p.State, p.Name, p.Detail)
				}
			})
			if err != nil {
				return err
			}
			failed := 0
			for _, p := range probes {
				if p.State == agent.ProbeFailed {
					failed++
				}
			}
			if failed > 0 {
				return fault.New(fault.Internal, "%s failed", noun(failed, "probe"))
			}
			return nil
		},
	}
}

// examine runs all probes. One that fails does not keep the others from
// running.
func (c *commander) examine(ctx context.Context) []agent.Probe {
	probes := []agent.Probe{privileges()}
	probes = append(probes, agent.Probes(ctx)...)
	id, err := c.dir().Identity()
	if err != nil {
		return append(probes, failed("enrolment", "%v", err))
	}
	probes = append(probes,
		ok("enrolment", "device %s of %s", id.DeviceID, id.ServerURL),
		certificate(id, time.Now()),
		server(ctx, id))
	return append(probes, running(ctx, c.dir())...)
}

func ok(name, format string, args ...any) agent.Probe {
	return agent.Probe{Name: name, State: agent.ProbeOK, Detail: fmt.Sprintf(format, args...)}
}

func remark(name, format string, args ...any) agent.Probe {
	return agent.Probe{Name: name, State: agent.ProbeRemark, Detail: fmt.Sprintf(format, args...)}
}

func failed(name, format string, args ...any) agent.Probe {
	return agent.Probe{Name: name, State: agent.ProbeFailed, Detail: fmt.Sprintf(format, args...)}
}

func privileges() agent.Probe {
	if os.Geteuid() != 0 {
		return failed("privileges", "this command runs as user %d; the probes below need root", os.Geteuid())
	}
	return ok("privileges", "root")
}

func certificate(id state.Identity, now time.Time) agent.Probe {
	leaf := id.Certificate.Leaf
	switch {
	case now.After(leaf.NotAfter):
		return failed("certificate", "expired on %s; unless the server renews it, unenrol and enrol again", leaf.NotAfter.Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return failed("certificate", "valid from %s only; this machine's clock may be wrong", leaf.NotBefore.Format(time.RFC3339))
	default:
		return ok("certificate", "valid until %s", leaf.NotAfter.Format(time.RFC3339))
	}
}

func server(ctx context.Context, id state.Identity) agent.Probe {
	r := uplink.Reach(ctx, id)
	if r.Err != nil {
		return failed("server", "at the %s: %v", r.Stage, r.Err)
	}
	return ok("server", "%s answers in %s", id.ServerURL, r.Took.Round(time.Millisecond))
}

// running are the probes that a running agent answers.
func running(ctx context.Context, dir state.Dir) []agent.Probe {
	s, err := agent.NewClient(dir).Status(ctx)
	if err != nil {
		return []agent.Probe{failed("agent", "%v; the kernel rules it left are in force", err)}
	}
	probes := []agent.Probe{ok("agent", "%s, running since %s", s.AgentVersion, s.StartedAt.Format(time.RFC3339))}
	if s.Uplink.Connected {
		probes = append(probes, ok("stream", "%s", connection(s)))
	} else {
		probes = append(probes, remark("stream", "%s; the last good bundle stays in force", connection(s)))
	}
	probes = append(probes, enforcement(s), bundleAge(s), spool(s))
	for _, item := range s.Health {
		probes = append(probes, failed(string(item.Code), "%s (since %s)", item.Text, item.Since.Format(time.RFC3339)))
	}
	return probes
}

func enforcement(s agent.Status) agent.Probe {
	if !s.Enforcing {
		return failed("enforcement", "%s", protection(s))
	}
	return ok("enforcement", "%s", protection(s))
}

func bundleAge(s agent.Status) agent.Probe {
	switch {
	case s.Uplink.Version == 0:
		return remark("bundle", "none yet: the server has sent none")
	case time.Since(s.Uplink.IssuedAt) > staleAfter && !s.Uplink.Connected:
		return remark("bundle", "%s", bundleInForce(s))
	default:
		return ok("bundle", "%s", bundleInForce(s))
	}
}

func spool(s agent.Status) agent.Probe {
	d := s.Spool.Dropped
	text := fmt.Sprintf("%s waiting, %d of %d KiB", noun(s.Spool.Events, "event"), s.Spool.Bytes>>10, s.Spool.Limit>>10)
	if lost := d.Audited + d.Other + d.Rejected; lost > 0 {
		return remark("spool", "%s; %d dropped and %d rejected so far", text, d.Audited+d.Other, d.Rejected)
	}
	return ok("spool", "%s", text)
}
