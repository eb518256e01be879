package procfs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc/PID/stat: USER_HZ is 100 on every
// architecture that Go runs on.
const tick = 10 * time.Millisecond

// stat is the part of /proc/PID/stat that is used here.
type stat struct {
	comm    string
	parent  int
	started time.Duration
	image   uint64
}

// Fields of /proc/PID/stat, counted as proc(5) does, from 1.
const (
	statParent   = 4
	statStarted  = 22
	statArgStart = 48
)

// parseStat reads /proc/PID/stat. The name in its second field is chosen by
// the process and can hold spaces and parentheses: it ends at the last one.
func parseStat(b []byte) (stat, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return stat{}, errors.New("reading stat: no name in parentheses")
	}
	fields := bytes.Fields(b[end+1:])
	field := func(n int) (uint64, error) {
		i := n - 3 // The third field is the first after the name.
		if i >= len(fields) {
			return 0, fmt.Errorf("reading stat: field %d is missing", n)
		}
		v, err := strconv.ParseUint(string(fields[i]), 10, 63)
		if err != nil {
			return 0, fmt.Errorf("reading stat: field %d: %w", n, err)
		}
		return v, nil
	}
	parent, err := field(statParent)
	if err != nil {
		return stat{}, err
	}
	started, err := field(statStarted)
	if err != nil {
		return stat{}, err
	}
	// Linux before 3.3 has no such field.
	image, err := field(statArgStart)
	if err != nil {
		image = 0
	}
	return stat{
		comm:    string(b[open+1 : end]),
		parent:  int(parent),
		started: time.Duration(min(started, uint64(1<<62/tick))) * tick,
		image:   image,
	}, nil
}

// parseUID finds the real user id in /proc/PID/status.
func parseUID(b []byte) (uint32, bool) {
	for line := range bytes.Lines(b) {
		rest, ok := bytes.CutPrefix(line, []byte("Uid:"))
		if !ok {
			continue
		}
		// Real, effective, saved, file system.
		fields := bytes.Fields(rest)
		if len(fields) == 0 {
			return 0, false
		}
		uid, err := strconv.ParseUint(string(fields[0]), 10, 32)
		return uint32(uid), err == nil
	}
	return 0, false
}

// parseContainer finds the id of the innermost container in /proc/PID/cgroup,
// whose lines are "hierarchy:controllers:path" (cgroups(7)); version 2 has one
// line with hierarchy 0, version 1 several, which agree about containers.
func parseContainer(b []byte) string {
	for line := range bytes.Lines(b) {
		parts := strings.SplitN(strings.TrimRight(string(line), "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if id := containerInPath(parts[2]); id != "" {
			return clean(id, containerMax)
		}
	}
	return ""
}

// containerMax is more than any runtime's id is long.
const containerMax = 256

// containerInPath goes through a cgroup's path from the innermost part
// outwards.
func containerInPath(path string) string {
	parts := strings.Split(path, "/")
	for i := len(parts) - 1; i > 0; i-- {
		if id := containerInPart(parts[i-1], parts[i]); id != "" {
			return id
		}
	}
	return ""
}

func containerInPart(parent, part string) string {
	if id := hexID(part); id != "" {
		return id
	}
	switch {
	// systemd-nspawn@NAME.service below machine.slice, or the scope that
	// systemd-machined makes. Virtual machines have scopes there too, but
	// what runs in them is their monitor.
	case strings.HasPrefix(part, "systemd-nspawn@"):
		return unescapeUnit(strings.TrimSuffix(part[len("systemd-nspawn@"):], ".service"))
	case parent == "machine.slice" && strings.HasPrefix(part, "machine-"):
		name := unescapeUnit(strings.TrimSuffix(part[len("machine-"):], ".scope"))
		if strings.HasPrefix(name, "qemu-") || strings.HasPrefix(name, "lxc-") {
			return ""
		}
		return name
	// lxc.payload.NAME since LXC 4, lxc/NAME before. lxc.monitor.NAME is on
	// the host.
	case strings.HasPrefix(part, "lxc.payload."):
		return part[len("lxc.payload."):]
	case parent == "lxc" || parent == "lxc.payload":
		return part
	default:
		return ""
	}
}

// hexID finds the id of 64 hexadecimal digits that Docker, Podman,
// containerd and CRI-O give: alone (docker/ID, kubepods/.../ID), in a systemd
// scope (docker-ID.scope, libpod-ID.scope, cri-containerd-ID.scope,
// crio-ID.scope), or behind a colon (kubepods-....slice:cri-containerd:ID).
func hexID(part string) string {
	const digits = 64
	part = strings.TrimSuffix(part, ".scope")
	if len(part) < digits {
		return ""
	}
	before, id := part[:len(part)-digits], part[len(part)-digits:]
	if strings.Trim(id, "0123456789abcdef") != "" {
		return ""
	}
	switch {
	case before == "":
		return id
	// Podman's and CRI-O's monitor runs on the host, beside the container.
	case strings.HasSuffix(before, "conmon-"):
		return ""
	case strings.HasSuffix(before, "-"), strings.HasSuffix(before, ":"):
		return id
	default:
		return ""
	}
}

// unescapeUnit undoes the escapes of systemd.unit(5): \x2d stands for a dash.
func unescapeUnit(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if i+4 <= len(s) && s[i] == '\\' && s[i+1] == 'x' {
			if v, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				out.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// Bounds of the table of user names.
const (
	passwdMax = 4 << 20
	usersMax  = 16384
	nameMax   = 256
)

// parsePasswd reads passwd(5). The first of several names for one id counts,
// as with getpwuid(3).
func parsePasswd(b []byte) map[uint32]string {
	names := make(map[uint32]string)
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() && len(names) < usersMax {
		fields := strings.SplitN(lines.Text(), ":", 4)
		if len(fields) < 4 || fields[0] == "" {
			continue
		}
		uid, err := strconv.ParseUint(fields[2], 10, 32)
		if err != nil {
			continue
		}
		if _, ok := names[uint32(uid)]; !ok {
			names[uint32(uid)] = clean(fields[0], nameMax)
		}
	}
	return names
}
