package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"interdict/internal/fleet"
)

// fails runs an administrator's command that has to fail, and returns what it
// says.
func (f *fixture) fails(t *testing.T, args ...string) string {
	t.Helper()
	out, err := f.site.Admin(t.Context(), args...)
	if err == nil {
		t.Fatalf("interdict %s should fail and printed %q", strings.Join(args, " "), out)
	}
	return err.Error()
}

// says fails the test unless a text has all parts.
func says(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s lacks %q:\n%s", what, part, text)
		}
	}
}

// lacks fails the test if a text has a part.
func lacks(t *testing.T, what, text, part string) {
	t.Helper()
	if strings.Contains(text, part) {
		t.Errorf("%s has %q:\n%s", what, part, text)
	}
}

// after runs an administrator's command when the test ends.
func (f *fixture) after(t *testing.T, args ...string) {
	t.Helper()
	t.Cleanup(func() {
		if _, err := f.site.Admin(context.Background(), args...); err != nil {
			t.Error(err)
		}
	})
}

// group makes a device group until the test ends.
func (f *fixture) group(t *testing.T, name string, flags ...string) {
	t.Helper()
	f.admin(t, append([]string{"group", "create", name}, flags...)...)
	f.after(t, "group", "delete", name)
}

// policy makes a policy until the test ends, assigned to all devices.
func (f *fixture) policy(t *testing.T, name string, flags ...string) {
	t.Helper()
	f.admin(t, append([]string{"policy", "create", name}, flags...)...)
	f.admin(t, "policy", "assign", name, "--all-devices", "--wait")
	t.Cleanup(func() {
		// The test may have deleted it.
		if _, err := f.site.Admin(context.Background(), "policy", "show", name); err == nil {
			_, err = f.site.Admin(context.Background(), "policy", "delete", name, "--force", "--wait")
			if err != nil {
				t.Error(err)
			}
		}
	})
}

// indicator adds a custom indicator until the test ends, and returns its id.
func (f *fixture) indicator(t *testing.T, kind, value string, flags ...string) (id string) {
	t.Helper()
	out := f.admin(t, append([]string{"indicator", "add", kind, value, "--wait", "--output", "json"}, flags...)...)
	var added struct{ ID string }
	if err := json.Unmarshal([]byte(out), &added); err != nil {
		t.Fatal(err)
	}
	f.after(t, "indicator", "delete", added.ID, "--wait")
	return added.ID
}

// feature turns a feature of the server off until the test ends.
func (f *fixture) featureOff(t *testing.T, name string) {
	t.Helper()
	f.admin(t, "feature", "set", name, "off", "--wait")
	f.after(t, "feature", "set", name, "on", "--wait")
}

// relabel gives ben another label until the test ends.
func (f *fixture) relabel(t *testing.T, label string) {
	t.Helper()
	f.admin(t, "device", "set", hostOutside, "--label", label, "--wait")
	f.after(t, "device", "set", hostOutside, "--label", "group=none", "--wait")
}

// device is one as "device show" has it.
func (f *fixture) device(ctx context.Context, host string) (d fleet.Device, err error) {
	err = f.site.AdminShow(ctx, &d, "device", "show", host)
	return d, err
}

// waitOffline waits until the server knows that a device is gone.
func (f *fixture) waitOffline(t *testing.T, host string) {
	t.Helper()
	until(t, host+" is offline", func(ctx context.Context) error {
		d, err := f.device(ctx, host)
		if err == nil && d.Online {
			return errors.New("it is online")
		}
		return err
	})
}

// leave stops the agent of a host until the test ends.
func (f *fixture) leave(t *testing.T, host string) {
	t.Helper()
	if err := f.site.StopAgent(host); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		if err := errors.Join(f.site.StartAgent(ctx, host), f.waitOnline(ctx, 2)); err != nil {
			t.Error(err)
		}
	})
	f.waitOffline(t, host)
}
