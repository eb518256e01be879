package command

import (
	"encoding/json"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"interdict/internal/agent/journal"
	"interdict/internal/agent/state"
	"interdict/internal/event"
)

// followLast is how many past events --follow shows first.
const followLast = 10

func utoa(n uint64) string { return strconv.FormatUint(n, 10) }

func (c *commander) events() *cobra.Command {
	var follow bool
	var only selection
	cmd := &cobra.Command{
		Use: "events", Short: "Print the local event log", Args: exactly(),
		Long: `Print the local event log, oldest first.

All of it, unless --last, --since or --id choose; together they choose the last
events of those that match.

An event that repeats is written again under the same id with a higher count;
the newest is shown, with --follow each. Times are UTC. The log is read from
the state directory: no running agent is needed, and --follow goes on when the
agent is started again.`,
		Example: `  interdict-agent events
  interdict-agent events --follow
  interdict-agent events --since 10m --id 1126,1129
  interdict-agent events --output json | jq -r .destination.host`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if only.since < 0 {
				return usageFault(cmd, "--since %s is not in the past", only.since)
			}
			only.whole = !cmd.Flags().Changed("last")
			dir := c.dir().Path(state.DirEvents)
			if !follow {
				return c.printEvents(only.of(journal.Newest(dir), time.Now()))
			}
			if err := c.inhabited(); err != nil {
				return err
			}
			if only.whole && only.since == 0 {
				only.whole, only.last = false, followLast
			}
			return c.printEvents(journal.Follow(cmd.Context(), dir, only.most(), only.matching(time.Now())))
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "print the last events and go on with those that come")
	cmd.Flags().UintVar(&only.last, "last", 0, "print only so many, the newest")
	cmd.Flags().DurationVar(&only.since, "since", 0, "print only those of this last while, such as 10m")
	cmd.Flags().IntSliceVar(&only.ids, "id", nil, "print only those with one of these event ids, such as 1126,1129")
	return cmd
}

func (c *commander) printEvents(events iter.Seq2[event.Event, error]) error {
	for e, err := range events {
		if err != nil {
			return err
		}
		if err := c.printEvent(e); err != nil {
			return err
		}
	}
	return nil
}

// printEvent prints one event on one line.
func (c *commander) printEvent(e event.Event) error {
	if c.opts.output == outputJSON {
		return json.NewEncoder(c.env.Stdout).Encode(e)
	}
	line := e.LastSeen.UTC().Format(time.RFC3339) + "  " + journal.Sentence(e)
	if e.Evidence != event.EvidenceNone {
		line += fmt.Sprintf(", seen in %s", e.Evidence)
	}
	if e.User.Name != "" {
		line += fmt.Sprintf(", user %s", e.User.Name)
	}
	if e.Count > 1 {
		line += fmt.Sprintf(", %d times", e.Count)
	}
	_, err := fmt.Fprintln(c.env.Stdout, line)
	return err
}
