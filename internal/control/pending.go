package control

import (
	"context"
	"crypto/tls"
	"crypto/x509"

	"interdict/internal/alert"
	"interdict/internal/bundle"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

var errPending = fault.New(fault.Unavailable, "not there yet")

type Service struct{}

func New(ctx context.Context, c Config) (*Service, error) { return nil, errPending }
func (s *Service) Start(ctx context.Context) error        { return errPending }
func (s *Service) Shutdown(ctx context.Context) error     { return errPending }

// Ready returns nil when the store answers.
func (s *Service) Ready(ctx context.Context) error { return errPending }

// EnsureAPIToken makes an API token with a given secret unless there is one with that secret.
func (s *Service) EnsureAPIToken(ctx context.Context, name, secret string, role Role) error {
	return errPending
}

// NewAPISecret makes the secret of an API token ("ida1_...").
func NewAPISecret() string { return "" }

func (s *Service) AuthenticateToken(ctx context.Context, presented string) (Actor, error) {
	return Actor{}, errPending
}
func (s *Service) Refused(ctx context.Context, a Attempt) error { return errPending }
func (s *Service) CA() *x509.Certificate                        { return nil }

// ServerCertificate is cached, renewed on the fly: call it from tls.Config.GetCertificate.
func (s *Service) ServerCertificate(hosts []string) (tls.Certificate, error) {
	return tls.Certificate{}, errPending
}

// Device exists? A deleted device is refused with fault.Unauthorized.
func (s *Service) AuthenticateDevice(ctx context.Context, cert *x509.Certificate) (fleet.DeviceID, error) {
	return "", errPending
}

func (s *Service) Apps(ctx context.Context, q AppQuery) (Page[AppView], error) {
	return Page[AppView]{}, errPending
}
func (s *Service) App(ctx context.Context, ref string) (AppView, error) { return AppView{}, errPending }
func (s *Service) TagApps(ctx context.Context, a Actor, r TagRequest) (Change, error) {
	return Change{}, errPending
}
func (s *Service) Rollout(ctx context.Context) (fleet.Rollout, error) {
	return fleet.Rollout{}, errPending
}

func (s *Service) Indicators(ctx context.Context, q IndicatorQuery) (Page[indicator.Indicator], error) {
	return Page[indicator.Indicator]{}, errPending
}
func (s *Service) Indicator(ctx context.Context, id string) (indicator.Indicator, error) {
	return indicator.Indicator{}, errPending
}
func (s *Service) CreateIndicator(ctx context.Context, a Actor, n NewIndicator) (indicator.Indicator, Change, error) {
	return indicator.Indicator{}, Change{}, errPending
}
func (s *Service) DeleteIndicator(ctx context.Context, a Actor, id string) (Change, error) {
	return Change{}, errPending
}

func (s *Service) Groups(ctx context.Context, q PageQuery) (Page[GroupView], error) {
	return Page[GroupView]{}, errPending
}
func (s *Service) Group(ctx context.Context, ref string) (GroupView, error) {
	return GroupView{}, errPending
}
func (s *Service) CreateGroup(ctx context.Context, a Actor, n NewGroup) (GroupView, Change, error) {
	return GroupView{}, Change{}, errPending
}
func (s *Service) UpdateGroup(ctx context.Context, a Actor, ref string, version uint64, n NewGroup) (GroupView, Change, error) {
	return GroupView{}, Change{}, errPending
}
func (s *Service) DeleteGroup(ctx context.Context, a Actor, ref string, version uint64) (Change, error) {
	return Change{}, errPending
}

func (s *Service) Policies(ctx context.Context, q PageQuery) (Page[fleet.Policy], error) {
	return Page[fleet.Policy]{}, errPending
}
func (s *Service) Policy(ctx context.Context, ref string) (fleet.Policy, error) {
	return fleet.Policy{}, errPending
}
func (s *Service) CreatePolicy(ctx context.Context, a Actor, n NewPolicy) (fleet.Policy, Change, error) {
	return fleet.Policy{}, Change{}, errPending
}
func (s *Service) UpdatePolicy(ctx context.Context, a Actor, ref string, version uint64, n NewPolicy) (fleet.Policy, Change, error) {
	return fleet.Policy{}, Change{}, errPending
}
func (s *Service) AssignPolicy(ctx context.Context, a Actor, ref string, version uint64, scope indicator.Scope) (fleet.Policy, Change, error) {
	return fleet.Policy{}, Change{}, errPending
}
func (s *Service) DeletePolicy(ctx context.Context, a Actor, ref string, version uint64) (Change, error) {
	return Change{}, errPending
}
func (s *Service) PolicyStatus(ctx context.Context, ref string) (PolicyStatus, error) {
	return PolicyStatus{}, errPending
}

func (s *Service) Devices(ctx context.Context, q DeviceQuery) (Page[DeviceView], error) {
	return Page[DeviceView]{}, errPending
}
func (s *Service) Device(ctx context.Context, ref string) (DeviceView, error) {
	return DeviceView{}, errPending
}
func (s *Service) UpdateDevice(ctx context.Context, a Actor, ref string, version uint64, u DeviceUpdate) (DeviceView, Change, error) {
	return DeviceView{}, Change{}, errPending
}
func (s *Service) DeleteDevice(ctx context.Context, a Actor, ref string, version uint64) (Change, error) {
	return Change{}, errPending
}

// SyncDevice asks the device to check now and waits for its acknowledgement or the end of ctx.
func (s *Service) SyncDevice(ctx context.Context, a Actor, ref string) (DeviceView, error) {
	return DeviceView{}, errPending
}

// CreateToken also returns the token itself (idt1_...), this once.
func (s *Service) CreateToken(ctx context.Context, a Actor, n NewToken) (TokenView, string, error) {
	return TokenView{}, "", errPending
}
func (s *Service) Tokens(ctx context.Context, q PageQuery) (Page[TokenView], error) {
	return Page[TokenView]{}, errPending
}
func (s *Service) RevokeToken(ctx context.Context, a Actor, ref string) (TokenView, error) {
	return TokenView{}, errPending
}

func (s *Service) Features(ctx context.Context) ([]FeatureView, error) { return nil, errPending }
func (s *Service) SetFeature(ctx context.Context, a Actor, name fleet.Feature, u FeatureUpdate) (FeatureView, Change, error) {
	return FeatureView{}, Change{}, errPending
}
func (s *Service) AuditLog(ctx context.Context, q AuditQuery) (Page[AuditEntry], error) {
	return Page[AuditEntry]{}, errPending
}
func (s *Service) Alerts(ctx context.Context, q AlertQuery) (Page[alert.Alert], error) {
	return Page[alert.Alert]{}, errPending
}
func (s *Service) Alert(ctx context.Context, id string) (alert.Alert, error) {
	return alert.Alert{}, errPending
}
func (s *Service) Events(ctx context.Context, q EventQuery) (Page[event.Event], error) {
	return Page[event.Event]{}, errPending
}

func (s *Service) Enroll(ctx context.Context, r bundle.EnrollRequest, remote string) (bundle.EnrollResponse, error) {
	return bundle.EnrollResponse{}, errPending
}
func (s *Service) Renew(ctx context.Context, id fleet.DeviceID, r bundle.RenewRequest) (bundle.RenewResponse, error) {
	return bundle.RenewResponse{}, errPending
}
func (s *Service) Unenroll(ctx context.Context, id fleet.DeviceID, remote string) error {
	return errPending
}

// Connect replaces an older session of the device, whose Messages is closed.
func (s *Service) Connect(ctx context.Context, id fleet.DeviceID, f Facts) (*Session, error) {
	return nil, errPending
}

type Session struct{}

// Messages: hello comes first; it is closed by Close, by a newer session of the device, by its deletion, and by Shutdown.
// The transport sends pings itself, every PingInterval (also told in hello).
func (s *Session) Messages() <-chan bundle.Message { return nil }
func (s *Session) Close()                          {}

// Bundle returns bundle.Envelope JSON; nil when there is nothing newer.
func (s *Service) Bundle(ctx context.Context, id fleet.DeviceID, version uint64, digest string) ([]byte, error) {
	return nil, errPending
}
func (s *Service) Applied(ctx context.Context, id fleet.DeviceID, a fleet.Applied) error {
	return errPending
}
func (s *Service) Ingest(ctx context.Context, id fleet.DeviceID, key string, events []event.Event) (bundle.EventReceipt, error) {
	return bundle.EventReceipt{}, errPending
}
