// Package verdicttest decides what every enforcement of a policy has to
// agree on: it reads the cases in testdata, each a policy and what is to
// become of connections under it. The judgement of the agent runs through
// them, and so can kernel rules and exports.
//
// A case is a txtar archive: a comment that says what it is about, the file
// "policy", if need be the file "files of the device" with the records of a
// second set, and the files "flows in MODE" for some of the modes disabled,
// audit and block. A line that starts with # is a comment. The lines of the
// policy are
//
//	now TIME                         the time of judgement in RFC 3339, by the device's clock
//	protection VALUE                 what is done about encrypted name services
//	user NAME UID [GROUP...]
//	bypass USER SUBJECT UNTIL        USER goes on to SUBJECT in spite of warnings
//	revoke SUBJECT                   all bypasses of SUBJECT up to now
//	app ID NAME
//	spare DOMAIN APP                 the name belongs to an app that is left alone
//	indicator ACTION TYPE VALUE [OPTION...]
//
// where an OPTION is app=ID, source=S, id=ID, created=TIME, expires=TIME,
// user=NAME, not-user=NAME, group=NAME, not-group=NAME or
// window=[DAY,DAY...@]FROM-TO[@ZONE]. An indicator's source is catalog if it
// has an app, else custom; its id is as in the product for the catalog's
// (APP:VALUE), else its value. A flow is
//
//	[HOST | http://HOST/PATH] [at ADDRESS] [port PORT] [by USER] [looked up] -> RESULT
//
// and its result "none", "disabled", "spared APP", "bypassed" with the id of
// the indicator that warns, or an action with the mode reckoned in and the id
// of the indicator that applies.
package verdicttest

import (
	"embed"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/txtar" //nolint:depguard // only tests import this package

	"interdict/internal/agent/verdict"
	"interdict/internal/bundle"
	"interdict/internal/bypass"
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
	case verdict.StepBypassed:
		return "bypassed " + d.Indicator.ID
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
	p := policy{users: make(map[string]*indicator.User)}
	var out []Case
	for _, f := range archive.Files {
		var err error
		switch mode, isFlows := strings.CutPrefix(f.Name, "flows in "); {
		case f.Name == "policy":
			err = eachLine(f.Data, p.add)
		case f.Name == "files of the device":
			err = eachLine(f.Data, p.device.add)
		case isFlows:
			var c Case
			c, err = p.caseIn(fleet.Mode(mode), f.Data)
			c.Name = name + "/" + mode
			out = append(out, c)
		default:
			err = fmt.Errorf("there is no place for a file %q", f.Name)
		}
		if err != nil {
			return nil, err
		}
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

// policy is what the files before the flows say.
type policy struct {
	records
	device   records
	now      time.Time
	config   verdict.Config
	users    map[string]*indicator.User
	bypasses int
}

// caseIn returns the policy in one mode with flows under it.
func (p *policy) caseIn(mode fleet.Mode, flows []byte) (Case, error) {
	c := Case{Now: p.now, Config: p.config}
	c.Config.PolicyID, c.Config.Settings.NetworkProtection = PolicyID, mode
	for _, r := range []records{p.records, p.device} {
		set, err := bundle.NewSet(slices.Values(r))
		if err != nil {
			return Case{}, err
		}
		c.Sets = append(c.Sets, set)
	}
	err := eachLine(flows, func(line string) error {
		flow, err := p.parseFlow(line)
		c.Flows = append(c.Flows, flow)
		return err
	})
	return c, err
}

func (p *policy) add(line string) (err error) {
	f := strings.Fields(line)
	switch {
	case f[0] == "now" && len(f) == 2:
		p.now, err = time.Parse(time.RFC3339, f[1])
	case f[0] == "protection" && len(f) == 2:
		p.config.Settings.BypassProtection = fleet.Protection(f[1])
	case f[0] == "user" && len(f) >= 3:
		var uid uint64
		uid, err = strconv.ParseUint(f[2], 10, 32)
		p.users[f[1]] = &indicator.User{UID: uint32(uid), Name: f[1], Groups: f[3:]}
	case f[0] == "bypass" && len(f) == 4:
		err = p.addBypass(f[1], f[2], f[3])
	case f[0] == "revoke" && len(f) == 2:
		r := bypass.Revocation{ID: "revocation-" + f[1], Subject: f[1], Before: p.now}
		p.records = append(p.records, bundle.Revocation(r))
	default:
		return p.records.add(line)
	}
	return err
}

// addBypass adds one that began an hour ago.
func (p *policy) addBypass(user, subject, until string) error {
	u := p.users[user]
	if u == nil {
		return fmt.Errorf("there is no user %q", user)
	}
	end, err := time.Parse(time.RFC3339, until)
	p.bypasses++
	p.config.Bypasses = append(p.config.Bypasses, bypass.Bypass{
		ID: strconv.Itoa(p.bypasses), UID: u.UID, User: user, Subject: subject, Since: p.now.Add(-time.Hour), Until: end,
	})
	return err
}

type records []bundle.Record

func (r *records) add(line string) error {
	f := strings.Fields(line)
	switch {
	case f[0] == "app" && len(f) >= 3:
		*r = append(*r, bundle.App(f[1], strings.Join(f[2:], " ")))
	case f[0] == "spare" && len(f) == 3:
		*r = append(*r, bundle.Spare(f[1], f[2]))
	case f[0] == "indicator" && len(f) >= 4:
		i, err := parseIndicator(f[1:4], f[4:])
		*r = append(*r, bundle.Indicator(i))
		return err
	default:
		return fmt.Errorf("it is no app, spare, indicator or anything else with all that belongs to it")
	}
	return nil
}

func parseIndicator(fields, options []string) (i indicator.Indicator, err error) {
	i.Action, i.Type, i.Value = indicator.Action(fields[0]), indicator.Type(fields[1]), fields[2]
	i.ID, i.Source = i.Value, indicator.SourceCustom
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		if err = setOption(&i, key, value); err != nil {
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

func setOption(i *indicator.Indicator, key, value string) (err error) {
	people := &i.Scope.People
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
	case "user":
		people.IncludeUsers = append(people.IncludeUsers, value)
	case "not-user":
		people.ExcludeUsers = append(people.ExcludeUsers, value)
	case "group":
		people.IncludeUserGroups = append(people.IncludeUserGroups, value)
	case "not-group":
		people.ExcludeUserGroups = append(people.ExcludeUserGroups, value)
	case "window":
		i.Scope.Windows = append(i.Scope.Windows, parseWindow(value))
		err = i.Scope.Windows[len(i.Scope.Windows)-1].Check()
	default:
		return fmt.Errorf("there is no option %q", key)
	}
	return err
}

func parseWindow(text string) (w indicator.Window) {
	if days, rest, ok := strings.Cut(text, "@"); ok && !strings.Contains(days, ":") {
		for day := range strings.SplitSeq(days, ",") {
			w.Days = append(w.Days, indicator.Day(day))
		}
		text = rest
	}
	text, w.Zone, _ = strings.Cut(text, "@")
	w.From, w.To, _ = strings.Cut(text, "-")
	return w
}

func (p *policy) parseFlow(line string) (Flow, error) {
	subject, want, found := strings.Cut(line, "->")
	if !found {
		return Flow{}, fmt.Errorf("the arrow before the result is missing")
	}
	flow := Flow{Text: line, Want: strings.Join(strings.Fields(want), " ")}
	s := &flow.Subject
	f := strings.Fields(subject)
	// From the end: what is left is the host.
	for ; len(f) >= 2; f = f[:len(f)-2] {
		if err := p.setWord(s, f[len(f)-2], f[len(f)-1]); err != nil {
			return Flow{}, err
		}
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

// setWord sets what two words say of a flow.
func (p *policy) setWord(s *verdict.Subject, word, value string) (err error) {
	switch word {
	case "at":
		s.Addr, err = netip.ParseAddr(value)
		s.Evidence = event.EvidenceIP
	case "port":
		var port uint64
		port, err = strconv.ParseUint(value, 10, 16)
		s.Port = uint16(port)
	case "by":
		if s.User = p.users[value]; s.User == nil {
			err = fmt.Errorf("there is no user %q", value)
		}
	case "looked":
		s.Lookup, s.Evidence = true, event.EvidenceDNS
	default:
		err = fmt.Errorf("%q says nothing about a flow", word+" "+value)
	}
	return err
}
