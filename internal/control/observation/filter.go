package observation

import (
	"interdict/internal/control/audience"
	"interdict/internal/control/find"
	"interdict/internal/fleet"
)

// checkFilters explains an answer that is empty: it is NotFound if a filter
// names a device or an app that does not exist. With an answer nothing is
// wrong, because what was recorded outlives devices and the catalog.
func (s *Service) checkFilters(device, app string) error {
	if device != "" {
		// Two devices with the name are a fault that says so itself.
		if _, err := s.findDevice(device); err != nil {
			return err
		}
	}
	if app != "" {
		_, err := s.control.FindApp(app)
		return err
	}
	return nil
}

func (s *Service) findDevice(ref string) (id fleet.DeviceID, err error) {
	s.control.Look(func(state *audience.State, _ *audience.Snapshot) { id, err = find.Device(state, ref) })
	return id, err
}

// deviceMeant returns the id of the device that is meant. One that is not
// known may have been deleted, so it is taken for an id.
func (s *Service) deviceMeant(ref string) string {
	if id, err := s.findDevice(ref); err == nil {
		return string(id)
	}
	return ref
}

// appMeant returns the id of the app that is meant. One that is not known may
// have left the catalog, so it is taken for an id.
func (s *Service) appMeant(ref string) string {
	if a, err := s.control.FindApp(ref); ref != "" && err == nil {
		return a.ID
	}
	return ref
}

// deviceName returns what a device is called, "" if it was deleted.
func (s *Service) deviceName(id string) (name string) {
	s.control.Look(func(state *audience.State, _ *audience.Snapshot) { name = state.Devices[fleet.DeviceID(id)].Name })
	return name
}
