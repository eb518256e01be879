package adminapi

import (
	"context"
	"net/http"
	"time"

	"interdict/internal/control"
)

// syncTimeout bounds how long a request waits for a device.
const syncTimeout = 50 * time.Second

type devicesInput struct {
	PageInput

	Search string `query:"search" maxLength:"256" doc:"Only devices with this text in id, name, host name or labels"`
	Group  string `query:"group" maxLength:"256" doc:"Only devices of the group with this id or name"`
}

type deviceEditInput struct {
	RefInput
	MatchInput

	Body control.DeviceUpdate
}

// DeviceChanged is a device, and the revision that has it.
type DeviceChanged struct {
	control.DeviceView
	control.Change
}

func (a *API) addDevices() {
	const tag = "devices"
	add(a, route{http.MethodGet, "/devices", "list-devices", "List the devices", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *devicesInput) (*pageOutput[control.DeviceView], error) {
			return pageOf(a.control.Devices(ctx, control.DeviceQuery{Search: in.Search, Group: in.Group, Query: in.query()}))
		})
	add(a, route{http.MethodGet, "/devices/{id}", "get-device", "Get one device", tag, control.RoleViewer, 0},
		func(ctx context.Context, _ control.Actor, in *RefInput) (*versionedOutput[control.DeviceView], error) {
			d, err := a.control.Device(ctx, in.ID)
			return versioned(d, d.Version), err
		})
	add(a, route{http.MethodPatch, "/devices/{id}", "update-device", "Change a device's name or labels", tag, control.RoleOperator, 0},
		func(ctx context.Context, by control.Actor, in *deviceEditInput) (*versionedOutput[DeviceChanged], error) {
			version, err := in.required(ctx)
			if err != nil {
				return nil, err
			}
			d, ch, err := a.control.UpdateDevice(ctx, by, in.ID, version, in.Body)
			return versioned(DeviceChanged{d, ch}, d.Version), err
		})
	add(a, route{http.MethodDelete, "/devices/{id}", "delete-device", "Delete a device; it has to enrol again to come back", tag, control.RoleOperator, 0},
		func(ctx context.Context, by control.Actor, in *deleteInput) (*bodyOutput[control.Change], error) {
			version, err := in.version()
			if err != nil {
				return nil, err
			}
			ch, err := a.control.DeleteDevice(ctx, by, in.ID, version)
			return &bodyOutput[control.Change]{ch}, err
		})
	add(a, route{http.MethodPost, "/devices/{id}/sync", "sync-device", "Ask a device to check for changes, and wait until it has applied them", tag, control.RoleOperator, 0},
		func(ctx context.Context, by control.Actor, in *RefInput) (*bodyOutput[control.DeviceSync], error) {
			ctx, cancel := context.WithTimeout(ctx, syncTimeout)
			defer cancel()
			d, err := a.control.SyncDevice(ctx, by, in.ID)
			return &bodyOutput[control.DeviceSync]{d}, err
		})
}
