package cli_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/rogpeppe/go-internal/testscript"

	"interdict/internal/access"
	"interdict/internal/bundle"
	"interdict/internal/event"
)

// requestVariable has the id of the request that a script made last.
const requestVariable = "REQUEST"

// appeal does what the users of a device do about refusals, see TestScripts.
func (r *running) appeal(ts *testscript.TestScript, verb string, args []string) error {
	ctx := context.Background()
	switch {
	case verb == "bypassed" && len(args) == 2:
		return r.bypassed(ctx, args[0], args[1])
	case verb == "used" && len(args) == 2:
		now := time.Now().UTC()
		return r.agent.Use(ctx, ulid.Make().String(), bundle.UsageReport{Start: now.Add(-time.Minute), End: now, Uses: []bundle.Use{
			{Host: args[1], Process: "/usr/bin/curl", User: args[0], Count: 3},
		}})
	case verb == "asks" && len(args) == 2:
		made, err := r.agent.Ask(ctx, access.Request{
			ID: ulid.Make().String(), UID: 1000, User: args[0], AppID: args[1], Process: "/usr/bin/curl", Reason: "for the report", AskedAt: time.Now(),
		})
		ts.Setenv(requestVariable, made.ID)
		return err
	case verb == "told" && len(args) == 1:
		return r.told(ctx, ts.Getenv(requestVariable), access.State(args[0]))
	default:
		return fmt.Errorf("agent %s %v is not known", verb, args)
	}
}

func (r *running) bypassed(ctx context.Context, user, app string) error {
	now := time.Now().UTC()
	_, err := r.agent.Send(ctx, ulid.Make().String(), event.Event{
		ID: ulid.Make().String(), Time: now, EventID: event.IDBypassed, Action: event.ActionBypassed, AppID: app, AppName: "iTunes",
		Destination: event.Destination{Host: "init.itunes.apple.com"}, Process: event.Process{PID: 42, Path: "/usr/bin/curl"},
		User: event.User{Name: user}, Count: 1, FirstSeen: now, LastSeen: now, Until: now.Add(time.Hour), Reason: "I must",
	})
	return err
}

func (r *running) told(ctx context.Context, id string, want access.State) error {
	all, err := r.agent.Requests(ctx)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(all, func(q access.Request) bool { return q.ID == id }); i < 0 || all[i].State != want {
		return fmt.Errorf("the device is told %+v, want request %s to be %s", all, id, want)
	}
	return nil
}
