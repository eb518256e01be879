package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/control/edit"
	"interdict/internal/control/find"
	"interdict/internal/control/input"
	"interdict/internal/control/page"
	"interdict/internal/fault"
	"interdict/internal/fleet"
	"interdict/internal/store"
)

// Devices returns the enrolled devices, sorted by name.
func (s *Service) Devices(ctx context.Context, q DeviceQuery) (page.Page[DeviceView], error) {
	if err := errors.Join(s.fresh(ctx), s.freshPresence(ctx)); err != nil {
		return page.Page[DeviceView]{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	group := ""
	if q.Group != "" {
		var err error
		if group, err = find.Group(s.state, q.Group); err != nil {
			return page.Page[DeviceView]{}, err
		}
	}
	var found []DeviceView
	snapshot := s.snapshot.Load()
	for id, d := range s.state.Devices {
		if (group == "" || slices.Contains(snapshot.Groups(id), group)) && matches(q.Search, &d.Device) {
			found = append(found, DeviceView{Device: d.Device})
		}
	}
	page, err := page.Of(found, q.Query, func(d *DeviceView) string { return d.Name + "\x00" + string(d.ID) })
	for i := range page.Items {
		page.Items[i] = s.deviceView(page.Items[i].ID)
	}
	return page, err
}

// matches reports whether a device has what is searched for, which may be
// nothing.
func matches(search string, d *fleet.Device) bool {
	if search == "" || input.Contains(search, string(d.ID), d.Name, d.Hostname) {
		return true
	}
	for k, v := range d.Labels {
		if input.Contains(search, k+"="+v) {
			return true
		}
	}
	return false
}

// Device returns the device with an id or a name.
func (s *Service) Device(ctx context.Context, ref string) (DeviceView, error) {
	if err := errors.Join(s.fresh(ctx), s.freshPresence(ctx)); err != nil {
		return DeviceView{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	id, err := find.Device(s.state, ref)
	if err != nil {
		return DeviceView{}, err
	}
	v := s.deviceView(id)
	for _, standing := range v.Effective.Standings() {
		v.Settings = append(v.Settings, SettingView{SettingStatus: v.Status(standing)})
	}
	s.nameAll(v.Settings)
	return v, nil
}

// deviceView is called with s.mu held.
func (s *Service) deviceView(id fleet.DeviceID) DeviceView {
	d := s.state.Devices[id].Device
	s.fill(&d)
	v := DeviceView{Device: d}
	if a := s.snapshot.Load().Of(id); a != nil {
		v.Effective = a.Effective
	}
	return v
}

// Progress says how many devices enforce what they ought to. It counts the
// devices for which that changed at revision since or later, all if it is 0.
func (s *Service) Progress(ctx context.Context, since uint64) (fleet.Progress, error) {
	var r fleet.Progress
	err := s.EachDevice(ctx, func(d *fleet.Device) {
		if d.DesiredSince >= since {
			r.Add(d.State())
		}
	})
	return r, err
}

// UpdateDevice changes a device's name or labels, unless it no longer has the
// version.
func (s *Service) UpdateDevice(ctx context.Context, actor Actor, ref string, version uint64, u DeviceUpdate) (DeviceView, Change, error) {
	var faults fault.Fields
	if u.Name != nil {
		input.CheckName(&faults, *u.Name)
	}
	if u.Labels != nil {
		input.CheckLabels(&faults, "labels", *u.Labels)
	}
	if err := faults.Err("the device is not valid"); err != nil {
		return DeviceView{}, Change{}, err
	}
	known, err := s.Device(ctx, ref)
	if err != nil {
		return DeviceView{}, Change{}, err
	}
	change, err := s.Change(ctx, func(tx *store.Tx) error { return s.putDevice(tx, actor, known.ID, version, u) })
	if err != nil {
		return DeviceView{}, Change{}, err
	}
	view, err := s.Device(ctx, string(known.ID))
	return view, change, err
}

func (s *Service) putDevice(tx *store.Tx, actor Actor, id fleet.DeviceID, version uint64, u DeviceUpdate) error {
	before, err := tx.Devices().Get(string(id))
	if err != nil {
		return edit.Gone(err, "device", string(id))
	}
	if err := edit.CheckVersion("device", before.Version, version); err != nil {
		return err
	}
	after := before
	if u.Name != nil {
		after.Name = *u.Name
	}
	if u.Labels != nil {
		after.Labels = *u.Labels
	}
	if after.Name == before.Name && maps.Equal(after.Labels, before.Labels) {
		return nil
	}
	after.Version++
	tx.Audit(s.Entry(actor, "device.update", string(id), before, after))
	return tx.Devices().Put(after)
}

// DeleteDevice deletes a device, unless it no longer has the version. Its
// session ends and its certificate is worth nothing any more; its events and
// alerts stay.
func (s *Service) DeleteDevice(ctx context.Context, actor Actor, ref string, version uint64) (Change, error) {
	known, err := s.Device(ctx, ref)
	if err != nil {
		return Change{}, err
	}
	return s.deleteDevice(ctx, actor, "device.delete", known.ID, version)
}

// Unenroll deletes a device at its own wish.
func (s *Service) Unenroll(ctx context.Context, id fleet.DeviceID, remote string) error {
	_, err := s.deleteDevice(ctx, Actor{Kind: ActorDevice, ID: string(id), Name: string(id), Source: remote}, "device.unenroll", id, edit.AnyVersion)
	return err
}

func (s *Service) deleteDevice(ctx context.Context, actor Actor, action string, id fleet.DeviceID, version uint64) (Change, error) {
	return s.Change(ctx, func(tx *store.Tx) error {
		d, err := tx.Devices().Get(string(id))
		if err != nil {
			return edit.Gone(err, "device", string(id))
		}
		if err := edit.CheckVersion("device", d.Version, version); err != nil {
			return err
		}
		tx.Audit(s.Entry(actor, action, string(id), d, nil))
		return errors.Join(tx.ForgetDevice(id), tx.Devices().Delete(string(id)))
	})
}

// syncPoll is how often it is looked whether a device has acknowledged.
const syncPoll = 50 * time.Millisecond

// SyncDevice asks a device to check now, and returns it once it has said that it
// enforces what it ought to, or why it cannot. The fault is Conflict if it is
// not connected, and Unavailable if ctx ends first.
func (s *Service) SyncDevice(ctx context.Context, actor Actor, ref string) (DeviceSync, error) {
	began := s.now()
	before, err := s.Device(ctx, ref)
	if err != nil {
		return DeviceSync{}, err
	}
	if !before.Online {
		return DeviceSync{}, notConnected(&before.Device)
	}
	err = s.store.Write(ctx, func(tx *store.Tx) error {
		tx.Audit(s.Entry(actor, "device.sync", string(before.ID), nil, nil))
		check := bundle.Message{Type: bundle.MessageSync}
		if s.Tell(before.ID, check) {
			return nil
		}
		return s.TellElsewhere(tx, before.ID, check)
	})
	if err != nil {
		return DeviceSync{}, fmt.Errorf("asking device %q to check: %w", before.ID, err)
	}
	for wait(ctx, syncPoll) {
		now, err := s.Device(ctx, string(before.ID))
		if err != nil {
			return DeviceSync{}, err
		}
		// What was on its way already may say of something older.
		settled := now.State() == fleet.StateApplied || now.Applied.Error != ""
		if settled && now.Applied.At.After(before.Applied.At) {
			return DeviceSync{DeviceView: now, Took: now.Applied.At.Sub(began).Seconds()}, nil
		}
	}
	return DeviceSync{}, fault.New(fault.Unavailable, "device %q has not answered in time", before.Name).Because(ctx.Err())
}

func notConnected(d *fleet.Device) error {
	since := "was never seen"
	if !d.LastSeen.IsZero() {
		since = "was last seen at " + d.LastSeen.UTC().Format(time.RFC3339)
	}
	return fault.New(fault.Conflict, "device %q is not connected, and %s", d.Name, since).
		WithHint("it will check by itself when it is back")
}

// Applied takes a device's word for what it enforces. It is durable when
// Applied returns.
func (s *Service) Applied(ctx context.Context, id fleet.DeviceID, a fleet.Applied) error {
	if err := s.Known(ctx, id); err != nil {
		return err
	}
	if err := checkApplied(&a); err != nil {
		return err
	}
	clean(&a)
	now := s.now().UTC()
	a.At = now
	decided := s.snapshot.Load().Of(id)
	state := s.presence.Update(id, now, func(d *store.DeviceState) {
		a.Held = d.Applied.Held
		if decided != nil && decided.Digest == a.Digest {
			a.Hold(&decided.Effective, d.Applied.Held)
		}
		a.Since = now
		if a.Digest == d.Applied.Digest {
			a.Since = d.Applied.Since
		}
		d.Applied, d.LastSeen = a, now
	})
	return s.store.PutDeviceStates(ctx, state)
}

// The bounds of what an acknowledgement says beside the version.
const (
	maxReported = 64
	maxHealth   = 64
)

// clean makes what a device says in words fit to be kept. What this server
// does not know is left out: the agent may be newer.
func clean(a *fleet.Applied) {
	a.Error = input.Clip(a.Error, input.MaxDescription)
	a.Settings = slices.DeleteFunc(a.Settings, func(r fleet.SettingReport) bool {
		_, known := fleet.Define(r.Setting)
		return !known || !r.Channel.Valid() || !r.State.Valid()
	})
	a.Settings = a.Settings[:min(len(a.Settings), maxReported)]
	for i := range a.Settings {
		r := &a.Settings[i]
		r.Value, r.Text = input.Clip(r.Value, input.MaxDescription), input.Clip(r.Text, input.MaxFact)
	}
	a.Health = a.Health[:min(len(a.Health), maxHealth)]
	for i := range a.Health {
		h := &a.Health[i]
		h.Code, h.Text, h.Since = input.Clip(h.Code, input.MaxFact), input.Clip(h.Text, input.MaxDescription), h.Since.UTC()
	}
}

// checkApplied makes sure that an acknowledgement can be kept: those of all
// devices share a transaction, so what the database refuses would harm others.
func checkApplied(a *fleet.Applied) error {
	var faults fault.Fields
	if a.Mode != "" && !a.Mode.Valid() {
		faults.Add("mode", "must be disabled, audit or block")
	}
	if len(a.Digest) > input.MaxFact || !input.IsText(a.Digest) {
		faults.Add("digest", "must be printable text of at most %d bytes", input.MaxFact)
	}
	if a.Version > math.MaxInt64 {
		faults.Add("version", "must not be more than %d", math.MaxInt64)
	}
	return faults.Err("the acknowledgement is not valid")
}
