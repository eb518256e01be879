// Package explain decides how the question "why is this blocked, or not, on
// that machine?" is answered: by the chain of links from an app to a refused
// connection, each with what is true of it, and the one link that decides.
//
// It is pure. The server gathers the facts: what it has configured, what the
// device acknowledged, and, if the device is connected, what the device itself
// makes of the destination now.
package explain

import (
	"net/netip"
	"strings"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/cloudapp"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
	"interdict/internal/staging"
)

// Name names a link of the chain, in the order of the chain.
type Name string

// The links.
const (
	// LinkApp: the destination belongs to a cloud app.
	LinkApp Name = "app"
	// LinkTag: the app is tagged so that it is refused.
	LinkTag Name = "tag"
	// LinkFeature: the switch of the server which makes that count is on.
	LinkFeature Name = "feature"
	// LinkIndicator: an indicator asks for it, and no other overrules it.
	LinkIndicator Name = "indicator"
	// LinkScope: device, user and time are in the indicator's scope.
	LinkScope Name = "scope"
	// LinkPolicy: the device's policies turn network protection on.
	LinkPolicy Name = "policy"
	// LinkDelivery: the device has put the newest bundle into force.
	LinkDelivery Name = "delivery"
	// LinkDevice: the device's kernel asks the agent, and the agent answers.
	LinkDevice Name = "device"
	// LinkVerdict: what the device itself makes of it.
	LinkVerdict Name = "verdict"
	// LinkEvent: what happened last.
	LinkEvent Name = "event"
)

// State says whether a link holds.
type State string

// The states of a link.
const (
	// StateHolds: the link leads on towards a refused connection.
	StateHolds State = "holds"
	// StateBroken: it does not.
	StateBroken State = "broken"
	// StateUnknown: nobody can tell now, or it does not matter any more.
	StateUnknown State = "unknown"
)

// Link is one link of the chain.
type Link struct {
	Name  Name  `json:"name"`
	State State `json:"state" enum:"holds,broken,unknown"`
	// Text is a sentence for people.
	Text string `json:"text"`
	// Fix says what to type or do to mend a broken link; it may be empty.
	Fix string `json:"fix,omitempty"`
}

// Outcome is what becomes of a connection.
type Outcome string

// The outcomes.
const (
	OutcomeBlocked Outcome = "blocked"
	OutcomeWarned  Outcome = "warned"
	OutcomeAudited Outcome = "audited"
	OutcomeAllowed Outcome = "allowed"
	// OutcomeUnknown: the device cannot be asked, and enforces something
	// older than what it ought to.
	OutcomeUnknown Outcome = "unknown"
)

// Refused reports whether the connection does not come about.
func (o Outcome) Refused() bool { return o == OutcomeBlocked || o == OutcomeWarned }

// Chain is the answer.
type Chain struct {
	Subject Subject        `json:"subject"`
	Device  fleet.DeviceID `json:"device"`
	Name    string         `json:"device_name"`
	Outcome Outcome        `json:"outcome" enum:"blocked,warned,audited,allowed,unknown"`
	// Live is true if the device itself answered; otherwise the outcome is
	// what follows from what the device has acknowledged.
	Live  bool   `json:"live"`
	Links []Link `json:"links"`
	// Decisive is the link that decides: the first broken one where the
	// connection is not refused, and where it is the one that has it refused.
	Decisive Name `json:"decisive"`
	// Expected is what the asker expected, empty for nothing, and Unexpected
	// is true if it is not so.
	Expected   Outcome `json:"expected,omitempty" enum:"blocked,allowed"`
	Unexpected bool    `json:"unexpected,omitempty"`
}

// Subject is the destination that is asked about.
type Subject struct {
	Host string     `json:"host,omitempty"`
	Path string     `json:"path,omitempty"`
	IP   netip.Addr `json:"ip,omitzero"`
	// Port is where a connection would lead; 0 means nothing in particular.
	Port uint16 `json:"port,omitempty"`
	// User is the login name of a user of the device, empty for anybody.
	User string `json:"user,omitempty"`
}

// String is the destination as people write it.
func (s Subject) String() string {
	if s.Host == "" {
		return s.IP.String()
	}
	return s.Host + s.Path
}

// Facts are what the answer is made of.
type Facts struct {
	Subject Subject
	Now     time.Time
	// App is the app the destination belongs to, by the longest of its
	// domains; nil for none.
	App *App
	// Tagging is the tag of App, nil for none, and Trial a rollout on trial
	// of that tag.
	Tagging *cloudapp.Tagging
	Trial   *staging.Rollout
	// Candidates are all indicators that match the destination, whether or
	// not they count here. See [Matches].
	Candidates []Candidate
	Device     Device
	Policies   Policies
	// Answer is what the device itself said; nil if it did not.
	Answer *bundle.Answer
	// Events are the device's newest events about the destination that the
	// server has, newest first.
	Events []event.Event
	// GroupName names a group for people; nil leaves ids as they are.
	GroupName func(id string) string
}

// App is the app a destination belongs to.
type App struct {
	ID, Name string
	// Domain is the one that matched. Shared marks one that several apps
	// use.
	Domain string
	Shared bool
}

// Candidate is an indicator that matches the destination.
type Candidate struct {
	Indicator indicator.Indicator
	// Feature is the switch it depends on, and FeatureOn its position.
	Feature   fleet.Feature
	FeatureOn bool
	// DeviceInScope: the device is in the scope of its groups.
	DeviceInScope bool
	// SparedFor is the app that a name below the indicator's belongs to, so
	// that the name is spared; empty if it is not.
	SparedFor string
	// Protected says why it may not be enforced at all; empty if it may.
	Protected string
}

// Device is the device that is asked about.
type Device struct {
	fleet.Device

	// User is the subject's user as far as the device said; nil if nobody is
	// asked about or the groups are not known.
	User *indicator.User
}

// Policies are what the device's policies come to.
type Policies struct {
	Effective fleet.Effective
	// Name names a policy for people.
	Name func(id string) string
	// Missed are policies that turn network protection on and do not reach
	// the device, with why.
	Missed []Missed
	// Trial is a rollout on trial of the policy that network protection
	// comes from, or of one in Missed.
	Trial *staging.Rollout
}

// Missed is a policy that turns network protection on and does not decide
// about it on a device: Why is the end of a sentence, and Fix what to type.
type Missed struct{ Name, Why, Fix string }

// Quote writes a word of a command as a shell reads it.
func Quote(word string) string {
	if word != "" && !strings.ContainsFunc(word, special) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// special reports whether a shell may read a character as more than itself.
func special(r rune) bool {
	plain := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-/:@%+,", r)
	return !plain
}

// Flags writes a flag once for each value, and once without one if there is
// none, which takes a list away.
func Flags(flag string, values []string) string {
	if len(values) == 0 {
		values = []string{""}
	}
	var b strings.Builder
	for _, v := range values {
		b.WriteString(" --" + flag + " " + Quote(v))
	}
	return b.String()
}

// Matches reports whether an indicator matches a destination by its name or
// its address, whoever asks and whenever.
func Matches(i *indicator.Indicator, s Subject) bool {
	switch i.Type {
	case indicator.TypeDomain:
		return within(s.Host, i.Value)
	case indicator.TypeURL:
		host, path := indicator.SplitURL(i.Value)
		return host == s.Host && (path == "/" || s.Path != "" && indicator.PathCovers(path, indicator.CanonicalPath(s.Path)))
	case indicator.TypeIP, indicator.TypeCIDR:
		p, ok := i.Prefix()
		return ok && s.IP.IsValid() && p.Contains(s.IP.Unmap())
	default:
		return false
	}
}

// within reports whether a name is domain or below it.
func within(name, domain string) bool {
	n := len(name) - len(domain)
	return n == 0 && name == domain || n > 0 && name[n-1] == '.' && name[n:] == domain
}
