package desktop

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"interdict/internal/lab"
)

// startBus starts a bus as the user of the test and connects to it.
func startBus(t *testing.T) (socket string, client *dbus.Conn) {
	t.Helper()
	if err := Check(); errors.Is(err, ErrNoBus) {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("NOT TESTED: ", err)
	}
	d := &Desktop{}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	b, err := d.bus(t.TempDir(), filepath.Join(t.TempDir(), "place", "bus"), func(file string) *exec.Cmd {
		return exec.CommandContext(t.Context(), "dbus-daemon", arguments(file)...)
	})
	if err != nil {
		t.Fatal(err)
	}
	client, err = dbus.Connect("unix:path=" + b.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return b.socket, client
}

func TestNotificationsComeWithTheirButtonsWhichCanBeChosen(t *testing.T) {
	socket, client := startBus(t)
	shown, err := serveNotifications(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shown.conn.Close() })
	service := client.Object(notificationsName, notificationsPath)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	notify := func(replaces uint32) (id uint32) {
		t.Helper()
		err := service.CallWithContext(ctx, notificationsName+".Notify", 0, "test", replaces, "", "Title", "Body",
			[]string{"why", "Why?", "odd"}, map[string]dbus.Variant{}, int32(-1)).Store(&id)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	id := notify(0)
	want := Note{ID: id, Title: "Title", Body: "Body", Buttons: []Button{{"why", "Why?"}}}
	if diff := cmp.Diff(want, <-shown.notes); diff != "" {
		t.Errorf("the notification (-want +got):\n%s", diff)
	}
	if again := notify(id); again != id {
		t.Errorf("a notification that takes the place of %d has the id %d", id, again)
	}
	if other := notify(0); other == id {
		t.Errorf("two notifications have the id %d", id)
	}

	signals := make(chan *dbus.Signal, 8)
	client.Signal(signals)
	if err := client.AddMatchSignal(dbus.WithMatchInterface(notificationsName)); err != nil {
		t.Fatal(err)
	}
	if err := shown.choose(id, "why"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []dbus.Signal{
		{Name: notificationsName + ".ActionInvoked", Body: []any{id, "why"}},
		{Name: notificationsName + ".NotificationClosed", Body: []any{id, uint32(2)}},
	} {
		for {
			var got *dbus.Signal
			select {
			case got = <-signals:
			case <-ctx.Done():
				t.Fatalf("the signal %s did not come", want.Name)
			}
			if got.Path != notificationsPath {
				continue // The bus's own.
			}
			if got.Name != want.Name || !cmp.Equal(got.Body, want.Body) {
				t.Errorf("got %s %v, want %s %v", got.Name, got.Body, want.Name, want.Body)
			}
			break
		}
	}
}

func TestLogindKnowsOneSession(t *testing.T) {
	socket, client := startBus(t)
	user := lab.User{Name: "alice", UID: 2001}
	conn, err := serveLogind(socket, user, 42)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	manager := client.Object(logindName, logindPath)
	var sessions []listed
	if err := manager.Call(logindName+".Manager.ListSessions", 0).Store(&sessions); err != nil {
		t.Fatal(err)
	}
	if len(sessions) != 1 || sessions[0].UID != user.UID {
		t.Fatalf("the sessions are %+v", sessions)
	}
	var all map[string]dbus.Variant
	if err := client.Object(logindName, sessions[0].Path).Call(propertiesName+".GetAll", 0, logindName+".Session").Store(&all); err != nil {
		t.Fatal(err)
	}
	if all["Leader"].Value() != uint32(42) || all["Class"].Value() != "user" {
		t.Errorf("the session has %v", all)
	}
	var path dbus.ObjectPath
	if err := manager.Call(logindName+".Manager.GetUser", 0, user.UID+1).Store(&path); err == nil {
		t.Errorf("another user has the path %s", path)
	}
}
