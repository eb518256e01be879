package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"interdict/internal/agent/channel/dropin"
	"interdict/internal/agent/doctor"
	"interdict/internal/agent/doctor/archive"
	"interdict/internal/agent/doctor/survey"
	"interdict/internal/agent/state"
	"interdict/internal/fault"
)

func (c *commander) doctor() *cobra.Command {
	var bundle, policy string
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check everything the agent depends on, and say how to mend it", Args: exactly(),
		Long: `Check everything the agent depends on, and say how to mend it.

Each check is ok, worth knowing (info), weaker than it could be (warn) or broken
(fail), with what follows from it and the command that mends it or is the first
step to that. What the checks mean is in docs/troubleshooting.md. It changes
nothing, and works without a running agent too. The exit code is 0 when nothing
failed, and 1 otherwise.

With --bundle it also writes an archive for whoever helps: what was found, the
last events, the kernel's rules and the network around them. No key, token or
password goes in, but names of users and hosts do; its README says what is in
it.`,
		Example: `  interdict-agent doctor
  interdict-agent doctor --output json | jq '.findings[] | select(.state == "fail")'
  interdict-agent doctor --bundle /root/interdict.tar.gz`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			root := os.DirFS("/")
			facts := survey.Take(cmd.Context(), survey.Config{Dir: c.dir(), Policy: policy, Root: root})
			report := doctor.Examine(&facts)
			if bundle != "" {
				err := c.writeArchive(cmd.Context(), bundle, archive.Config{
					Report: report, Text: examined(report, plain), Status: facts.Agent, Events: c.dir().Path(state.DirEvents), Root: root,
				})
				if err != nil {
					return err
				}
			}
			if err := c.printReport(report); err != nil {
				return err
			}
			if n := report.Counts[doctor.Fail]; n > 0 {
				return fault.New(fault.Internal, "%s failed", noun(n, "check"))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&bundle, "bundle", "", "also write an archive for whoever helps to `FILE`, which must not exist")
	cmd.Flags().StringVar(&policy, "policy-dir", dropin.DefaultDir, "`directory` of drop-in files of policy")
	return cmd
}

// writeArchive writes a new file that nobody else may read.
func (c *commander) writeArchive(ctx context.Context, path string, a archive.Config) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return fault.New(fault.Invalid, "%s exists already", path).WithHint("name a file that does not")
	case err != nil:
		return fmt.Errorf("writing the archive: %w", err)
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			_ = os.Remove(path)
			return
		}
		c.say("%s is written; names of users and hosts are in it", path)
	}()
	return archive.Write(ctx, f, a)
}

func (c *commander) printReport(r doctor.Report) error {
	if c.opts.output == outputJSON {
		return c.print(r, nil)
	}
	paint := plain
	if isTerminal(c.env.Stdout) {
		paint = coloured
	}
	_, err := c.env.Stdout.Write(examined(r, paint))
	return err
}

// isTerminal reports whether colours are of use.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// plain and coloured write the state of a check, padded to the same width.
func plain(s doctor.State) string { return fmt.Sprintf("%-4s", s) }

func coloured(s doctor.State) string {
	// SGR parameters of ECMA-48.
	colour := map[doctor.State]string{doctor.OK: "32", doctor.Info: "36", doctor.Warn: "33", doctor.Fail: "1;31"}[s]
	return "\x1b[" + colour + "m" + plain(s) + "\x1b[0m"
}

const (
	// columns is how wide a terminal is at least.
	columns = 80
	// nameWidth fits the longest name of a check.
	nameWidth = 18
	// indent is where the text begins: after state, name and the gaps.
	indent = 4 + 2 + nameWidth + 2
)

// examined is a report as a person reads it, 80 columns wide.
func examined(r doctor.Report, paint func(doctor.State) string) []byte {
	var out bytes.Buffer
	margin := strings.Repeat(" ", indent)
	for _, f := range r.Findings {
		lines := wrap(f.Text, columns-indent)
		lines = append(lines, wrap(f.Means, columns-indent)...)
		if f.Mend != "" {
			// A command stays on one line, for whoever copies it.
			lines = append(lines, "mend: "+f.Mend)
		}
		_, _ = fmt.Fprintf(&out, "%s  %-*s  %s\n", paint(f.State), nameWidth, f.Check, strings.Join(lines, "\n"+margin))
	}
	var counts []string
	for _, s := range []doctor.State{doctor.Fail, doctor.Warn, doctor.Info, doctor.OK} {
		if n := r.Counts[s]; n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, s))
		}
	}
	_, _ = fmt.Fprintf(&out, "\n%s\n", strings.Join(counts, ", "))
	return out.Bytes()
}

// wrap breaks text into lines of at most width bytes, where it has spaces.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
