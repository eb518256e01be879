package presence_test

import (
	"testing"
	"time"

	"interdict/internal/control/presence"
	"interdict/internal/fleet"
	"interdict/internal/store"
)

func TestADeviceBelongsToTheServerItCameToLast(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }
	state := func(server string, updated, applied int) store.DeviceState {
		return store.DeviceState{Device: "d", Server: server, UpdatedAt: at(updated), Applied: fleet.Applied{At: at(applied)}}
	}
	for _, test := range []struct {
		name       string
		here, read store.DeviceState
		want       store.DeviceState
		written    bool
	}{
		{"it left here after it had come there", state("", 9, 1), state("there", 5, 6), state("there", 5, 6), false},
		{"it left there after it had come here", state("here", 5, 6), state("", 9, 1), state("here", 5, 6), true},
		{"it left here and went nowhere", state("", 9, 1), state("here", 5, 1), state("", 9, 1), true},
		{"it went from here to there, which this server has not noticed", state("here", 5, 1), state("there", 9, 6), state("there", 9, 6), true},
		{"it left there and came nowhere", state("there", 5, 1), state("", 9, 1), state("", 9, 1), true},
		{"what was read is older", state("here", 9, 6), state("there", 5, 1), state("here", 9, 6), true},
		{"it said something there, and something newer here", state("there", 5, 8), state("", 9, 1), state("", 9, 8), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := presence.NewTable("here")
			p.Update("d", test.here.UpdatedAt, func(d *store.DeviceState) { *d = test.here })
			if leaving := p.Leaving(); leaving != (test.here.Server == "") {
				t.Errorf("leaving: %v", leaving)
			}
			p.Learn([]store.DeviceState{test.read}, at(10))
			got := p.Get("d")
			if got.Server != test.want.Server || !got.UpdatedAt.Equal(test.want.UpdatedAt) || !got.Applied.At.Equal(test.want.Applied.At) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			if written := len(p.Take()) == 1; written != test.written {
				t.Errorf("it is written down: %v, want %v", written, test.written)
			}
		})
	}
}
