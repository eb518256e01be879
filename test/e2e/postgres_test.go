package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/lab/site"
)

// The hosts of the installation on PostgreSQL: two servers and a device.
const (
	hostEast = "east"
	hostWest = "west"
	hostCarl = "carl"
)

// cluster is two servers that share a database. Carl's agent belongs to the
// site in the east.
type cluster struct {
	*fixture

	east, west *site.Site
}

// installCluster starts two servers on PostgreSQL until the test ends, and
// carl's agent, which is connected to the one in the east.
func installCluster(t *testing.T) *cluster {
	t.Helper()
	f := install(t)
	database := []string{"--database-url", postgres.URL(t)}
	start := func(host string) *site.Site {
		s := site.New(site.Config{Lab: f.lab, Name: host, Programs: os.Getenv(envPrograms), ServerHost: host})
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("server %s:\n%s", host, s.ServerLog())
			}
			// The files are no use with another database.
			if err := errors.Join(s.Close(), os.RemoveAll(filepath.Dir(s.DataDir()))); err != nil {
				t.Error(err)
			}
		})
		if err := s.StartServer(t.Context(), database...); err != nil {
			t.Fatal(err)
		}
		return s
	}
	c := &cluster{fixture: f, east: start(hostEast)}
	c.west = start(hostWest)
	if err := errors.Join(c.east.Enroll(t.Context(), hostCarl, "site=cluster"), c.east.StartAgent(t.Context(), hostCarl)); err != nil {
		t.Fatal(err)
	}
	until(t, "the west sees carl online", func(ctx context.Context) error {
		var d fleet.Device
		err := c.west.AdminShow(ctx, &d, "device", "show", hostCarl)
		if err == nil && !d.Online {
			err = errors.New("he is offline")
		}
		return err
	})
	return c
}

// do runs an administrator's command, that has to succeed, at a server.
func do(t *testing.T, s *site.Site, args ...string) string {
	t.Helper()
	out, err := s.Admin(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestTwoServersOnPostgreSQLAreOne(t *testing.T) {
	c := installCluster(t)
	do(t, c.west, "group", "create", "everyone", "--rule", `labels.site == "cluster"`)
	do(t, c.east, "policy", "create", "base", "--network-protection", "audit")
	says(t, "the west, of a device in the east", do(t, c.west, "policy", "assign", "base", "--include-group", "everyone", "--wait"),
		"applied on 1 of 1 device in ")
	do(t, c.west, "app", "tag", app, "unsanctioned", "--wait")
	// The server that is asked is not the one that the device is connected to.
	says(t, "why it is not blocked", do(t, c.west, "explain", "audit.itunes.apple.com", "--device", hostCarl, "--expect", "allowed"),
		"is NOT blocked, but recorded, on "+hostCarl, "policy base sets network protection to audit", "the kernel asks the agent")
	works(t, "in audit mode", c.curl(t, hostCarl, "https://audit.itunes.apple.com/"))
	c.waitUpload(t, event.IDAudited, "audit.itunes.apple.com")

	// A trial that one server begins is seen and ended at the other.
	do(t, c.east, "policy", "set", "base", "--network-protection", "block", "--canary", "everyone", "--wait")
	refused(t, "in block mode", c.curl(t, hostCarl, "https://trial.itunes.apple.com/"))
	says(t, "the list of rollouts", do(t, c.west, "rollout", "list"), "base", "trial", "everyone")
	do(t, c.west, "rollout", "stop", "base", "--wait")
	works(t, "after the trial", c.curl(t, hostCarl, "https://after.itunes.apple.com/"))

	says(t, "the answer of sync", do(t, c.west, "device", "sync", hostCarl), hostCarl+" enforces version ", "audit")
}

// waitUpload waits until the server in the west has an event of carl's, who is
// connected to the one in the east.
func (c *cluster) waitUpload(t *testing.T, id event.ID, host string) {
	t.Helper()
	until(t, fmt.Sprintf("the west has event %d", id), func(ctx context.Context) error {
		var events []event.Event
		if err := c.west.AdminList(ctx, &events, "event", "query", fmt.Sprintf("event_id=%d", id), "host="+host); err != nil {
			return err
		}
		if len(events) == 0 {
			return errors.New("there is none")
		}
		return nil
	})
}
