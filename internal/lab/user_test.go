package lab

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestUsersAreChecked(t *testing.T) {
	for name, tt := range map[string]struct {
		users []User
		want  string
	}{
		"a name that has to be quoted": {[]User{{Name: "al ice", UID: 2001}}, `user name "al ice" must be 1 to 8 letters`},
		"an id of the system":          {[]User{{Name: "alice", UID: 999}}, "must be from 1000 to 59999"},
		"two with the same id":         {[]User{{Name: "alice", UID: 2001}, {Name: "bob", UID: 2001}}, `user "bob" or the id 2001 is there twice`},
		"a group that breaks the file": {[]User{{Name: "alice", UID: 2001, Groups: []string{"a:b"}}}, `group name "a:b" of user "alice"`},
	} {
		t.Run(name, func(t *testing.T) {
			if err := validateUsers(tt.users); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it to contain %q", err, tt.want)
			}
		})
	}
}

func TestWithoutOtherUsersProgramsOfUsersDoNotStart(t *testing.T) {
	t.Setenv(insideEnv, string(PrivilegeUserNamespace))
	l := &Lab{hosts: []Host{{Name: "anna"}}, users: []User{{Name: "alice", UID: 2001}}}
	if err := l.CheckUsers(); !errors.Is(err, ErrNoUsers) {
		t.Errorf("got %v", err)
	}
	if err := l.CommandAs(t.Context(), "anna", "alice", os.Args[0]).Run(); !errors.Is(err, ErrNoUsers) {
		t.Errorf("running a program: got %v", err)
	}
}
