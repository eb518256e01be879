package account

import (
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"interdict/internal/indicator"
)

// maxFile bounds what is read of a file: some 60,000 users.
const maxFile = 4 << 20

// The files, see passwd(5), group(5) and nsswitch.conf(5).
const (
	filePasswd = "etc/passwd"
	fileGroup  = "etc/group"
	fileSwitch = "etc/nsswitch.conf"
)

// localUsers is what the files say.
type localUsers struct {
	stamp  [3]stamp
	byUID  map[uint32]*indicator.User
	byName map[string]uint32
	// groups are the names of groups.
	groups map[uint32]string
	// elsewhere is set where users have groups that are not in the file.
	elsewhere bool
}

// stamp tells one state of a file from another.
type stamp struct {
	modified time.Time
	size     int64
}

func stampOf(root fs.FS) (s [3]stamp) {
	for i, name := range []string{filePasswd, fileGroup, fileSwitch} {
		if info, err := fs.Stat(root, name); err == nil {
			s[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	return s
}

// readLocal reads the files. One that is not there, or cannot be read, counts
// as empty: everybody is asked for in the directory then.
func readLocal(root fs.FS) localUsers {
	// A change while they are read is one to the stamp.
	s := stampOf(root)
	l := parseLocal(readFile(root, filePasswd), readFile(root, fileGroup))
	l.stamp, l.elsewhere = s, groupsElsewhere(readFile(root, fileSwitch))
	return l
}

// groupsElsewhere reports whether the text of nsswitch.conf has groups looked
// for in other places than the files of this host: systemd knows those that it
// made up itself, for users that are in no file.
func groupsElsewhere(text string) bool {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		database, services, _ := strings.Cut(line, ":")
		if d := strings.TrimSpace(database); d != "group" && d != "initgroups" {
			continue
		}
		action := false
		for word := range strings.FieldsSeq(strings.NewReplacer("[", " [ ", "]", " ] ").Replace(services)) {
			switch {
			case word == "[", word == "]":
				action = word == "["
			case action, word == "files", word == "compat", word == "systemd":
			default:
				return true
			}
		}
	}
	return false
}

func readFile(root fs.FS, name string) string {
	f, err := root.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return ""
	}
	return string(b)
}

// parseLocal reads the text of the files. What is no entry is left out. Of
// several entries with one id or name the first counts, as it does for the C
// library.
func parseLocal(passwd, group string) localUsers {
	l := localUsers{byUID: make(map[uint32]*indicator.User), byName: make(map[string]uint32), groups: make(map[uint32]string)}
	members := make(map[string][]string)
	for line := range strings.Lines(group) {
		g, ok := parseGroup(line)
		if !ok {
			continue
		}
		if _, twice := l.groups[g.gid]; !twice {
			l.groups[g.gid] = g.name
		}
		for _, m := range g.members {
			members[m] = append(members[m], g.name)
		}
	}
	for line := range strings.Lines(passwd) {
		e, ok := parseEntry(line)
		if !ok {
			continue
		}
		if _, twice := l.byName[e.name]; !twice {
			l.byName[e.name] = e.uid
		}
		if l.byUID[e.uid] == nil {
			l.byUID[e.uid] = e.user(members[e.name], l.groups)
		}
	}
	return l
}

// entry is one of passwd(5).
type entry struct {
	name     string
	uid, gid uint32
}

// user is the user of an entry, who is in groups beside their own.
func (e *entry) user(groups []string, names map[uint32]string) *indicator.User {
	u := &indicator.User{UID: e.uid, Name: e.name, Groups: slices.Clone(groups)}
	if own := names[e.gid]; own != "" {
		u.Groups = append(u.Groups, own)
	}
	slices.Sort(u.Groups)
	u.Groups = slices.Compact(u.Groups)
	return u
}

// parseEntry reads name:password:uid:gid:...
func parseEntry(line string) (entry, bool) {
	f := strings.SplitN(strings.TrimRight(line, "\r\n"), ":", 5)
	if len(f) < 4 || !validName(f[0]) {
		return entry{}, false
	}
	uid, uidErr := strconv.ParseUint(f[2], 10, 32)
	gid, gidErr := strconv.ParseUint(f[3], 10, 32)
	return entry{f[0], uint32(uid), uint32(gid)}, uidErr == nil && gidErr == nil
}

type groupEntry struct {
	name    string
	gid     uint32
	members []string
}

// parseGroup reads name:password:gid:member,member.
func parseGroup(line string) (groupEntry, bool) {
	f := strings.SplitN(strings.TrimRight(line, "\r\n"), ":", 4)
	if len(f) < 3 || !validName(f[0]) {
		return groupEntry{}, false
	}
	gid, err := strconv.ParseUint(f[2], 10, 32)
	g := groupEntry{name: f[0], gid: uint32(gid)}
	if len(f) == 4 && f[3] != "" {
		g.members = strings.Split(f[3], ",")
	}
	return g, err == nil
}

// validName reports whether a name can be that of a user or group, of a
// directory too: DOMAIN\name, name@domain, "domain users". It is never taken
// for an option of a program, nor for one of the lines that name services.
func validName(name string) bool {
	const longest = 256
	return name != "" && len(name) <= longest && !strings.ContainsAny(name[:1], "-+#") &&
		!strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == ':' || r == ',' || r == 0x7f })
}
