package control_test

import (
	"testing"

	"interdict/internal/control"
	"interdict/internal/control/controltest"
	"interdict/internal/control/edit"
	"interdict/internal/control/groups"
	"interdict/internal/control/observation"
	"interdict/internal/fleet"
)

func TestAnEditThatChangesNothingIsNone(t *testing.T) {
	s := controltest.OnSQLite(t)
	ctx := t.Context()
	d := s.NewDevice("alice-pc")
	const rule = `labels.kind == "laptop"`
	s.NewGroup(groups.NewGroup{Name: "g", Members: []string{"alice-pc"}, Rule: rule})
	id := s.NewPolicy("p", fleet.ModeAudit)
	before, err := s.Observations.AuditLog(ctx, observation.AuditQuery{})
	if err != nil {
		t.Fatal(err)
	}
	g, _, err := s.Groups.Update(ctx, controltest.Admin(), "g", edit.AnyVersion, groups.NewGroup{Name: "g", Members: []string{string(d.ID)}, Rule: rule})
	if err != nil || g.Version != 1 {
		t.Errorf("the group has version %d (%v), want 1", g.Version, err)
	}
	p, _, err := s.UpdatePolicy(ctx, controltest.Admin(), id, edit.AnyVersion, control.NewPolicy{Name: "p", Settings: fleet.Settings{NetworkProtection: fleet.ModeAudit}})
	if err != nil || p.Version != 2 {
		t.Errorf("the policy has version %d (%v), want 2", p.Version, err)
	}
	name := "alice-pc"
	v, change, err := s.UpdateDevice(ctx, controltest.Admin(), name, edit.AnyVersion, control.DeviceUpdate{Name: &name})
	if err != nil || v.Version != 1 {
		t.Errorf("the device has version %d (%v), want 1", v.Version, err)
	}
	after, err := s.Observations.AuditLog(ctx, observation.AuditQuery{})
	if err != nil || len(after.Items) != len(before.Items) {
		t.Errorf("%d entries in the audit log (%v), want the %d that were there", len(after.Items), err, len(before.Items))
	}
	if change.Revision != before.Items[0].Revision {
		t.Errorf("revision %d, want still %d", change.Revision, before.Items[0].Revision)
	}
}
