package observation

import (
	"context"
	"errors"

	"interdict/internal/alert"
	"interdict/internal/control/input"
	"interdict/internal/control/page"
	"interdict/internal/fault"
	"interdict/internal/store"
)

// AlertQuery asks for alerts, newest first.
type AlertQuery struct {
	// Device is the id or name of a device.
	Device string
	// App is the id or name of an app.
	App string
	page.Query
}

// Alerts returns alerts, those that were raised last first.
func (s *Service) Alerts(ctx context.Context, q AlertQuery) (page.Page[alert.Alert], error) {
	var faults fault.Fields
	input.CheckText(&faults, "device", q.Device)
	input.CheckText(&faults, "app", q.App)
	if err := faults.Err("the query is not valid"); err != nil {
		return page.Page[alert.Alert]{}, err
	}
	device := s.deviceMeant(q.Device)
	p, err := page.Read(q.Query, func(limit int) (found []alert.Alert, err error) {
		err = s.control.View(ctx, func(tx *store.Tx) error {
			found, err = tx.Alerts(store.AlertQuery{Device: device, App: s.appMeant(q.App), Before: q.Cursor, Limit: limit})
			return err
		})
		return found, err
	}, func(a *alert.Alert) string { return a.ID })
	for i := range p.Items {
		s.nameDevice(&p.Items[i])
	}
	if err == nil && len(p.Items) == 0 {
		err = s.checkFilters(q.Device, q.App)
	}
	return p, err
}

// Alert returns the alert with an id.
func (s *Service) Alert(ctx context.Context, id string) (alert.Alert, error) {
	var a alert.Alert
	if !input.IsText(id) {
		return a, fault.New(fault.NotFound, "there is no alert %q", id)
	}
	err := s.control.View(ctx, func(tx *store.Tx) (err error) {
		a, err = tx.Alert(id)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return a, fault.New(fault.NotFound, "there is no alert %q", id)
	}
	s.nameDevice(&a)
	return a, err
}

func (s *Service) nameDevice(a *alert.Alert) {
	a.DeviceName = s.deviceName(a.DeviceID)
}
