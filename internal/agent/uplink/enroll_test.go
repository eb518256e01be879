package uplink

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"interdict/internal/agent/health"
	"interdict/internal/agent/state"
	"interdict/internal/bundle"
	"interdict/internal/fault"
)

func TestEnrolmentIsOnDiskAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		root := filepath.Join(t.TempDir(), "state")
		dir, err := state.Open(root)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = dir.Identity(); !errors.Is(err, state.ErrNotEnrolled) {
			t.Fatalf("got %v before enrolment, want ErrNotEnrolled", err)
		}
		id, err := Enroll(t.Context(), EnrollConfig{Token: s.token(), Name: "desk", Labels: map[string]string{"site": "b"}, Dial: s.dial})
		if err != nil {
			t.Fatal(err)
		}
		if err = dir.SaveIdentity(id); err != nil {
			t.Fatal(err)
		}
		read, err := dir.Identity()
		if err != nil {
			t.Fatal(err)
		}
		if read.DeviceID != testDevice || read.ServerURL != serverURL || !read.BundleKey.Equal(id.BundleKey) ||
			!read.CA.Equal(s.ca.cert) || !read.Certificate.Leaf.Equal(id.Certificate.Leaf) {
			t.Errorf("what was read is not what was saved: %+v", read)
		}
		if got := s.enrolments[0]; got.Name != "desk" || got.Labels["site"] != "b" {
			t.Errorf("the server was told name %q, labels %v", got.Name, got.Labels)
		}
		err = filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has mode %v, want nothing for others", path, info.Mode().Perm())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestTheSecretGoesToNobodyButTheServerOfTheToken(t *testing.T) {
	tests := []struct {
		name string
		// configure makes the server another one.
		configure func(t *testing.T, s *testServer, token *bundle.Token)
	}{
		{"the fingerprint is of another authority", func(t *testing.T, _ *testServer, token *bundle.Token) {
			t.Helper()
			token.CAFingerprint = bundle.Fingerprint(newAuthority(t).cert.Raw)
		}},
		{"the server sends the authority's certificate along but was not signed by it", func(t *testing.T, s *testServer, _ *bundle.Token) {
			t.Helper()
			s.tlsConfig = s.serverTLS(newAuthority(t), "interdict.example")
		}},
		{"the authority signed the certificate for another host", func(_ *testing.T, s *testServer, _ *bundle.Token) {
			s.tlsConfig = s.serverTLS(s.ca, "other.example")
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer(t)
				token := s.token()
				test.configure(t, s, &token)
				s.stop()
				s.start()
				_, err := Enroll(t.Context(), EnrollConfig{Token: token, Dial: s.dial})
				if got := fault.CodeOf(err); got != fault.Forbidden {
					t.Errorf("got %v (%s), want a fault of code forbidden", err, got)
				}
				if len(s.enrolments) > 0 {
					t.Error("the secret was sent")
				}
			})
		})
	}
}

func TestAServersNoIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		token := s.token()
		token.Secret = "guessed"
		_, err := Enroll(t.Context(), EnrollConfig{Token: token, Dial: s.dial})
		if fault.CodeOf(err) != fault.Forbidden || !strings.Contains(err.Error(), "the token is not valid") {
			t.Errorf("got %v, want the server's own words and code forbidden", err)
		}
	})
}

func TestADeviceThatTheServerDeletedIsUnenrolled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t)
		dir, _ := enrolled(t, s)
		a := startAgent(t, s, dir)
		settle()
		s.delete()
		elapse(time.Minute)
		synctest.Wait()
		if !a.hasHealth(health.DeviceRefused) || a.hasHealth(health.ServerUnreachable) {
			t.Errorf("got items %+v, want device_refused: the server answers, and says no", a.health.Items())
		}
		if err := a.Unenroll(t.Context()); err != nil {
			t.Errorf("got %v, want that it is done", err)
		}
		// An expired certificate is refused whether or not the device exists.
		if err := a.client.unenroll(t.Context(), &x509.Certificate{NotAfter: time.Now()}); fault.CodeOf(err) != fault.Unauthorized {
			t.Errorf("with an expired certificate got %v, want unauthorized", err)
		}
	})
}
