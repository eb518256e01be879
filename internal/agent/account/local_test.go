package account

import (
	"strings"
	"testing"
)

func FuzzParseLocal(f *testing.F) {
	f.Add("anna:x:1000:1000::/:\n", "anna:x:1000:\nusers:x:100:anna,,ben\n")
	f.Add("a:b:c:d\n:::\na:x:4294967296:0\r\n", "g:x:1:"+strings.Repeat("a,", 100))
	f.Add("+@netgroup::::::\n-x:x:1:1\n", "+\n")
	f.Fuzz(func(t *testing.T, passwd, group string) {
		groupsElsewhere(group)
		l := parseLocal(passwd, group)
		for uid, u := range l.byUID {
			if u.UID != uid || u.Name == "" || strings.ContainsAny(u.Name, ":\n") {
				t.Errorf("user %d is %+v", uid, u)
			}
		}
		for name := range l.byName {
			if !validName(name) {
				t.Errorf("a user is called %q", name)
			}
		}
	})
}

func TestWhereGroupsAreElsewhere(t *testing.T) {
	for text, want := range map[string]bool{
		"":                                       false,
		"passwd: files sss\nhosts: files dns\n":  false,
		"group: files\n":                         false,
		"group:\t\tfiles systemd # sss\n":        false,
		"group: compat\n":                        false,
		"group: files [SUCCESS=merge] systemd\n": false,
		"group: files [NOTFOUND=continue SUCCESS = merge]systemd\n": false,
		"# group: sss\n":     false,
		"group: files sss\n": true,
		" group : files [SUCCESS=merge] systemd ldap":                    true,
		"group: sss files\n":                                             true,
		"group: files winbind\n":                                         true,
		"group: files\ninitgroups: files [SUCCESS=continue] sss\n":       true,
		"group: files [unfinished":                                       false,
		"passwd: files\r\ngroup: files systemd\r\nshadow: files sss\r\n": false,
	} {
		if got := groupsElsewhere(text); got != want {
			t.Errorf("%q: got %t, want %t", text, got, want)
		}
	}
}
