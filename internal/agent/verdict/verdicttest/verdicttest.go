// Package verdicttest decides what every enforcement of a policy has to
// agree on: it reads the cases in testdata, each a policy and what is to
// become of connections under it. The judgement of the agent runs through
// them, and so can kernel rules and exports.
//
// A case is a txtar archive: a comment that says what it is about, the file
// "policy", and the files "flows in MODE" for some of the modes disabled,
// audit and block. A line that starts with # is a comment. The lines of the
// policy are
//
//	now TIME                         the time of judgement, in RFC 3339
//	app ID NAME
//	spare DOMAIN APP                 the name belongs to an app that is left alone
//	indicator ACTION TYPE VALUE [app=ID] [source=S] [created=TIME] [expires=TIME] [id=ID]
//
// An indicator's source is catalog if it has an app, else custom; its id is
// as in the product for the catalog's (APP:VALUE), else its value. A flow is
//
//	[HOST | http://HOST/PATH] [at ADDRESS] -> RESULT
//
// and its result "none", "disabled", "spared APP", or an action with the mode
// reckoned in and the id of the indicator that applies.
package verdicttest

import (
	"embed"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/txtar" //nolint:depguard // only tests import this package

	"interdict/internal/agent/verdict"
	"interdict/internal/bundle"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

//go:embed testdata/*.txtar
var testdata embed.FS

// PolicyID is the policy that every case's mode comes from.
const PolicyID = "policy-1"

// Case is a policy in one mode and what becomes of flows under it.
type Case struct {
	// Name is the file's with the mode: "spared-names/block".
	Name string
	// Config and Sets are the policy.
	Config verdict.Config
	Sets   []bundle.Set
	// Now is the time of judgement, where the device is.
	Now   time.Time
	Flows []Flow
}

// Flow is a connection and what is to become of it.
type Flow struct {
	// Text is the line it was read from.
	Text    string
	Subject verdict.Subject
	// Want is the text of Result for the right decision.
	Want string
}

// Result is a decision in the words of the cases.
func Result(d verdict.Decision) string {
	switch d.Step {
	case verdict.StepSpared:
		return "spared " + d.AppID
	case verdict.StepNone, verdict.StepDisabled:
		return string(d.Step)
	default:
		return string(d.Action) + " " + d.Indicator.ID
	}
}

// Cases reads all cases.
func Cases() ([]Case, error) {
	files, err := testdata.ReadDir("testdata")
	if err != nil {
		return nil, fmt.Errorf("listing the cases: %w", err)
	}
	var out []Case
	for _, f := range files {
		text, err := testdata.ReadFile(path.Join("testdata", f.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading case %q: %w", f.Name(), err)
		}
		cases, err := parse(strings.TrimSuffix(f.Name(), ".txtar"), txtar.Parse(text))
		if err != nil {
			return nil, fmt.Errorf("reading case %q: %w", f.Name(), err)
		}
		out = append(out, cases...)
	}
	return out, nil
}

func parse(name string, archive *txtar.Archive) ([]Case, error) {
	var p policy
	var out []Case
	for _, f := range archive.Files {
		if f.Name == "policy" {
			if err := eachLine(f.Data, p.add); err != nil {
				return nil, err
			}
			continue
		}
		mode, isFlows := strings.CutPrefix(f.Name, "flows in ")
		if !isFlows {
			return nil, fmt.Errorf("there is no place for a file %q", f.Name)
		}
		set, err := bundle.NewSet(slices.Values(p.records))
		if err != nil {
			return nil, err
		}
		c := Case{
			Name: name + "/" + mode, Sets: []bundle.Set{set}, Now: p.now,
			Config: verdict.Config{Settings: fleet.Settings{NetworkProtection: fleet.Mode(mode)}, PolicyID: PolicyID},
		}
		if err := eachLine(f.Data, c.add); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// eachLine calls f with every line that is neither empty nor a comment.
func eachLine(text []byte, f func(line string) error) error {
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := f(line); err != nil {
			return fmt.Errorf("reading %q: %w", line, err)
		}
	}
	return nil
}

func (c *Case) add(line string) error {
	flow, err := parseFlow(line)
	c.Flows = append(c.Flows, flow)
	return err
}

type policy struct {
	now     time.Time
	records []bundle.Record
}

func (p *policy) add(line string) (err error) {
	f := strings.Fields(line)
	switch {
	case f[0] == "now" && len(f) == 2:
		p.now, err = time.Parse(time.RFC3339, f[1])
	case f[0] == "app" && len(f) >= 3:
		p.records = append(p.records, bundle.App(f[1], strings.Join(f[2:], " ")))
	case f[0] == "spare" && len(f) == 3:
		p.records = append(p.records, bundle.Spare(f[1], f[2]))
	case f[0] == "indicator" && len(f) >= 4:
		var i indicator.Indicator
		i, err = parseIndicator(f[1:4], f[4:])
		p.records = append(p.records, bundle.Indicator(i))
	default:
		return fmt.Errorf("it is neither now, app, spare nor indicator with all that belongs to them")
	}
	return err
}

func parseIndicator(fields, options []string) (i indicator.Indicator, err error) {
	i.Action, i.Type, i.Value = indicator.Action(fields[0]), indicator.Type(fields[1]), fields[2]
	i.ID, i.Source = i.Value, indicator.SourceCustom
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "app":
			i.AppID, i.Source, i.ID = value, indicator.SourceCatalog, value+":"+i.Value
		case "source":
			i.Source = indicator.Source(value)
		case "id":
			i.ID = value
		case "created":
			i.CreatedAt, err = time.Parse(time.RFC3339, value)
		case "expires":
			i.ExpiresAt, err = time.Parse(time.RFC3339, value)
		default:
			return i, fmt.Errorf("there is no option %q", key)
		}
		if err != nil {
			return i, err
		}
	}
	canonical, err := indicator.Parse(i.Type, i.Value)
	if err == nil && canonical != i.Value {
		err = fmt.Errorf("the canonical value would be %q", canonical)
	}
	if !i.Action.Valid() || !i.Source.Valid() {
		err = fmt.Errorf("the action %q or the source %q is unknown", i.Action, i.Source)
	}
	return i, err
}

func parseFlow(line string) (Flow, error) {
	subject, want, found := strings.Cut(line, "->")
	if !found {
		return Flow{}, fmt.Errorf("the arrow before the result is missing")
	}
	flow := Flow{Text: line, Want: strings.Join(strings.Fields(want), " ")}
	s := &flow.Subject
	f := strings.Fields(subject)
	if n := len(f); n >= 2 && f[n-2] == "at" {
		addr, err := netip.ParseAddr(f[n-1])
		if err != nil {
			return Flow{}, err
		}
		s.Addr, s.Evidence = addr, event.EvidenceIP
		f = f[:n-2]
	}
	if len(f) == 0 {
		return flow, nil
	}
	rest, isHTTP := strings.CutPrefix(f[0], "http://")
	s.Host, s.Evidence = f[0], event.EvidenceTLSSNI
	if isHTTP {
		s.Host, s.Path, _ = strings.Cut(rest, "/")
		s.Path, s.Evidence = "/"+s.Path, event.EvidenceHTTPHost
	}
	return flow, nil
}
