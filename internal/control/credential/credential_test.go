package credential_test

import (
	"testing"

	"interdict/internal/control"
	"interdict/internal/control/controltest"
	"interdict/internal/control/credential"
	"interdict/internal/control/observation"
	"interdict/internal/fault"
)

func TestAPITokens(t *testing.T) {
	s := controltest.OnSQLite(t)
	secret := credential.NewAPISecret()
	for range 2 {
		if err := s.Credentials.EnsureAPIToken(t.Context(), "first", secret, control.RoleAdministrator); err != nil {
			t.Fatal(err)
		}
	}
	a, err := s.Credentials.AuthenticateToken(t.Context(), secret)
	if err != nil || a.Name != "first" || !a.Role.Allows(control.RoleOperator) {
		t.Errorf("got %+v (%v), want the administrator", a, err)
	}
	_, err = s.Credentials.AuthenticateToken(t.Context(), secret+"x")
	controltest.WantFault(t, err, fault.Unauthorized)
	controltest.WantFault(t, s.Credentials.EnsureAPIToken(t.Context(), "weak", "1234", control.RoleViewer), fault.Invalid)
	if control.RoleViewer.Allows(control.RoleOperator) || control.Role("").Allows("") {
		t.Error("a role allows too much")
	}
	attempt := control.Attempt{Actor: control.Actor{Kind: control.ActorUnknown}, Action: "GET /x", Reason: "no\x00token"}
	if err = s.Refused(t.Context(), attempt); err != nil {
		t.Errorf("noting a refusal: %v", err)
	}
	log, err := s.Observations.AuditLog(t.Context(), observation.AuditQuery{Action: "GET /x"})
	if err != nil || len(log.Items) != 1 || log.Items[0].Refused != "no token" {
		t.Errorf("audit log %+v (%v), want the refusal", log, err)
	}
}
