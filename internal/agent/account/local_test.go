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
