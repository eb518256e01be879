// Package doctor decides what is wrong with a machine on which an agent runs,
// or ought to: from facts about it to findings, each with what it means and
// the command that mends it.
//
// It is pure. The room below it, survey, finds the facts out; whatever it
// could not find out is part of the facts, and no check depends on another.
// The page docs/troubleshooting.md has a section for every check.
package doctor

import (
	"fmt"
	"time"
)

// Schema is the version of a Report as a document. It only grows.
const Schema = 2

// State is how a check ended.
type State string

// The states.
const (
	OK State = "ok"
	// Info is worth knowing when something is looked for, and no fault.
	Info State = "info"
	// Warn is something that is weaker than it could be, or soon will be.
	Warn State = "warn"
	// Fail is something that does not work.
	Fail State = "fail"
)

// Finding is what a check found.
type Finding struct {
	// Check is the name of the check. It is stable.
	Check string `json:"check"`
	State State  `json:"state"`
	// Text says what was found.
	Text string `json:"text"`
	// Means says what follows from it; empty if all is well.
	Means string `json:"means,omitempty"`
	// Mend is a command that mends it, or is the first step to that. Every
	// warning and failure has one.
	Mend string `json:"mend,omitempty"`
}

// Report is what all checks found.
type Report struct {
	Schema int       `json:"schema"`
	Time   time.Time `json:"time"`
	// Agent is the version of the program that examined.
	Agent    string        `json:"agent_version"`
	Findings []Finding     `json:"findings"`
	Counts   map[State]int `json:"counts"`
}

// check is one check: it has one finding at least.
type check struct {
	name string
	find func(*Facts) []Finding
	need need
}

// need says whether the facts of a check can be found out by anybody.
type need bool

const (
	nothing need = false
	root    need = true
)

// checks returns all checks, in the order in which people read them.
func checks() []check {
	all := []check{{"privileges", privileges, nothing}, {"kernel", kernel, nothing}}
	all = append(all, features()...)
	return append(all,
		check{"agent", running, root},
		check{"enforcement", enforcement, root},
		check{"rules", rules, root},
		check{"queues", ownQueues, root},
		check{"other_queues", otherQueues, root},
		check{"health", healthItems, root},
		check{"enrolment", enrolment, root},
		check{"certificate", certificate, root},
		check{"server", server, root},
		check{"clock", clock, nothing},
		check{"bundle", bundleInForce, root},
		check{"settings_files", settingsFiles, nothing},
		check{"state_directory", stateDirectory, root},
		check{"disk", disk, root},
		check{"spool", spool, root},
		check{"system_journal", systemJournal, nothing},
		check{"name_servers", nameServers, nothing},
		check{"encrypted_dns", encryptedDNS, nothing},
		check{"firewall_managers", firewallManagers, nothing},
		check{"security_software", securitySoftware, nothing},
		check{"vpn", vpn, nothing},
		check{"network_namespaces", networkNamespaces, root},
	)
}

// Names returns the names of all checks, in order.
func Names() []string {
	var names []string
	for _, c := range checks() {
		names = append(names, c.name)
	}
	return names
}

// Examine runs all checks.
func Examine(f *Facts) Report {
	r := Report{Schema: Schema, Time: f.Now.UTC(), Agent: f.Version, Counts: make(map[State]int)}
	for _, c := range checks() {
		for _, found := range c.run(f) {
			found.Check = c.name
			r.Findings = append(r.Findings, found)
			r.Counts[found.State]++
		}
	}
	return r
}

// run runs one check, if its facts could be found out.
func (c check) run(f *Facts) []Finding {
	if c.need == root && f.UID != 0 {
		return info("needs root").alone()
	}
	return c.find(f)
}

func ok(format string, args ...any) []Finding {
	return []Finding{{State: OK, Text: fmt.Sprintf(format, args...)}}
}

func info(format string, args ...any) Finding {
	return Finding{State: Info, Text: fmt.Sprintf(format, args...)}
}

func warn(format string, args ...any) Finding {
	return Finding{State: Warn, Text: fmt.Sprintf(format, args...)}
}

func fail(format string, args ...any) Finding {
	return Finding{State: Fail, Text: fmt.Sprintf(format, args...)}
}

// means adds what follows from a finding.
func (f Finding) means(format string, args ...any) Finding {
	f.Means = fmt.Sprintf(format, args...)
	return f
}

// mend adds the command, and makes it the only finding.
func (f Finding) mend(format string, args ...any) []Finding {
	f.Mend = fmt.Sprintf(format, args...)
	return []Finding{f}
}

// alone is a finding that nothing needs to be done about.
func (f Finding) alone() []Finding { return []Finding{f} }
