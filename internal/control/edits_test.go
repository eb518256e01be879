package control_test

import (
	"testing"

	"interdict/internal/control"
	"interdict/internal/fleet"
)

func TestAnEditThatChangesNothingIsNone(t *testing.T) {
	s := onSQLite(t)
	ctx := t.Context()
	d := s.newDevice("alice-pc")
	match := map[string]string{"kind": "laptop"}
	s.group(control.NewGroup{Name: "g", Members: []string{"alice-pc"}, Match: match})
	id := s.policy("p", fleet.ModeAudit)
	before, err := s.AuditLog(ctx, control.AuditQuery{})
	if err != nil {
		t.Fatal(err)
	}
	g, _, err := s.UpdateGroup(ctx, admin(), "g", control.AnyVersion, control.NewGroup{Name: "g", Members: []string{string(d.id)}, Match: match})
	if err != nil || g.Version != 1 {
		t.Errorf("the group has version %d (%v), want 1", g.Version, err)
	}
	p, _, err := s.UpdatePolicy(ctx, admin(), id, control.AnyVersion, control.NewPolicy{Name: "p", Settings: fleet.Settings{NetworkProtection: fleet.ModeAudit}})
	if err != nil || p.Version != 2 {
		t.Errorf("the policy has version %d (%v), want 2", p.Version, err)
	}
	name := "alice-pc"
	v, change, err := s.UpdateDevice(ctx, admin(), name, control.AnyVersion, control.DeviceUpdate{Name: &name})
	if err != nil || v.Version != 1 {
		t.Errorf("the device has version %d (%v), want 1", v.Version, err)
	}
	after, err := s.AuditLog(ctx, control.AuditQuery{})
	if err != nil || len(after.Items) != len(before.Items) {
		t.Errorf("%d entries in the audit log (%v), want the %d that were there", len(after.Items), err, len(before.Items))
	}
	if change.Revision != before.Items[0].Revision {
		t.Errorf("revision %d, want still %d", change.Revision, before.Items[0].Revision)
	}
}
