package fleetcmd

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"interdict/internal/cli/client"
	"interdict/internal/cli/output"
	"interdict/internal/cli/session"
	"interdict/internal/cli/usage"
	"interdict/internal/fault"
)

// pointAt shows the line of a rule in which the server found a mistake, and
// where in it, and returns the server's error.
func pointAt(s *session.Session, rule string, err error) error {
	f, ok := errors.AsType[*fault.Error](err)
	if !ok {
		return err
	}
	for _, field := range f.Fields {
		var line, column int
		if n, _ := fmt.Sscanf(field.Rule, "has a mistake at line %d, column %d", &line, &column); field.Name != "rule" || n != 2 {
			continue
		}
		lines := strings.Split(rule, "\n")
		if line < 1 || line > len(lines) || column < 1 {
			continue
		}
		// A tab would move what is below it.
		text := []rune(strings.ReplaceAll(lines[line-1], "\t", " "))
		before := text[:min(column-1, len(text))]
		fmt.Fprintf(s.Stderr, "  %s\n  %s^\n", output.Printable(string(text)), strings.Repeat(" ", len([]rune(output.Printable(string(before))))))
	}
	return err
}

// groupPreview is what the API says of a group that is not there yet.
type groupPreview struct {
	Count   int                         `json:"count"`
	Devices []struct{ ID, Name string } `json:"devices"`
	Failed  int                         `json:"failed"`
	Failure string                      `json:"failure"`
}

func newGroupPreviewCmd(s *session.Session) *cobra.Command {
	var rule string
	var members []string
	var limit int
	cmd := &cobra.Command{
		Use:   "preview --rule 'EXPR'",
		Short: "Say which devices would be in a group, without making it",
		Example: `  interdict group preview --rule 'os == "linux" && "finance" in labels && version < "1.4"'
  interdict group preview --rule 'labels.site == "berlin"' --member alice-pc --limit 100`,
		Args: usage.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if rule == "" && len(members) == 0 {
				return usage.Fault(cmd, "--rule is missing")
			}
			c, err := s.Client()
			if err != nil {
				return err
			}
			raw, err := c.Post(cmd.Context(), "/groups/preview", map[string]any{"rule": rule, "members": members, "limit": limit})
			if err != nil {
				return pointAt(s, rule, err)
			}
			if s.Format == output.FormatJSON {
				return output.JSON(s.Stdout, raw)
			}
			p, err := client.Decode[groupPreview](raw)
			if err != nil {
				return err
			}
			return printPreview(s, p)
		},
	}
	cmd.Flags().StringVar(&rule, "rule", "", ruleHelp)
	cmd.Flags().StringSliceVar(&members, "member", nil, "a static member, the `name` or id of a device; may be repeated")
	cmd.Flags().IntVar(&limit, "limit", 20, "name at most this `number` of devices")
	return cmd
}

func printPreview(s *session.Session, p groupPreview) error {
	rows := make([][]string, 0, len(p.Devices))
	for _, d := range p.Devices {
		rows = append(rows, []string{d.ID, d.Name})
	}
	if s.Format == output.FormatCSV {
		return output.CSV(s.Stdout, []string{"id", "name"}, rows)
	}
	fmt.Fprintf(s.Stdout, "%s in the group\n", output.Count(p.Count, "device is", "devices are"))
	for _, row := range rows {
		fmt.Fprintf(s.Stdout, "  %s\n", output.Printable(row[1]))
	}
	if more := p.Count - len(rows); more > 0 {
		fmt.Fprintf(s.Stdout, "  and %d more\n", more)
	}
	if p.Failed > 0 {
		fmt.Fprintf(s.Stderr, "for %s the rule has no answer, which keeps them out: %s\n",
			output.Count(p.Failed, "device", "devices"), output.Printable(p.Failure))
	}
	return nil
}

const ruleHelp = "devices for which this `expression` is true are in the group: os == \"linux\" && \"finance\" in labels"
