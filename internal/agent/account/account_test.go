package account_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/agent/account"
	"interdict/internal/indicator"
)

const passwd = `root:x:0:0:root:/root:/bin/bash
anna:x:1000:1000:Anna:/home/anna:/bin/bash
# not an entry
broken:x:many:1000::/:
short:x
+::::::
ben:x:1001:100::/home/ben:/bin/sh
toor:x:0:0::/root:/bin/sh
`

const group = `root:x:0:
users:x:100:anna
anna:x:1000:
finance:x:2000:ben,anna
`

// host is the files and the directory of a host.
type host struct {
	root fstest.MapFS

	mu sync.Mutex
	// answers are what programs write, by their command line.
	answers map[string]string
	asked   []string
	// hold, if not nil, is what the directory waits for.
	hold chan struct{}
	down bool
	// running are the questions that wait, most the most there ever were.
	running, most int
}

func newHost() *host {
	return &host{
		root: fstest.MapFS{"etc/passwd": {Data: []byte(passwd)}, "etc/group": {Data: []byte(group)}},
		answers: map[string]string{
			"getent passwd 70001":       "CORP\\carla:*:70001:80000:Carla:/home/carla:/bin/bash\n",
			"getent passwd CORP\\carla": "CORP\\carla:*:70001:80000:Carla:/home/carla:/bin/bash\n",
			"id -G -- CORP\\carla":      "80000 80001 2000 80009\n",
			// 80009 has no name.
			"getent group 80000 80001 80009": "domain users:*:80000:\nCORP\\sales team:*:80001:CORP\\carla\n",
		},
	}
}

func (h *host) run(ctx context.Context, name string, args ...string) ([]byte, error) {
	command := strings.Join(append([]string{name}, args...), " ")
	h.mu.Lock()
	h.asked = append(h.asked, command)
	hold, down, out := h.hold, h.down, h.answers[command]
	h.running++
	h.most = max(h.most, h.running)
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		h.running--
		h.mu.Unlock()
	}()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if down {
		return nil, errors.New("the directory is down")
	}
	return []byte(out), nil
}

func (h *host) questions() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.asked)
}

func (h *host) book(t *testing.T) *account.Book {
	t.Helper()
	b := account.New(account.Config{Root: h.root, Run: h.run})
	t.Cleanup(b.Close)
	return b
}

// pass lets time pass, within a bubble of synctest.
func pass(d time.Duration) { <-time.After(d) }

func find(t *testing.T, b *account.Book, uid uint32) *indicator.User {
	t.Helper()
	u, ok := b.Find(t.Context(), uid)
	if !ok {
		t.Fatalf("user %d is not known", uid)
	}
	return u
}

func TestWhoAUserIs(t *testing.T) {
	for _, tt := range []struct {
		name string
		want indicator.User
	}{
		{"root, whose id two names have", indicator.User{UID: 0, Name: "root", Groups: []string{"root"}}},
		{"a user in three groups", indicator.User{UID: 1000, Name: "anna", Groups: []string{"anna", "finance", "users"}}},
		{"a user whose own group others are in", indicator.User{UID: 1001, Name: "ben", Groups: []string{"finance", "users"}}},
		{"a user of the directory", indicator.User{UID: 70001, Name: "CORP\\carla", Groups: []string{"CORP\\sales team", "domain users", "finance"}}},
		{"nobody", indicator.User{UID: 4711}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newHost().book(t)
			if diff := cmp.Diff(&tt.want, find(t, b, tt.want.UID)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if u, ok := b.User(tt.want.UID); !ok || u.Name != tt.want.Name {
				t.Errorf("afterwards User gives %+v, %t", u, ok)
			}
		})
	}
}

func TestUsersByName(t *testing.T) {
	b := newHost().book(t)
	for name, want := range map[string]string{"anna": "1000", "CORP\\carla": "70001", "nobody here": "", "70001": "", "-x": "", "": ""} {
		got := ""
		if uid, ok := b.UID(t.Context(), name); ok {
			got = fmt.Sprint(uid)
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestAskingNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		h.hold = make(chan struct{})
		b := h.book(t)
		for range 3 {
			if u, ok := b.User(70001); ok || u.UID != 70001 || u.Name != "" {
				t.Fatalf("got %+v, %t", u, ok)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if u, ok := b.Find(ctx, 70001); ok || u.UID != 70001 {
			t.Errorf("while the directory waits: got %+v, %t", u, ok)
		}
		close(h.hold)
		if u := find(t, b, 70001); u.Name != "CORP\\carla" {
			t.Errorf("got %+v", u)
		}
		// Everybody waited for the same answer.
		if n := len(h.questions()); n != 3 {
			t.Errorf("asked %d times: %q", n, h.questions())
		}
		// One that is in the files is not asked for.
		find(t, b, 1000)
		if n := len(h.questions()); n != 3 {
			t.Errorf("asked %d times: %q", n, h.questions())
		}
	})
}

func TestAnAnswerIsGoodForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		b := h.book(t)
		known := func(uid uint32) bool {
			_, ok := b.User(uid)
			synctest.Wait()
			return ok
		}
		find(t, b, 70001)
		find(t, b, 4711)
		pass(59 * time.Second)
		if !known(4711) || !known(70001) {
			t.Error("forgotten within a minute")
		}
		pass(time.Second)
		if known(4711) || !known(70001) {
			t.Error("after a minute that there is nobody is still good, or an answer not any more")
		}
		pass(9 * time.Minute)
		if known(70001) {
			t.Error("an answer is good for ten minutes and more")
		}
		// A directory that is down costs nobody their groups.
		pass(10 * time.Minute)
		h.mu.Lock()
		h.down = true
		h.mu.Unlock()
		if u := find(t, b, 70001); len(u.Groups) != 3 {
			t.Errorf("while the directory is down: %+v", u)
		}
		asked := len(h.questions())
		pass(30 * time.Second)
		find(t, b, 70001)
		if n := len(h.questions()); n != asked {
			t.Errorf("a directory that is down is asked again within a minute: %q", h.questions()[asked:])
		}
	})
}

func TestChangedFilesAreReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		b := h.book(t)
		find(t, b, 1000)
		h.root["etc/group"] = &fstest.MapFile{Data: []byte(group + "late:x:2001:anna\n")}
		pass(time.Second)
		if u, ok := b.User(1000); ok {
			t.Errorf("what was known before the change is given as known: %+v", u)
		}
		if u := find(t, b, 1000); !slices.Contains(u.Groups, "late") {
			t.Errorf("got %+v", u)
		}
	})
}

func TestADirectoryThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		h.hold = make(chan struct{})
		b := h.book(t)
		begun := time.Now()
		for uid := range uint32(20) {
			b.User(5000 + uid)
		}
		if u := find(t, b, 5001); u.Name != "" {
			t.Errorf("got %+v", u)
		}
		if took := time.Since(begun); took > 6*time.Second {
			t.Errorf("it took %v", took)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.most > 4 {
			t.Errorf("%d questions at the same time", h.most)
		}
	})
}

func TestLocalUsersHaveTheGroupsOfADirectoryToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		h.root["etc/nsswitch.conf"] = &fstest.MapFile{Data: []byte("passwd: files sss\ngroup: files [SUCCESS=merge] sss\n")}
		h.answers["id -G -- anna"], h.answers["getent group 80001"] = "1000 100 80001\n", "CORP\\sales team:*:80001:\n"
		h.hold = make(chan struct{})
		b := h.book(t)
		groups := func(u *indicator.User) string { return u.Name + ": " + strings.Join(u.Groups, ", ") }
		const local, all = "anna: anna, finance, users", "anna: CORP\\sales team, anna, finance, users"

		b.User(1000)
		synctest.Wait()
		if u, ok := b.User(1000); ok || groups(u) != local {
			t.Errorf("while the directory is asked: got %q, known %t", groups(u), ok)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if u, ok := b.Find(ctx, 1000); ok || groups(u) != local {
			t.Errorf("who waits for that too briefly: got %q, known %t", groups(u), ok)
		}
		close(h.hold)
		if got := groups(find(t, b, 1000)); got != all {
			t.Errorf("got %q", got)
		}
		asked := len(h.questions())

		h.root["etc/group"] = &fstest.MapFile{Data: []byte(group + "late:x:2001:anna\n")}
		pass(time.Second)
		if got := groups(find(t, b, 1000)); got != all[:len(all)-len("users")]+"late, users" {
			t.Errorf("when the file has changed: got %q", got)
		}
		if n := len(h.questions()); n != asked {
			t.Errorf("the directory was asked again: %q", h.questions()[asked:])
		}

		// A directory that is down costs nobody their groups, neither these nor
		// those.
		pass(10 * time.Minute)
		h.mu.Lock()
		h.down = true
		h.mu.Unlock()
		if got := groups(find(t, b, 1000)); !strings.Contains(got, "sales team, anna, finance, late") {
			t.Errorf("while the directory is down: got %q", got)
		}
		if got := groups(find(t, b, 1001)); got != "ben: finance, users" {
			t.Errorf("while the directory is down: got %q", got)
		}

		h.root["etc/passwd"] = &fstest.MapFile{Data: []byte("root:x:0:0::/:/bin/sh\n")}
		pass(time.Second)
		if u := find(t, b, 1000); u.Name != "" {
			t.Errorf("a user who is gone is %q", groups(u))
		}
	})
}

func TestCloseEndsWhatGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost()
		h.hold = make(chan struct{})
		b := account.New(account.Config{Root: h.root, Run: h.run})
		b.User(70001)
		b.Close()
		if _, ok := b.Find(t.Context(), 70001); ok {
			t.Error("somebody was found after Close")
		}
	})
}

// TestTheHostsOwnDirectory asks the programs of the host for users that are in
// no file given to the book.
func TestTheHostsOwnDirectory(t *testing.T) {
	b := account.New(account.Config{Root: fstest.MapFS{}})
	t.Cleanup(b.Close)
	if u := find(t, b, 0); u.Name != "root" || !slices.Contains(u.Groups, "root") {
		t.Errorf("root is %+v", u)
	}
	if u := find(t, b, 3_999_999_999); u.Name != "" || u.Groups != nil {
		t.Errorf("nobody is %+v", u)
	}
	if uid, ok := b.UID(t.Context(), "root"); !ok || uid != 0 {
		t.Errorf("root has the id %d, %t", uid, ok)
	}
	// And so do the files of the host.
	own := account.New(account.Config{})
	t.Cleanup(own.Close)
	if u := find(t, own, 0); u.Name != "root" || !slices.Contains(u.Groups, "root") {
		t.Errorf("by the files root is %+v", u)
	}
}
