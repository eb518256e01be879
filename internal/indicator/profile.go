package indicator

import (
	"slices"
	"strconv"
	"strings"
)

// Profile is a scoped profile: the devices, the people and the times that
// something applies to. The zero value applies to everybody at all times.
//
// Devices are settled by the server, since it knows the groups: a device gets
// what its groups are in the scope of. People and times are settled by the
// device at each connection.
type Profile struct {
	Scope
	People

	// Windows are the times at which it applies; none means always.
	Windows []Window `json:"windows,omitempty" doc:"Times at which it applies; none means always"`
}

// People limits something to users and groups of users, by the names the
// device knows them by. Exclude beats include; empty includes mean everybody.
type People struct {
	IncludeUsers      []string `json:"include_users,omitempty" doc:"Users it applies to, by login name or as #UID; empty means all users"`
	ExcludeUsers      []string `json:"exclude_users,omitempty" doc:"Users it does not apply to; exclude beats include"`
	IncludeUserGroups []string `json:"include_user_groups,omitempty" doc:"Groups of users it applies to, as the device knows them"`
	ExcludeUserGroups []string `json:"exclude_user_groups,omitempty" doc:"Groups of users it does not apply to"`
}

// User is who a connection belongs to, as the device reports it.
type User struct {
	UID uint32
	// Name is empty where the device has none for the UID.
	Name string
	// Groups are the names of all groups the user is in.
	Groups []string
}

// Everybody reports whether no user is treated unlike another.
func (p *People) Everybody() bool {
	return len(p.IncludeUsers) == 0 && len(p.ExcludeUsers) == 0 && len(p.IncludeUserGroups) == 0 && len(p.ExcludeUserGroups) == 0
}

// CoversUser reports whether a user is among the people. nil is somebody unknown:
// what is for some users only does not apply to them, while what spares some
// users does.
func (p *People) CoversUser(u *User) bool {
	everybody := len(p.IncludeUsers) == 0 && len(p.IncludeUserGroups) == 0
	if u == nil {
		return everybody
	}
	if u.listed(p.ExcludeUsers, p.ExcludeUserGroups) {
		return false
	}
	return everybody || u.listed(p.IncludeUsers, p.IncludeUserGroups)
}

// listed reports whether the user has one of the names, or is in one of the
// groups.
func (u *User) listed(users, groups []string) bool {
	for _, name := range users {
		if uid, ok := strings.CutPrefix(name, "#"); ok {
			if n, err := strconv.ParseUint(uid, 10, 32); err == nil && uint32(n) == u.UID {
				return true
			}
			continue
		}
		if u.Name != "" && name == u.Name {
			return true
		}
	}
	return intersects(groups, u.Groups)
}

// Anyone reports whether the profile treats all users alike at all times, so
// that only the device matters.
func (p *Profile) Anyone() bool { return p.Everybody() && len(p.Windows) == 0 }

// Equal reports whether two profiles say the same.
func (p *Profile) Equal(q *Profile) bool {
	return slices.Equal(p.Include, q.Include) && slices.Equal(p.Exclude, q.Exclude) &&
		slices.Equal(p.IncludeUsers, q.IncludeUsers) && slices.Equal(p.ExcludeUsers, q.ExcludeUsers) &&
		slices.Equal(p.IncludeUserGroups, q.IncludeUserGroups) && slices.Equal(p.ExcludeUserGroups, q.ExcludeUserGroups) &&
		slices.EqualFunc(p.Windows, q.Windows, func(a, b Window) bool {
			return a.From == b.From && a.To == b.To && a.Zone == b.Zone && slices.Equal(a.Days, b.Days)
		})
}
