package bundle

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"interdict/internal/access"
	"interdict/internal/bypass"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

// The agent API, all below PathPrefix and all with the device's certificate,
// except enrolment, which takes a token.
const (
	PathPrefix = "/agent/v1"
	// PathEnroll: POST EnrollRequest, answered with EnrollResponse.
	PathEnroll = PathPrefix + "/enroll"
	// PathRenew: POST RenewRequest, answered with RenewResponse.
	PathRenew = PathPrefix + "/renew"
	// PathStream: GET with HeaderFacts, answered with one Message a line for
	// as long as both sides are there.
	PathStream = PathPrefix + "/stream"
	// PathBundle: GET with the query parameters "version" and "digest" of
	// the bundle in force (absent for none), answered with an Envelope, or
	// with status 204 when there is nothing newer, or 409 when this server
	// is behind the agent's version: keep what is in force, ask again later.
	PathBundle = PathPrefix + "/bundle"
	// PathApplied: POST fleet.Applied, answered with status 204.
	PathApplied = PathPrefix + "/applied"
	// PathEvents: POST events, one JSON object a line, compressed with zstd
	// (Content-Encoding: zstd), with HeaderIdempotencyKey; answered with
	// EventReceipt. The same key with the same batch may be sent again.
	PathEvents = PathPrefix + "/events"
	// PathUsage: POST UsageReport with HeaderIdempotencyKey; answered with
	// status 204. The same key may be sent again.
	PathUsage = PathPrefix + "/usage"
	// PathRequests: POST access.Request makes a request for access of one of
	// the device's users, answered with the request as the server has it, also
	// when it is sent again; GET is answered with AccessRequests.
	PathRequests = PathPrefix + "/requests"
	// PathAnswer: POST Answer, for a MessageAsk; answered with status 204.
	PathAnswer = PathPrefix + "/answer"
	// PathUnenroll: POST, empty; the device is deleted. Answered with 204.
	PathUnenroll = PathPrefix + "/unenroll"
)

// HeaderIdempotencyKey carries the ULID of a batch of events.
const HeaderIdempotencyKey = "Idempotency-Key"

// HeaderFacts carries the agent's Facts, in JSON, on PathStream, so that the
// server learns of upgrades. It may be missing.
const HeaderFacts = "Interdict-Facts"

// MaxEventBatch bounds a batch of events: its number of events.
const MaxEventBatch = 1000

// Facts are what a device says of itself.
type Facts struct {
	Hostname     string `json:"hostname,omitempty"`
	OS           string `json:"os,omitempty"`
	OSVersion    string `json:"os_version,omitempty"`
	Arch         string `json:"arch,omitempty"`
	AgentVersion string `json:"agent_version,omitempty"`
}

// EnrollRequest asks for a certificate.
type EnrollRequest struct {
	// Secret is the secret part of the enrolment token.
	Secret string `json:"secret"`
	// CSR is a PKCS #10 request in DER for a P-256 key; its subject is
	// ignored.
	CSR    []byte            `json:"csr"`
	Name   string            `json:"name,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
	Facts  Facts             `json:"facts"`
}

// EnrollResponse makes a machine a device.
type EnrollResponse struct {
	DeviceID fleet.DeviceID `json:"device_id"`
	// Certificate is the device's, CA the one that agents trust the server
	// by; both in DER.
	Certificate []byte `json:"certificate"`
	CA          []byte `json:"ca"`
	// BundleKey is the Ed25519 public key that the agent pins.
	BundleKey []byte `json:"bundle_key"`
}

// RenewRequest asks for a new certificate for the same device.
type RenewRequest struct {
	CSR []byte `json:"csr"`
}

// RenewResponse carries it.
type RenewResponse struct {
	Certificate []byte `json:"certificate"`
}

// MessageType is the type of a Message.
type MessageType string

// The types of messages. An agent ignores types that it does not know.
const (
	// MessageHello comes first: the desired version and digest.
	MessageHello MessageType = "hello"
	// MessageNudge says that there is a new bundle.
	MessageNudge MessageType = "nudge"
	// MessageSync asks the agent to check now and acknowledge in any case.
	MessageSync MessageType = "sync"
	// MessageRequests says that a request for access was decided: ask for
	// them.
	MessageRequests MessageType = "requests"
	// MessageAsk asks what the device makes of a destination: Question.
	MessageAsk MessageType = "ask"
	// MessagePing keeps the stream alive when nothing else is said.
	MessagePing MessageType = "ping"
)

// Message is one line of the stream.
type Message struct {
	Type    MessageType `json:"type"`
	Version uint64      `json:"version,omitempty"`
	Digest  string      `json:"digest,omitempty"`
	// PingSeconds is, in hello, the interval of pings: a stream silent for
	// three of them is dead.
	PingSeconds int `json:"ping_seconds,omitempty"`
	// Now is the server's clock, so that an agent can tell a wrong one.
	Now time.Time `json:"now,omitzero"`
	// Question is set in MessageAsk.
	Question *Question `json:"question,omitempty"`
}

// Question asks what a device makes of a destination.
type Question struct {
	// ID is a ULID, for the answer to carry.
	ID   string     `json:"id"`
	Host string     `json:"host,omitempty"`
	Path string     `json:"path,omitempty"`
	IP   netip.Addr `json:"ip,omitzero"`
	// Port is where a connection would lead; 0 means 443.
	Port uint16 `json:"port,omitempty"`
	// User is the login name of one of the device's users; empty for
	// somebody unknown.
	User string `json:"user,omitempty"`
}

// Answer is what a device makes of a destination now, and in which state it
// is itself.
type Answer struct {
	// ID is that of the Question.
	ID string `json:"id"`
	// Error says why the question could not be answered; all else is empty
	// then.
	Error string `json:"error,omitempty"`
	// NoUser is true, beside Error, if the device knows no such user.
	NoUser bool `json:"no_user,omitempty"`
	// UID and UserGroups are those of the question's user.
	UID        uint32   `json:"uid,omitempty"`
	UserGroups []string `json:"user_groups,omitempty"`
	// Version is that of the bundle in force, 0 for none.
	Version uint64 `json:"bundle_version,omitempty"`
	// Enforcing is false while rescue suspends everything or no rules are in
	// force. Listening is false while nobody reads what the kernel queues.
	Enforcing bool `json:"enforcing"`
	Listening bool `json:"listening"`
	// Action, Step, IndicatorID, AppID and Mode are the verdict's; Action is
	// empty when nothing applies.
	Action      indicator.Action `json:"action,omitempty"`
	Step        string           `json:"step,omitempty"`
	IndicatorID string           `json:"indicator_id,omitempty"`
	Indicator   string           `json:"indicator,omitempty"`
	AppID       string           `json:"app_id,omitempty"`
	Mode        fleet.Mode       `json:"mode,omitempty"`
	// Bypass is the user's bypass that lets the connection pass.
	Bypass *bypass.Bypass `json:"bypass,omitempty"`
	// OutOfScope are the ids of indicators that match and do not count for
	// the user or at this time.
	OutOfScope []string `json:"out_of_scope,omitempty"`
	// Settings are all settings in force, with their channels.
	Settings []fleet.SettingReport `json:"settings,omitempty"`
	Health   []fleet.HealthItem    `json:"health,omitempty"`
	// LastEvent is the newest event about the destination in the device's
	// own log.
	LastEvent *event.Event `json:"last_event,omitempty"`
}

// MaxUses bounds a report's number of uses.
const MaxUses = 2000

// UsageReport says which names were connected to in a span of time.
type UsageReport struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	Uses  []Use     `json:"uses"`
	// Dropped counts the connections that are missing because there were too
	// many different ones.
	Dropped int `json:"dropped,omitempty"`
}

// Use is the connections of one program of one user to one name.
type Use struct {
	Host    string `json:"host"`
	Process string `json:"process,omitempty"`
	User    string `json:"user,omitempty"`
	// Count is the number of connections, at least 1.
	Count int `json:"count"`
}

// AccessRequests are the requests of a device's users that are pending, or
// were decided in the last week.
type AccessRequests struct {
	Requests []access.Request `json:"requests"`
}

// EventReceipt says what became of a batch. The agent may forget all of it.
type EventReceipt struct {
	Stored   int `json:"stored"`
	Rejected int `json:"rejected,omitempty"`
	// Fault is why the first rejected event was rejected.
	Fault string `json:"fault,omitempty"`
}

// tokenPrefix starts every enrolment token, so that people and scanners for
// leaked secrets recognise one.
const tokenPrefix = "idt1_"

// Token is an enrolment token: one string that has all a machine needs.
type Token struct {
	// URL is the server's, https.
	URL string
	// CAFingerprint is the SHA-256 of the CA certificate in DER, in
	// lower-case hexadecimal.
	CAFingerprint string
	// Secret is what the server knows the token by. It is an upper bound on
	// what a stranger can do with the token: enrol a machine.
	Secret string
}

// Fingerprint is the SHA-256 of a certificate in DER, in lower-case
// hexadecimal.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// String returns the token as it is handed to a machine: the prefix and, in
// base64url, the three parts separated by spaces.
func (t Token) String() string {
	text := strings.Join([]string{t.URL, t.CAFingerprint, t.Secret}, " ")
	return tokenPrefix + base64.RawURLEncoding.EncodeToString([]byte(text))
}

// ParseToken reads a token, white space around it ignored.
func ParseToken(s string) (Token, error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(s), tokenPrefix)
	if !ok {
		return Token{}, fmt.Errorf("reading the enrolment token: it does not start with %q", tokenPrefix)
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	parts := strings.Split(string(b), " ")
	if err != nil || len(parts) != 3 {
		return Token{}, errors.New("reading the enrolment token: it is cut off or mistyped")
	}
	t := Token{URL: parts[0], CAFingerprint: parts[1], Secret: parts[2]}
	u, err := url.Parse(t.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return Token{}, fmt.Errorf("reading the enrolment token: its server address %q is not an https URL", t.URL)
	}
	if fp, err := hex.DecodeString(t.CAFingerprint); err != nil || len(fp) != sha256.Size {
		return Token{}, errors.New("reading the enrolment token: its certificate fingerprint is damaged")
	}
	if t.Secret == "" {
		return Token{}, errors.New("reading the enrolment token: it has no secret")
	}
	return t, nil
}
