package account

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"interdict/internal/indicator"
)

const (
	// maxOutput bounds what is read of a program's output, maxGroups the
	// groups of a user: directories have users that are in hundreds.
	maxOutput = 256 << 10
	maxGroups = 1 << 10
)

// errNobody says that the directory knows no such user or group.
var errNobody = errors.New("there is no such entry")

// ask asks the directory for a user when its turn has come. One that it does
// not know has an id alone. Of a local user, nil for none, it is asked for the
// groups.
func (b *Book) ask(ctx context.Context, uid uint32, local *indicator.User) (*indicator.User, error) {
	select {
	case b.slots <- struct{}{}:
		defer func() { <-b.slots }()
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("waiting for the answers to others: %w", err)
	}
	if local != nil {
		groups, err := b.groupsOf(ctx, local.Name)
		if err != nil {
			return nil, err
		}
		return &indicator.User{UID: uid, Name: local.Name, Groups: groups}, nil
	}
	e, err := b.entry(ctx, strconv.FormatUint(uint64(uid), 10))
	switch {
	case errors.Is(err, errNobody):
		return &indicator.User{UID: uid}, nil
	case err != nil:
		return nil, err
	case e.uid != uid:
		return nil, fmt.Errorf("asked for user %d, the directory answered for %d", uid, e.uid)
	}
	groups, err := b.groupsOf(ctx, e.name)
	if err != nil {
		return nil, err
	}
	return e.user(groups, nil), nil
}

// entry asks the directory for a user by id or name.
func (b *Book) entry(ctx context.Context, key string) (entry, error) {
	out, err := b.cfg.Run(ctx, "getent", "passwd", key)
	if err != nil && !errors.Is(err, errNobody) {
		return entry{}, fmt.Errorf("looking up user %q: %w", key, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	if line == "" {
		return entry{}, errNobody
	}
	e, ok := parseEntry(line)
	if !ok {
		return entry{}, fmt.Errorf("looking up user %q: the answer %.80q cannot be read", key, line)
	}
	return e, nil
}

// groupsOf asks for the names of all groups of a user, the user's own among
// them. They are asked for by number, since a name may have spaces in it.
func (b *Book) groupsOf(ctx context.Context, name string) ([]string, error) {
	out, err := b.cfg.Run(ctx, "id", "-G", "--", name)
	if err != nil {
		return nil, fmt.Errorf("looking up the groups of %q: %w", name, err)
	}
	var names, missing []string
	b.mu.Lock()
	for number := range strings.FieldsSeq(string(out)) {
		gid, unreadable := strconv.ParseUint(number, 10, 32)
		switch local := b.local.groups[uint32(gid)]; {
		case unreadable != nil:
		case local != "":
			names = append(names, local)
		default:
			missing = append(missing, number)
		}
	}
	b.mu.Unlock()
	missing = missing[:min(len(missing), maxGroups)]
	if len(missing) == 0 {
		return names, nil
	}
	// A group without a name is none that a policy could mean.
	out, err = b.cfg.Run(ctx, "getent", append([]string{"group"}, missing...)...)
	if err != nil && !errors.Is(err, errNobody) {
		return nil, fmt.Errorf("looking up the names of the groups of %q: %w", name, err)
	}
	for line := range strings.Lines(string(out)) {
		if g, ok := parseGroup(line); ok && !slices.Contains(names, g.name) {
			names = append(names, g.name)
		}
	}
	return names, nil
}

// run runs a program of the host.
func run(ctx context.Context, name string, args ...string) ([]byte, error) {
	// getent(1): one or more of the keys could not be found.
	const notFound = 2
	out := &bounded{left: maxOutput}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Stdout, cmd.WaitDelay = []string{"LC_ALL=C"}, out, time.Second
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == notFound {
		return out.buf.Bytes(), errNobody
	}
	if err != nil {
		return nil, fmt.Errorf("running %s: %w", name, err)
	}
	return out.buf.Bytes(), nil
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	buf  bytes.Buffer
	left int
}

// Write never fails.
func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.left -= n
	b.buf.Write(p[:n])
	return len(p), nil
}
