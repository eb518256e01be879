package enrol_test

import (
	"os"
	"testing"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/control/controltest"
	"interdict/internal/control/enrol"
	"interdict/internal/control/observation"
	"interdict/internal/fault"
	"interdict/internal/store/pgtest"
)

// postgres is the private server of this test binary.
var postgres = pgtest.New()

func TestMain(m *testing.M) { os.Exit(postgres.Run(m)) }

func TestTokensThatDoNotAdmit(t *testing.T) {
	for _, e := range controltest.Engines(postgres) {
		t.Run(e.Name, func(t *testing.T) {
			c := e.Config(t)
			s := controltest.Start(t, c, controltest.NewClock())
			_, expired := s.Token(enrol.NewToken{Name: "short", ExpiresAt: s.Clock.Now().Add(time.Minute)})
			revoked, revokedSecret := s.Token(enrol.NewToken{Name: "revoked", Uses: 5})
			if v, err := s.Enrolment.RevokeToken(t.Context(), controltest.Admin(), revoked.Name); err != nil || v.State != enrol.TokenRevoked {
				t.Fatalf("revoking: %+v, %v", v, err)
			}
			_, used := s.Token(enrol.NewToken{Name: "once"})
			s.Admit(used, "first", nil)
			s.Clock.Advance(time.Hour)
			for name, secret := range map[string]string{"unknown": "x", "expired": expired, "revoked": revokedSecret, "exhausted": used} {
				_, err := s.Enrolment.Enroll(t.Context(), bundle.EnrollRequest{Secret: secret, CSR: controltest.Request(t), Name: name}, "192.0.2.7")
				controltest.WantFault(t, err, fault.Unauthorized)
			}
			log, err := s.Observations.AuditLog(t.Context(), observation.AuditQuery{Action: "device.enroll"})
			if err != nil || len(log.Items) != 5 {
				t.Fatalf("audit log %+v (%v), want one enrolment and four refused", log, err)
			}
			if e := log.Items[0]; e.Refused == "" || e.Source != "192.0.2.7" {
				t.Errorf("newest entry %+v, want why and from where it was refused", e)
			}
		})
	}
}

func TestATokenIsUsedAsOftenAsItMayByConcurrentMachines(t *testing.T) {
	for _, e := range controltest.Engines(postgres) {
		t.Run(e.Name, func(t *testing.T) {
			c := e.Config(t)
			s := controltest.Start(t, c, controltest.NewClock())
			_, secret := s.Token(enrol.NewToken{Uses: 3})
			results := make(chan error)
			for range 8 {
				csr := controltest.Request(t)
				go func() {
					_, err := s.Enrolment.Enroll(t.Context(), bundle.EnrollRequest{Secret: secret, CSR: csr, Name: "m"}, "")
					results <- err
				}()
			}
			admitted := 0
			for range 8 {
				if err := <-results; err == nil {
					admitted++
				} else {
					controltest.WantFault(t, err, fault.Unauthorized)
				}
			}
			if admitted != 3 {
				t.Errorf("%d machines were admitted, want 3", admitted)
			}
		})
	}
}

func TestAStrangerLearnsNothingFromEnrolment(t *testing.T) {
	s := controltest.OnSQLite(t)
	_, err := s.Enrolment.Enroll(t.Context(), bundle.EnrollRequest{Secret: "guess", Name: " ", CSR: []byte("none")}, "")
	controltest.WantFault(t, err, fault.Unauthorized)
}
