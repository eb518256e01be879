package audience

import (
	"fmt"
	"testing"

	"interdict/internal/cloudapp"
	"interdict/internal/fleet"
	"interdict/internal/indicator"
)

func TestAudiencesAreForgottenWithTheirLastDevice(t *testing.T) {
	c := New(Config{Index: cloudapp.NewIndex(nil), Protected: indicator.NewProtected()})
	s := NewState()
	s.Policies["p"] = fleet.Policy{
		ID: "p", Assigned: true, Assignment: indicator.Scope{Include: []string{"g"}}, Settings: fleet.Settings{FailMode: fleet.FailClosed},
	}
	s.Groups["g"] = fleet.Group{ID: "g"}
	check := func(what string, changed Changed, want ...int) {
		t.Helper()
		s.Revision++
		snapshot, _, err := c.Compile(s, changed)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.audiences) != len(snapshot.Audiences()) || len(c.users) != len(want) {
			t.Fatalf("%s: %d audiences and %d counts of users, want %d", what, len(c.audiences), len(c.users), len(want))
		}
		for _, n := range want {
			found := false
			for _, users := range c.users {
				found = found || users == n
			}
			if !found {
				t.Errorf("%s: users %v, want %v", what, c.users, want)
			}
		}
	}
	for i := range 5 {
		id := fleet.DeviceID(fmt.Sprint(i))
		s.Devices[id] = Device{Device: fleet.Device{ID: id}}
	}
	check("at first", Changed{Everything: true}, 5)
	s.Devices["0"] = Device{Device: fleet.Device{ID: "0"}, Static: []string{"g"}}
	check("one is in the group", Changed{Devices: map[fleet.DeviceID]bool{"0": true}}, 1, 4)
	delete(s.Devices, "1")
	check("one is gone", Changed{Devices: map[fleet.DeviceID]bool{"1": true}}, 1, 3)
	s.Groups["g"] = fleet.Group{ID: "g", Rule: `name == ""`}
	check("all are in the group", Changed{Groups: true}, 4)
	s.Policies = nil
	check("there is no policy", Changed{Policies: true}, 4)
	delete(s.Devices, "0")
	check("one is gone when everything is read anew", Changed{Everything: true}, 3)
}
