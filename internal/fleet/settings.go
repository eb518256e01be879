package fleet

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Mode is what a protection does with what it recognises.
type Mode string

// The modes, from the most lenient to the strictest.
const (
	ModeDisabled Mode = "disabled"
	ModeAudit    Mode = "audit"
	ModeBlock    Mode = "block"
)

// Protection is what is done about programs that get around the system's
// name servers.
type Protection string

// The degrees of protection, from the most lenient to the strictest.
const (
	ProtectionOff   Protection = "off"
	ProtectionAudit Protection = "audit"
	ProtectionBlock Protection = "block"
)

// FailMode is what happens to a connection that cannot be judged in time.
type FailMode string

// The fail modes, from the most lenient to the strictest.
const (
	FailOpen   FailMode = "open"
	FailClosed FailMode = "closed"
)

// Switch is something that is on or off.
type Switch string

// The positions of a switch.
const (
	Off Switch = "off"
	On  Switch = "on"
)

// Demand says whether people have to give something.
type Demand string

// The demands, from the most lenient to the strictest.
const (
	Optional Demand = "optional"
	Required Demand = "required"
)

// Span is a length of time as people write it: "90s", "1h30m", "24h".
type Span string

// Duration returns the span's length; 0 for one that cannot be read.
func (s Span) Duration() time.Duration {
	d, err := time.ParseDuration(string(s))
	if err != nil {
		return 0
	}
	return d
}

// Settings are the settings a policy can make, each in its canonical form. An
// empty value leaves the setting to the next policy in line, or to its
// default. [Definitions] says everything else about them.
type Settings struct {
	NetworkProtection   Mode       `json:"network_protection,omitempty" enum:"disabled,audit,block" doc:"What is done with connections to unsanctioned apps"`
	AppControl          Mode       `json:"app_control,omitempty" enum:"disabled,audit,block" doc:"What is done when the programs of unsanctioned apps start"`
	BypassProtection    Protection `json:"bypass_protection,omitempty" enum:"off,audit,block" doc:"What is done with connections to encrypted DNS services"`
	FailMode            FailMode   `json:"fail_mode,omitempty" enum:"open,closed" doc:"What happens to a connection that cannot be judged"`
	GatewayMode         Switch     `json:"gateway_mode,omitempty" enum:"off,on" doc:"Whether connections that the device forwards for others are judged too"`
	Notifications       Switch     `json:"notifications,omitempty" enum:"off,on" doc:"Whether users are told on their desktop what was refused"`
	NotificationText    string     `json:"notification_text,omitempty" doc:"What users are told; {app}, {host}, {reason} and {contact} are filled in"`
	SupportContact      string     `json:"support_contact,omitempty" doc:"Whom users are told to ask"`
	SupportURL          string     `json:"support_url,omitempty" doc:"Where users find help, http or https"`
	WarnBypassDuration  Span       `json:"warn_bypass_duration,omitempty" doc:"For how long a user may go on after a warning: 24h"`
	BypassReason        Demand     `json:"bypass_reason,omitempty" enum:"optional,required" doc:"Whether users have to say why they go on after a warning"`
	EventUploadInterval Span       `json:"event_upload_interval,omitempty" doc:"How often a device sends its events: 1s"`
	UsageReporting      Switch     `json:"usage_reporting,omitempty" enum:"off,on" doc:"Whether devices report which apps are used, by whom and with which program"`
}

// The names of settings, as Effective.Origin, bundles, drop-in files and the
// agent's commands have them.
const (
	SettingNetworkProtection   = "network_protection"
	SettingAppControl          = "app_control"
	SettingBypassProtection    = "bypass_protection"
	SettingFailMode            = "fail_mode"
	SettingGatewayMode         = "gateway_mode"
	SettingNotifications       = "notifications"
	SettingNotificationText    = "notification_text"
	SettingSupportContact      = "support_contact"
	SettingSupportURL          = "support_url"
	SettingWarnBypassDuration  = "warn_bypass_duration" //nolint:gosec // a bypass is no password
	SettingBypassReason        = "bypass_reason"
	SettingEventUploadInterval = "event_upload_interval"
	SettingUsageReporting      = "usage_reporting"
)

// Definition is everything about one setting but its value.
type Definition struct {
	Name string
	// Summary says in a few words what it does.
	Summary string
	Default string
	// Values are the values it can have, from the most lenient to the
	// strictest; nil for a span or a text.
	Values []string
	// Least and Most bound a span; both are zero for anything else.
	Least, Most time.Duration

	get   func(*Settings) string
	set   func(*Settings, string)
	check func(string) (string, error)
	// strictness orders values; nil where none is stricter than another.
	strictness func(a, b string) int
}

// Definitions returns all settings, in the order in which people read them.
func Definitions() []Definition {
	return []Definition{
		choice(SettingNetworkProtection, "connections to unsanctioned apps", func(s *Settings) *Mode { return &s.NetworkProtection }, ModeDisabled, Modes()...),
		choice(SettingAppControl, "starts of unsanctioned apps' programs", func(s *Settings) *Mode { return &s.AppControl }, ModeDisabled, Modes()...),
		choice(SettingBypassProtection, "connections to encrypted DNS services", func(s *Settings) *Protection { return &s.BypassProtection }, ProtectionOff, ProtectionOff, ProtectionAudit, ProtectionBlock),
		choice(SettingFailMode, "connections that cannot be judged", func(s *Settings) *FailMode { return &s.FailMode }, FailOpen, FailModes()...),
		choice(SettingGatewayMode, "judging forwarded connections too", func(s *Settings) *Switch { return &s.GatewayMode }, Off, Off, On),
		choice(SettingNotifications, "telling users what was refused", func(s *Settings) *Switch { return &s.Notifications }, On, Off, On),
		text(SettingNotificationText, "what users are told", func(s *Settings) *string { return &s.NotificationText }, checkNotification),
		text(SettingSupportContact, "whom users are told to ask", func(s *Settings) *string { return &s.SupportContact }, checkLine),
		text(SettingSupportURL, "where users find help", func(s *Settings) *string { return &s.SupportURL }, checkURL),
		span(SettingWarnBypassDuration, "how long a user may go on after a warning", func(s *Settings) *Span { return &s.WarnBypassDuration }, "24h", time.Second, 30*24*time.Hour),
		choice(SettingBypassReason, "whether going on needs a reason", func(s *Settings) *Demand { return &s.BypassReason }, Optional, Optional, Required),
		span(SettingEventUploadInterval, "how often events are sent", func(s *Settings) *Span { return &s.EventUploadInterval }, "1s", time.Second, 24*time.Hour),
		choice(SettingUsageReporting, "reporting which apps are used", func(s *Settings) *Switch { return &s.UsageReporting }, On, Off, On),
	}
}

// Define returns the definition of the setting with a name. Dashes count as
// underscores: commands write network-protection.
func Define(name string) (Definition, bool) {
	name = strings.ReplaceAll(name, "-", "_")
	for _, d := range Definitions() {
		if d.Name == name {
			return d, true
		}
	}
	return Definition{}, false
}

// Get returns the setting's value in s; empty if s does not make it.
func (d *Definition) Get(s *Settings) string { return d.get(s) }

// Parse returns a value in its canonical form, or what is wrong with it, as a
// rule such as "must be off or on".
func (d *Definition) Parse(value string) (string, error) { return d.check(value) }

// Set makes the setting in s; an empty value unmakes it. Otherwise the error
// is that of Parse.
func (d *Definition) Set(s *Settings, value string) error {
	if value != "" {
		var err error
		if value, err = d.check(value); err != nil {
			return err
		}
	}
	d.set(s, value)
	return nil
}

// Compare is positive if a is stricter than b, negative if b is, and 0 if
// neither is: of texts none is stricter than another.
func (d *Definition) Compare(a, b string) int {
	if d.strictness == nil || a == b {
		return 0
	}
	return d.strictness(a, b)
}

func choice[V ~string](name, summary string, field func(*Settings) *V, def V, values ...V) Definition {
	d := Definition{Name: name, Summary: summary, Default: string(def)}
	for _, v := range values {
		d.Values = append(d.Values, string(v))
	}
	d.get, d.set = accessors(field)
	d.check = func(value string) (string, error) {
		if !slices.Contains(d.Values, value) {
			last := len(d.Values) - 1
			return "", fmt.Errorf("must be %s or %s", strings.Join(d.Values[:last], ", "), d.Values[last])
		}
		return value, nil
	}
	d.strictness = func(a, b string) int { return cmp.Compare(slices.Index(d.Values, a), slices.Index(d.Values, b)) }
	return d
}

// span is a setting that is the stricter the shorter it is.
func span(name, summary string, field func(*Settings) *Span, def Span, least, most time.Duration) Definition {
	d := Definition{Name: name, Summary: summary, Default: string(def), Least: least, Most: most}
	d.get, d.set = accessors(field)
	d.check = func(value string) (string, error) {
		length, err := time.ParseDuration(value)
		if err != nil || length < least || length > most || length%time.Second != 0 {
			return "", fmt.Errorf("must be a length of time from %s to %s, in whole seconds, such as 90s or 24h", canonical(least), canonical(most))
		}
		return string(canonical(length)), nil
	}
	d.strictness = func(a, b string) int { return cmp.Compare(Span(b).Duration(), Span(a).Duration()) }
	return d
}

// canonical writes a length of whole seconds without its empty parts: 24h,
// not 24h0m0s.
func canonical(length time.Duration) Span {
	s := length.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return Span(s)
}

func text(name, summary string, field func(*Settings) *string, check func(string) (string, error)) Definition {
	d := Definition{Name: name, Summary: summary, check: check}
	d.get, d.set = accessors(field)
	return d
}

func accessors[V ~string](field func(*Settings) *V) (get func(*Settings) string, set func(*Settings, string)) {
	return func(s *Settings) string { return string(*field(s)) }, func(s *Settings, value string) { *field(s) = V(value) }
}

// The bounds of texts, in bytes.
const (
	maxNotification = 500
	maxTextLine     = 200
)

// Placeholders are what a notification's text may have filled in.
func Placeholders() []string { return []string{"{app}", "{host}", "{reason}", "{contact}"} }

func checkNotification(value string) (string, error) {
	if len(value) > maxNotification || !printable(value) {
		return "", fmt.Errorf("must be printable text of at most %d bytes", maxNotification)
	}
	rest := value
	for _, p := range Placeholders() {
		rest = strings.ReplaceAll(rest, p, "")
	}
	if strings.ContainsAny(rest, "{}") {
		return "", fmt.Errorf("must not have braces but those of %s", strings.Join(Placeholders(), ", "))
	}
	return value, nil
}

func checkLine(value string) (string, error) {
	if len(value) > maxTextLine || !printable(value) {
		return "", fmt.Errorf("must be printable text of at most %d bytes", maxTextLine)
	}
	return value, nil
}

func checkURL(value string) (string, error) {
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || len(value) > maxTextLine || !printable(value) {
		return "", fmt.Errorf("must be an address such as https://help.example.com/, of at most %d bytes", maxTextLine)
	}
	return value, nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// Modes returns all modes, the most lenient first.
func Modes() []Mode { return []Mode{ModeDisabled, ModeAudit, ModeBlock} }

// Valid reports whether m is one of [Modes].
func (m Mode) Valid() bool { return slices.Contains(Modes(), m) }

// FailModes returns all fail modes, the most lenient first.
func FailModes() []FailMode { return []FailMode{FailOpen, FailClosed} }

// Valid reports whether m is one of [FailModes].
func (m FailMode) Valid() bool { return slices.Contains(FailModes(), m) }

// Defaults are the values of settings that nobody makes.
func Defaults() Settings {
	var s Settings
	for _, d := range Definitions() {
		d.set(&s, d.Default)
	}
	return s
}
