package indicator

import (
	"errors"
	"slices"
	"strings"
	"time"

	"interdict/internal/fault"
)

// MaxDescription bounds an indicator's description in bytes.
const MaxDescription = 1024

// Types returns all types.
func Types() []Type {
	return []Type{TypeDomain, TypeURL, TypeIP, TypeCIDR, TypeCertificate, TypeFileSHA256}
}

// Actions returns all actions in the order of precedence.
func Actions() []Action {
	return []Action{ActionAllow, ActionWarn, ActionBlock, ActionAudit}
}

// Severities returns all severities, the least first.
func Severities() []Severity {
	return []Severity{SeverityInformational, SeverityLow, SeverityMedium, SeverityHigh}
}

// Sources returns all sources in the order of precedence.
func Sources() []Source {
	return []Source{SourceCustom, SourceFeed, SourceCatalog, SourceLocal, SourceResolver}
}

// Valid reports whether t is one of [Types].
func (t Type) Valid() bool { return slices.Contains(Types(), t) }

// Network reports whether indicators of the type are matched against
// connections. The others may be stored, and say nothing about a connection.
func (t Type) Network() bool {
	switch t {
	case TypeDomain, TypeURL, TypeIP, TypeCIDR:
		return true
	default:
		return false
	}
}

// Valid reports whether a is one of [Actions].
func (a Action) Valid() bool { return slices.Contains(Actions(), a) }

// Refuses reports whether the action, in block mode, refuses a connection.
func (a Action) Refuses() bool { return a == ActionBlock || a == ActionWarn }

// Valid reports whether s is one of [Severities].
func (s Severity) Valid() bool { return slices.Contains(Severities(), s) }

// Valid reports whether s is one of [Sources].
func (s Source) Valid() bool { return slices.Contains(Sources(), s) }

// Validate returns i with its value in canonical form, and everything that is
// wrong with it: the fields are called as in its JSON. The severity may be
// empty. Whether the value is protected is for [Protected.Check] to say.
func Validate(i Indicator, now time.Time) (Indicator, fault.Fields) {
	var faults fault.Fields
	if !i.Type.Valid() {
		faults.Add("type", "must be one of %s", list(Types()))
	} else if value, err := Parse(i.Type, i.Value); err != nil {
		faults.Add("value", "%s", ruleOf(err))
	} else {
		i.Value = value
	}
	if !i.Action.Valid() {
		faults.Add("action", "must be one of %s", list(Actions()))
	}
	if i.Severity != "" && !i.Severity.Valid() {
		faults.Add("severity", "must be one of %s", list(Severities()))
	}
	if !i.Source.Valid() {
		faults.Add("source", "must be one of %s", list(Sources()))
	}
	if i.Expired(now) {
		faults.Add("expires_at", "must be in the future")
	}
	checkDescription(&faults, i.Description)
	checkProfile(&faults, &i.Scope)
	return i, faults
}

func ruleOf(err error) string {
	if v, ok := errors.AsType[*ValueError](err); ok {
		return v.Rule
	}
	return err.Error()
}

func checkDescription(faults *fault.Fields, text string) {
	if len(text) > MaxDescription {
		faults.Add("description", "must not be longer than %d bytes", MaxDescription)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 && r != '\n' && r != '\t' || r == 0x7f }) {
		faults.Add("description", "must not have control characters")
	}
}

// maxPeople bounds each list of users and of their groups, maxWindows the
// windows, and maxUserName a name in bytes.
const (
	maxPeople   = 200
	maxWindows  = 50
	maxUserName = 256
)

func checkProfile(faults *fault.Fields, p *Profile) {
	checkScope(faults, p.Scope)
	for _, list := range []struct {
		name  string
		names []string
	}{
		{"scope.include_users", p.IncludeUsers},
		{"scope.exclude_users", p.ExcludeUsers},
		{"scope.include_user_groups", p.IncludeUserGroups},
		{"scope.exclude_user_groups", p.ExcludeUserGroups},
	} {
		if len(list.names) > maxPeople {
			faults.Add(list.name, "must not have more than %d names", maxPeople)
		}
		if slices.ContainsFunc(list.names, func(n string) bool {
			return n == "" || len(n) > maxUserName || strings.ContainsFunc(n, func(r rune) bool { return r < 0x20 || r == 0x7f })
		}) {
			faults.Add(list.name, "must have names of 1 to %d printable bytes", maxUserName)
		}
	}
	if len(p.Windows) > maxWindows {
		faults.Add("scope.windows", "must not have more than %d windows", maxWindows)
	}
	for i := range p.Windows {
		if err := p.Windows[i].Check(); err != nil {
			faults.Add("scope.windows", "%s", err)
		}
	}
}

// CheckProfile returns what is wrong with a profile, the fields called as in
// the JSON of an indicator.
func CheckProfile(p *Profile) fault.Fields {
	var faults fault.Fields
	checkProfile(&faults, p)
	return faults
}

func checkScope(faults *fault.Fields, s Scope) {
	if slices.Contains(s.Include, "") {
		faults.Add("scope.include_groups", "must not have an empty group")
	}
	if slices.Contains(s.Exclude, "") {
		faults.Add("scope.exclude_groups", "must not have an empty group")
	}
	for _, g := range s.Include {
		if g != "" && slices.Contains(s.Exclude, g) {
			faults.Add("scope.exclude_groups", "must not have group %q, which is also included", g)
		}
	}
}
