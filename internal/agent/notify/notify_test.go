package notify

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"interdict/internal/event"
)

func refused(app, host string, uid uint32) event.Event {
	return event.Event{
		EventID: event.IDBlocked, Action: event.ActionBlocked, AppName: app, Destination: event.Destination{Host: host},
		Process: event.Process{Path: "/usr/bin/curl"}, User: event.User{UID: &uid},
	}
}

func TestEachUserIsToldOfAnAppOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		n := New(Config{Log: slog.New(slog.DiscardHandler), Send: func(_ context.Context, m Message) error {
			got = append(got, strconv.FormatUint(uint64(m.UID), 10)+" "+m.Title)
			return errors.New("the desktop is away")
		}})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = n.Run(ctx)
		}()
		audited, nobody := refused("Tunes", "a.example", 1), refused("Tunes", "a.example", 1)
		audited.EventID, nobody.User.UID = event.IDAudited, nil
		address := refused("", "", 1)
		address.Destination.IP = netip.MustParseAddr("192.0.2.1")
		for _, e := range []event.Event{
			refused("Tunes", "a.example", 1), refused("Tunes", "b.example", 1), refused("Tunes", "a.example", 2),
			refused("Box", "box.example", 1), audited, nobody, refused("", "plain.example", 1), address,
		} {
			n.Refused(e)
		}
		synctest.Wait()
		elapse(quiet)
		n.Refused(refused("Tunes", "a.example", 1))
		synctest.Wait()
		want := []string{
			"1 Tunes is blocked", "2 Tunes is blocked", "1 Box is blocked", "1 plain.example is blocked", "1 192.0.2.1 is blocked",
			"1 Tunes is blocked",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("messages (-want +got):\n%s", diff)
		}
		cancel()
		<-ended
	})
}

func TestADesktopThatHangsHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(Config{Log: slog.New(slog.DiscardHandler)})
		for uid := range uint32(2 * maxTold) {
			n.Refused(refused("Tunes", "a.example", uid))
		}
		if len(n.told) > maxTold {
			t.Errorf("%d users are remembered, want at most %d", len(n.told), maxTold)
		}
	})
}

func TestTheMessageSaysWhatAndWhomToAsk(t *testing.T) {
	got := detail(refused("Tunes", "a.example", 1), "Tunes")
	want := "curl tried to connect to a.example. Your organisation does not allow Tunes on this device. Ask your administrator if you need it."
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestWithoutASessionNobodyIsTold(t *testing.T) {
	if err := (SessionBus{RuntimeDir: t.TempDir()}).Send(t.Context(), Message{UID: 1}); err != nil {
		t.Errorf("got %v, want no error", err)
	}
}

func TestABusThatHangsUpIsAnError(t *testing.T) {
	runtimeDir := t.TempDir()
	if err := os.Mkdir(filepath.Join(runtimeDir, "1"), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(runtimeDir, "1", "bus"))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if c, err := l.Accept(); err == nil {
			_ = c.Close()
		}
	}()
	defer func() { _ = l.Close() }()
	if err := (SessionBus{RuntimeDir: runtimeDir}).Send(t.Context(), Message{UID: 1}); err == nil {
		t.Error("got no error")
	}
}

// desktop answers as a notification service does.
type desktop struct{ got chan [2]string }

// Notify is the method of org.freedesktop.Notifications.
func (d desktop) Notify(_ string, _ uint32, _, title, body string, _ []string, _ map[string]dbus.Variant, _ int32) (uint32, *dbus.Error) {
	d.got <- [2]string{title, body}
	return 1, nil
}

func TestARealBusDeliversTheMessage(t *testing.T) {
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		const reason = "NOT TESTED: dbus-daemon is not installed, so no session bus can be started"
		if os.Getenv("CI") != "" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	runtimeDir := t.TempDir()
	uid := uint32(os.Getuid())
	dir := filepath.Join(runtimeDir, strconv.FormatUint(uint64(uid), 10))
	if err = os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	address := "unix:path=" + filepath.Join(dir, "bus")
	cmd := exec.CommandContext(t.Context(), daemon, "--session", "--nofork", "--print-address", "--address="+address)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	// The address is printed when the bus is there.
	if _, err = out.Read(make([]byte, 256)); err != nil {
		t.Fatal(err)
	}
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	d := desktop{got: make(chan [2]string, 1)}
	if err := conn.Export(d, "/org/freedesktop/Notifications", "org.freedesktop.Notifications"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.RequestName("org.freedesktop.Notifications", dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	if err := (SessionBus{RuntimeDir: runtimeDir}).Send(t.Context(), Message{UID: uid, Title: "Tunes is blocked", Detail: "why"}); err != nil {
		t.Fatal(err)
	}
	if got := <-d.got; got[0] != "Tunes is blocked" || !strings.Contains(got[1], "why") {
		t.Errorf("the desktop got %q", got)
	}
}

// elapse lets time pass, in a synctest bubble.
func elapse(d time.Duration) { <-time.After(d) }
