package uplink

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"interdict/internal/fault"
)

func TestTheStageAtWhichTheServerCannotBeReachedIsNamed(t *testing.T) {
	tests := map[string]struct {
		hurt  func(s *testServer)
		stage Stage
		code  fault.Code
		// signer is in the name of who signed.
		signer string
	}{
		"all is well":     {func(*testServer) {}, StageHTTP, "", ""},
		"nobody is there": {func(s *testServer) { s.stop() }, StageLookup, fault.Unreachable, ""},
		"a stranger there": {func(s *testServer) {
			s.tlsConfig = s.serverTLS(newAuthority(s.t), "interdict.example")
			s.stop()
			s.start()
		}, StageTLS, fault.Unreachable, "test CA"},
		"the device is not known any more": {func(s *testServer) { s.delete() }, StageHTTP, fault.Unauthorized, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer(t)
				_, id := enrolled(t, s)
				test.hurt(s)
				began := time.Now()
				got := reach(t.Context(), newClient(id.ServerURL, mutual(id, func() *tls.Certificate { return &id.Certificate }), s.dial))
				if got.Stage != test.stage || (got.Err == nil) != (test.code == "") || got.Err != nil && fault.CodeOf(got.Err) != test.code {
					t.Errorf("got %+v, want stage %q with code %q", got, test.stage, test.code)
				}
				if (got.Authority == "") != (test.signer == "") || !strings.Contains(got.Authority, test.signer) {
					t.Errorf("the certificate is by %q, want %q", got.Authority, test.signer)
				}
				if test.code == "" && got.Now.Sub(began).Abs() > time.Second {
					t.Errorf("the server's clock says %s, want %s", got.Now, began)
				}
			})
		})
	}
}

func TestAnAddressThatNobodyListensToFailsAtTheConnection(t *testing.T) {
	s := newTestServer(t)
	_, id := enrolled(t, s)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	id.ServerURL = "https://" + listener.Addr().String()
	_ = listener.Close()
	if got := Reach(t.Context(), id); got.Stage != StageConnect || got.Address != listener.Addr().String() || got.Err == nil {
		t.Errorf("got %+v, want a failure of the connection to %s", got, listener.Addr())
	}
}
