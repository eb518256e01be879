package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"interdict/internal/cloudapp"
	"interdict/internal/event"
	"interdict/internal/fleet"
	"interdict/internal/staging"
	"interdict/internal/store"
)

func TestRolloutsAreFoundByTheirTarget(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := open(t, e.config(t))
			tag := staging.Rollout{ID: "r1", Canary: "g", State: staging.StateTrial, StartedAt: noon, AfterTag: &cloudapp.Tagging{AppID: "itunes"}}
			policy := staging.Rollout{ID: "r2", Canary: "g", State: staging.StateDone, StartedAt: noon, AfterPolicy: &fleet.Policy{ID: "p"}}
			change(t, s, func(tx *store.Tx) error { return errors.Join(tx.Rollouts().Put(tag), tx.Rollouts().Put(policy)) })
			view(t, s, func(tx *store.Tx) error {
				byTag, tagErr := tx.Rollouts().Named(store.RolloutName(staging.TargetTag, "itunes"))
				byPolicy, policyErr := tx.Rollouts().Named(store.RolloutName(staging.TargetPolicy, "p"))
				if diff := cmp.Diff([]staging.Rollout{tag}, byTag); diff != "" {
					t.Errorf("of the tag (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff([]staging.Rollout{policy}, byPolicy); diff != "" {
					t.Errorf("of the policy (-want +got):\n%s", diff)
				}
				return errors.Join(tagErr, policyErr)
			})
		})
	}
}

func TestRefusedConnectionsAreCountedByDevice(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := open(t, e.config(t))
			report := func(device, app, policy string, action event.Action, count int, arrived time.Time) {
				id := map[event.Action]event.ID{
					event.ActionBlocked: event.IDBlocked, event.ActionWarned: event.IDBlocked,
					event.ActionAudited: event.IDAudited, event.ActionBypassed: event.IDBypassed,
				}[action]
				err := s.AddEvents(t.Context(), []store.Ingest{{Arrived: arrived, Event: &event.Event{
					ID: ulid.Make().String(), Device: device, Time: noon, EventID: id, Action: action, AppID: app, PolicyID: policy, Count: count,
				}}})
				if err != nil {
					t.Fatal(err)
				}
			}
			report("d2", "", "p", event.ActionBlocked, 9, noon.Add(-time.Minute))
			report("d1", "itunes", "p", event.ActionBlocked, 100, noon.Add(-time.Minute))
			report("d1", "itunes", "p", event.ActionBlocked, 3, noon)
			report("d1", "itunes", "q", event.ActionWarned, 4, noon.Add(time.Minute))
			report("d1", "itunes", "p", event.ActionAudited, 50, noon.Add(time.Minute))
			report("d1", "itunes", "p", event.ActionBypassed, 60, noon.Add(time.Minute))
			report("d2", "itunes", "p", event.ActionBlocked, 5, noon.Add(time.Minute))
			report("d2", "", "p", event.ActionBlocked, 6, noon.Add(time.Minute))
			report("d2", "", "", event.ActionBlocked, 7, noon.Add(time.Minute))
			report("d2", "", "p", event.ActionAudited, 8, noon.Add(time.Minute))
			view(t, s, func(tx *store.Tx) error {
				byTag, tagErr := tx.RefusedByTag("itunes", noon)
				byDevice, deviceErr := tx.RefusedByDevice("d2", noon)
				if diff := cmp.Diff([]store.Refused{{Device: "d1", Count: 7}, {Device: "d2", Count: 5}}, byTag); diff != "" {
					t.Errorf("of the tag (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff([]store.Refused{{Device: "d2", Count: 18}}, byDevice); diff != "" {
					t.Errorf("of the device (-want +got):\n%s", diff)
				}
				return errors.Join(tagErr, deviceErr)
			})
		})
	}
}

func TestOnlyOpenQuestionsAreAnswered(t *testing.T) {
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			s := open(t, e.config(t))
			write := func(fn func(*store.Tx) error) {
				t.Helper()
				if err := s.Write(t.Context(), fn); err != nil {
					t.Fatal(err)
				}
			}
			answer := func(id string, device fleet.DeviceID, text string) (taken bool) {
				t.Helper()
				write(func(tx *store.Tx) (err error) {
					taken, err = tx.AnswerQuestion(id, device, []byte(text))
					return err
				})
				return taken
			}
			wantAnswer := func(id, want string) {
				t.Helper()
				view(t, s, func(tx *store.Tx) error {
					got, err := tx.QuestionAnswer(id)
					if string(got) != want {
						t.Errorf("question %s has the answer %q, want %q", id, got, want)
					}
					return err
				})
			}
			write(func(tx *store.Tx) error { return tx.OpenQuestion("q1", "d1", noon) })
			wantAnswer("q1", "")
			if answer("q1", "d2", "wrong") || answer("q2", "d1", "wrong") {
				t.Error("an answer was taken that nobody asked for")
			}
			if !answer("q1", "d1", "yes") || answer("q1", "d1", "no") {
				t.Error("the first answer is the one that counts")
			}
			wantAnswer("q1", "yes")
			write(func(tx *store.Tx) error { return tx.OpenQuestion("q2", "d1", noon.Add(time.Hour)) })
			wantAnswer("q1", "")
			write(func(tx *store.Tx) error { return tx.CloseQuestion("q2") })
			if answer("q2", "d1", "late") {
				t.Error("a closed question was answered")
			}
		})
	}
}
