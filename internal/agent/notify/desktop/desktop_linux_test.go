package desktop_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"interdict/internal/agent/notify/desktop"
	"interdict/internal/agent/notify/desktoptest"
	"interdict/internal/agent/notify/session"
)

// The helper is this program once more, as it is in the agent.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "helper" {
		os.Exit(helper(os.Args[2]))
	}
	os.Exit(m.Run())
}

// helper is a good one, or one of a user who has other plans.
func helper(kind string) int {
	switch kind {
	case "good":
		err := desktop.Serve(context.Background(), desktop.ServeConfig{Orders: os.Stdin, Reports: os.Stdout, Bus: os.Getenv("DBUS_SESSION_BUS_ADDRESS")})
		if err != nil {
			return 1
		}
	case "who":
		caps, _ := os.ReadFile("/proc/self/status")
		_, effective, _ := strings.Cut(string(caps), "CapEff:\t")
		_, permitted, _ := strings.Cut(string(caps), "CapPrm:\t")
		wd, _ := os.Getwd()
		groups, _ := os.Getgroups()
		sid, _ := unix.Getsid(0)
		fmt.Fprintf(os.Stdout, `{"key":"uid %d gid %d groups %v descriptors %v in %s caps %.16s %.16s env %d session of its own %v"}`+"\n",
			os.Getuid(), os.Getgid(), groups, descriptors(), wd, effective, permitted, len(os.Environ()), sid == os.Getpid())
	case "heir":
		heir := exec.CommandContext(context.Background(), "/proc/self/exe", "helper", "deaf")
		heir.Stdin, heir.Stdout = os.Stdin, os.Stdout
		if heir.Start() == nil {
			fmt.Fprintf(os.Stdout, `{"key":"%d"}`+"\n", heir.Process.Pid)
		}
	case "nonsense":
		fmt.Fprintln(os.Stdout, `{"key":"1","what":"shown"}`+"\nhello\n"+`{"key":"2","what":"shown"}`)
		select {}
	case "endless":
		_, _ = os.Stdout.WriteString(`{"key":"` + strings.Repeat("x", 1<<20) + `"}` + "\n")
		select {}
	case "chatter":
		for {
			fmt.Fprintln(os.Stdout, `{"key":"1","what":"closed"}`)
		}
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
		select {}
	}
	return 0
}

// descriptors are the open ones, without those that Go's runtime opens.
func descriptors() (all []string) {
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, link := range links {
		to, err := os.Readlink(link)
		if err == nil && !strings.HasPrefix(to, "anon_inode:") && !strings.HasPrefix(to, "/sys/fs/cgroup/") && !strings.HasPrefix(to, "/proc/") {
			kind, _, _ := strings.Cut(to, ":")
			all = append(all, kind)
		}
	}
	return all
}

// scene is a helper of anna's, and what it said.
type scene struct {
	*desktop.Helper
	t     *testing.T
	heard chan desktop.Report
}

func start(t *testing.T, kind, bus string) *scene {
	t.Helper()
	desktoptest.NeedRoot(t)
	anna := desktoptest.User(t)
	s := &scene{t: t, heard: make(chan desktop.Report, 2000)}
	var err error
	s.Helper, err = desktop.Start(t.Context(), desktop.Program{Path: "/proc/self/exe", Args: []string{"helper", kind}}, session.Session{
		UID: anna, GID: anna, Groups: []uint32{anna, 61009}, Name: "anna", Home: "/", RuntimePath: filepath.Dir(strings.TrimPrefix(bus, "unix:path=")), Bus: bus,
		Display: []string{"DISPLAY=:7"},
	}, func(r desktop.Report) { s.heard <- r })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		<-s.Ended()
	})
	return s
}

// next returns the next report.
func (s *scene) next() desktop.Report {
	s.t.Helper()
	select {
	case r := <-s.heard:
		return r
	case <-time.After(10 * time.Second):
		s.t.Fatal("the helper says nothing")
		return desktop.Report{}
	}
}

func (s *scene) wants(what string, want desktop.Report) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.next()); diff != "" {
		s.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func (s *scene) do(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func annasBus(t *testing.T) string {
	t.Helper()
	desktoptest.NeedRoot(t)
	anna := desktoptest.User(t)
	return desktoptest.Bus(t, anna, desktoptest.Dir(t, anna))
}

func TestTheHelperIsTheUserAndHasNothingOfTheAgents(t *testing.T) {
	// What a careless parent left open for the agent goes no further.
	careless, err := syscall.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(careless) })
	t.Setenv("AGENT_SECRET", "1")
	s := start(t, "who", "unix:path=/none/bus")
	got := s.next().Key
	want := fmt.Sprintf("uid %[1]d gid %[1]d groups [%[1]d 61009] descriptors [pipe pipe /dev/null] in / caps 0000000000000000 0000000000000000 env 7 session of its own true", desktoptest.User(t))
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestANotificationIsShownAndItsActionComesBack(t *testing.T) {
	bus := annasBus(t)
	service := desktoptest.NewService(t, bus, desktoptest.User(t), "actions", "body-markup").WithPortal()
	s := start(t, "good", bus)
	s.do(s.Show(desktop.Message{
		Key: "k1", Title: "Box & Co <b>", Body: "<img src=x> is refused & gone\x00", Icon: "security-high",
		Actions: []desktop.Action{{Name: "default", Label: "Why?"}, {Name: "request", Label: "Request access"}}, Link: "http://127.0.0.1/why/x",
	}))
	note := service.Next()
	want := desktoptest.Note{
		ID: 1, UID: desktoptest.User(t), Icon: "security-high", Title: "Box & Co <b>", Body: "&lt;img src=x&gt; is refused &amp; gone ",
		Actions: []string{"default", "Why?", "request", "Request access"}, Hints: map[string]any{"urgency": byte(1), "category": "network.error"},
	}
	if diff := cmp.Diff(want, note); diff != "" {
		t.Errorf("the service got (-want +got):\n%s", diff)
	}
	s.wants("when it is there", desktop.Report{Key: "k1", What: desktop.Shown})
	service.Close(99)
	service.Invoke(note.ID, "request")
	s.wants("a choice", desktop.Report{Key: "k1", What: desktop.Invoked, Action: "request"})
	s.wants("its end", desktop.Report{Key: "k1", What: desktop.Closed})
	s.do(s.Open(desktop.Page{Key: "k1", URL: "http://127.0.0.1/why/x"}))
	if got := service.Opened(); got != (desktoptest.Opened{URL: "http://127.0.0.1/why/x", Token: "token of request"}) {
		t.Errorf("opened %+v", got)
	}
	s.Close()
	s.wants("when it has ended", desktop.Report{})
}

func TestADesktopThatCanDoLittleIsToldTheAddress(t *testing.T) {
	bus := annasBus(t)
	service := desktoptest.NewService(t, bus, desktoptest.User(t), "body")
	s := start(t, "good", bus)
	s.do(s.Show(desktop.Message{Key: "k", Title: "T", Body: "a < b", Actions: []desktop.Action{{Name: "why", Label: "Why?"}}, Link: "http://127.0.0.1/why/x"}))
	if got := service.Next(); got.Body != "a < b\nhttp://127.0.0.1/why/x" || len(got.Actions) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestHelpStandsBelowTheBody(t *testing.T) {
	const url = "https://help.example/?a=1&b=<2>"
	for _, test := range []struct {
		name         string
		capabilities []string
		url, want    string
	}{
		{"as a link", []string{"body-markup", "body-hyperlinks"}, url, "a &lt; b\n" + `<a href="https://help.example/?a=1&amp;b=&lt;2&gt;">Get &lt;help&gt;</a>`},
		{"where there are no links", []string{"body-markup"}, url, "a &lt; b\nGet &lt;help&gt;: https://help.example/?a=1&amp;b=&lt;2&gt;"},
		{"where there is no markup", []string{"body-hyperlinks"}, url, "a < b\nGet <help>: " + url},
		{"unless there is none", []string{"body-markup", "body-hyperlinks"}, "", "a &lt; b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bus := annasBus(t)
			service := desktoptest.NewService(t, bus, desktoptest.User(t), test.capabilities...)
			s := start(t, "good", bus)
			s.do(s.Show(desktop.Message{Key: "k", Title: "T", Body: "a < b", Help: desktop.Help{Label: "Get <help>", URL: test.url}}))
			if got := service.Next(); got.Body != test.want {
				t.Errorf("got %q, want %q", got.Body, test.want)
			}
		})
	}
}

func TestANotificationTakesThePlaceOfOneWithItsKey(t *testing.T) {
	bus := annasBus(t)
	service := desktoptest.NewService(t, bus, desktoptest.User(t), "actions")
	s := start(t, "good", bus)
	s.do(s.Show(desktop.Message{Key: "k", Title: "first"}))
	s.do(s.Show(desktop.Message{Key: "k", Title: "second"}))
	first, second := service.Next(), service.Next()
	if second.Replaces != first.ID {
		t.Errorf("got %+v after %+v", second, first)
	}
	s.next()
	s.next()
	service.Close(first.ID)
	s.do(s.Withdraw("k"))
	if got := service.Withdrawn(); got != second.ID {
		t.Errorf("%d was taken away, want %d", got, second.ID)
	}
}

func TestLongTextsAreCut(t *testing.T) {
	bus := annasBus(t)
	service := desktoptest.NewService(t, bus, desktoptest.User(t))
	s := start(t, "good", bus)
	s.do(s.Show(desktop.Message{Key: "k", Title: strings.Repeat("ä", 1<<12), Body: strings.Repeat("\xff", 1<<13)}))
	if got := service.Next(); len(got.Title) > 400 || len(got.Body) > 2000 || !strings.HasSuffix(got.Title, "ä…") {
		t.Errorf("got %d and %d bytes", len(got.Title), len(got.Body))
	}
}

func TestADesktopWithoutAServiceFails(t *testing.T) {
	bus := annasBus(t)
	s := start(t, "good", bus)
	s.do(s.Show(desktop.Message{Key: "k", Title: "T"}))
	if got := s.next(); got.What != desktop.Failed || got.Key != "k" || got.Text == "" {
		t.Errorf("got %+v", got)
	}
}

func TestAHelperWithoutABusEnds(t *testing.T) {
	s := start(t, "good", "unix:path=/none/bus")
	s.wants("at once", desktop.Report{})
}

// A user may put anything in the place of the helper.
func TestAHostileHelperIsBounded(t *testing.T) {
	t.Run("nonsense ends it", func(t *testing.T) {
		s := start(t, "nonsense", "unix:path=/none/bus")
		s.wants("what makes sense", desktop.Report{Key: "1", What: desktop.Shown})
		s.wants("what does not", desktop.Report{})
	})
	t.Run("a line without end ends it", func(t *testing.T) {
		start(t, "endless", "unix:path=/none/bus").wants("at once", desktop.Report{})
	})
	t.Run("endless chatter ends", func(t *testing.T) {
		s := start(t, "chatter", "unix:path=/none/bus")
		<-s.Ended()
		if n := len(s.heard); n > 1100 {
			t.Errorf("%d reports were heard", n)
		}
	})
	t.Run("one that leaves its pipes to another is gone all the same", func(t *testing.T) {
		s := start(t, "heir", "unix:path=/none/bus")
		heir, err := strconv.Atoi(s.next().Key)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = syscall.Kill(heir, syscall.SIGKILL) }()
		s.wants("when it is gone", desktop.Report{})
		for err = nil; err == nil; {
			err = s.Show(desktop.Message{Key: "k", Body: strings.Repeat("x", 500)})
		}
	})
	t.Run("one that reads nothing holds nobody up for long", func(t *testing.T) {
		s := start(t, "deaf", "unix:path=/none/bus")
		began := time.Now()
		for err := error(nil); err == nil; {
			err = s.Show(desktop.Message{Key: "k", Body: strings.Repeat("x", 500)})
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("it took %s", took)
		}
		s.wants("it is ended", desktop.Report{})
	})
}

func TestTheHelperEndsWithTheAgent(t *testing.T) {
	bus := desktoptest.Bus(t, uint32(os.Geteuid()), t.TempDir())
	orders, agent, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- desktop.Serve(t.Context(), desktop.ServeConfig{Orders: orders, Reports: new(strings.Builder), Bus: bus})
	}()
	// The kernel closes the pipe of an agent that is killed.
	_ = agent.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it goes on")
	}
}

func FuzzOrdersAreRead(f *testing.F) {
	f.Add(`{"show":{"key":"1","title":"t"}}` + "\n" + `{"withdraw":"1"}`)
	f.Add(strconv.Quote("x"))
	f.Fuzz(func(_ *testing.T, lines string) {
		// Without a bus orders are read and nothing else.
		_ = desktop.Serve(context.Background(), desktop.ServeConfig{Orders: strings.NewReader(lines), Reports: new(strings.Builder), Bus: "unix:path=/none"})
	})
}
