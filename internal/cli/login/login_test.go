package login

import (
	"io/fs"
	"testing"

	"interdict/internal/fault"
)

func TestADataDirectoryThatCannotBeRead(t *testing.T) {
	for err, want := range map[error]fault.Code{
		&fs.PathError{Op: "open", Path: "/srv/admin-token", Err: fs.ErrPermission}: fault.Forbidden,
		&fs.PathError{Op: "open", Path: "/srv/admin-token", Err: fs.ErrNotExist}:   fault.NotFound,
	} {
		if got := fault.CodeOf(dataDirFault("/srv", err)); got != want {
			t.Errorf("got %s for %v, want %s", got, err, want)
		}
	}
}

func TestATokenIsNotShownToAnotherServer(t *testing.T) {
	s := Source{ConfigDir: t.TempDir(), Getenv: func(string) string { return "" }}
	if _, err := s.Remember(Login{Server: "https://a.example:8443", Token: "secret"}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, server string
		wantToken    string
	}{
		{"the server that was logged in to", "", "secret"},
		{"the same server by its address", "https://A.example:8443/", "secret"},
		{"another server", "https://b.example:8443", ""},
		{"another port", "https://a.example:9443", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.Server = tc.server
			l, err := s.Choose()
			if tc.wantToken == "" {
				if fault.CodeOf(err) != fault.Invalid {
					t.Fatalf("got %+v and error %v, want to be asked for a token", l, err)
				}
				return
			}
			if err != nil || l.Token != tc.wantToken {
				t.Fatalf("got %+v, %v; want the token", l, err)
			}
		})
	}
}
