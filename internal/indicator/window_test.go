package indicator_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/indicator"
)

func TestWindowContains(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	office := indicator.Window{Days: []indicator.Day{"mon", "tue", "wed", "thu", "fri"}, From: "08:00", To: "17:30"}
	night := indicator.Window{Days: []indicator.Day{"fri"}, From: "22:00", To: "06:00"}
	daily := indicator.Window{From: "00:00", To: "24:00"}
	tokyo := indicator.Window{From: "09:00", To: "10:00", Zone: "Asia/Tokyo"}
	for _, test := range []struct {
		name   string
		window indicator.Window
		at     time.Time
		want   bool
	}{
		{"a minute before it begins", office, time.Date(2026, 11, 23, 7, 59, 59, 0, berlin), false},
		{"when it begins", office, time.Date(2026, 11, 23, 8, 0, 0, 0, berlin), true},
		{"when it ends", office, time.Date(2026, 11, 23, 17, 30, 0, 0, berlin), false},
		{"on another day", office, time.Date(2026, 11, 22, 12, 0, 0, 0, berlin), false},
		{"past midnight of the day it began", night, time.Date(2026, 11, 28, 5, 59, 0, 0, berlin), true},
		{"early on the day it begins", night, time.Date(2026, 11, 27, 5, 0, 0, 0, berlin), false},
		{"every day, whenever", daily, time.Date(2026, 11, 27, 23, 59, 59, 0, berlin), true},
		{"by the clock of its own zone", tokyo, time.Date(2026, 11, 27, 1, 30, 0, 0, berlin), true},
		{"by the clock of another zone", tokyo, time.Date(2026, 11, 27, 9, 30, 0, 0, berlin), false},
		{"on the night that has no two o'clock", indicator.Window{From: "01:00", To: "04:00"}, time.Date(2026, 3, 29, 3, 30, 0, 0, berlin), true},
		{"nothing is in a broken window", indicator.Window{From: "8", To: "9"}, time.Date(2026, 11, 23, 8, 30, 0, 0, berlin), false},
	} {
		if got := test.window.Contains(test.at); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}

func TestWindowNextIsWhereContainsChanges(t *testing.T) {
	for _, w := range []indicator.Window{
		{From: "08:00", To: "17:30"}, {Days: []indicator.Day{"fri"}, From: "22:00", To: "06:00"}, {Days: []indicator.Day{"sun"}, From: "00:00", To: "24:00"},
	} {
		at := time.Date(2026, 11, 23, 0, 30, 0, 0, time.UTC)
		for range 20 {
			next, ok := w.Next(at)
			if !ok {
				t.Fatalf("%+v: there is no change after %s", w, at)
			}
			if w.Contains(next.Add(-time.Second)) == w.Contains(next) {
				t.Errorf("%+v: nothing changes at %s", w, next)
			}
			for probe := at.Add(time.Second); probe.Before(next); probe = probe.Add(7 * time.Minute) {
				if w.Contains(probe) != w.Contains(at) {
					t.Fatalf("%+v: something changed at %s, before %s", w, probe, next)
				}
			}
			at = next
		}
	}
}

func TestWindowCheck(t *testing.T) {
	for _, test := range []struct {
		name   string
		window indicator.Window
		ok     bool
	}{
		{"a plain one", indicator.Window{Days: []indicator.Day{"sat"}, From: "08:00", To: "24:00", Zone: "Europe/Berlin"}, true},
		{"a beginning at the day's end", indicator.Window{From: "24:00", To: "08:00"}, false},
		{"an hour that there is not", indicator.Window{From: "08:00", To: "25:00"}, false},
		{"a minute that there is not", indicator.Window{From: "08:60", To: "09:00"}, false},
		{"no colon", indicator.Window{From: "0800", To: "09:00"}, false},
		{"a day in full", indicator.Window{Days: []indicator.Day{"monday"}, From: "08:00", To: "09:00"}, false},
		{"a zone that there is not", indicator.Window{From: "08:00", To: "09:00", Zone: "Mars/Olympus"}, false},
	} {
		if err := test.window.Check(); (err == nil) != test.ok {
			t.Errorf("%s: got %v", test.name, err)
		}
	}
}

func TestPeopleCoversUser(t *testing.T) {
	anna := &indicator.User{UID: 1000, Name: "anna", Groups: []string{"anna", "finance"}}
	for _, test := range []struct {
		name   string
		people indicator.People
		user   *indicator.User
		want   bool
	}{
		{"everybody", indicator.People{}, anna, true},
		{"by name", indicator.People{IncludeUsers: []string{"ben", "anna"}}, anna, true},
		{"by number", indicator.People{IncludeUsers: []string{"#1000"}}, anna, true},
		{"by group", indicator.People{IncludeUserGroups: []string{"finance"}}, anna, true},
		{"somebody else", indicator.People{IncludeUsers: []string{"ben"}}, anna, false},
		{"excluded by group though included by name", indicator.People{IncludeUsers: []string{"anna"}, ExcludeUserGroups: []string{"finance"}}, anna, false},
		{"somebody unknown is not one of some", indicator.People{IncludeUsers: []string{"anna"}}, nil, false},
		{"somebody unknown is not spared", indicator.People{ExcludeUsers: []string{"anna"}}, nil, true},
		{"a user without a name is not the empty name", indicator.People{IncludeUsers: []string{""}}, &indicator.User{UID: 7}, false},
	} {
		if got := test.people.CoversUser(test.user); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}

func TestASchedule(t *testing.T) {
	var always indicator.Schedule
	at := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	if _, changes := always.Next(at); changes || !always.Open(at) {
		t.Error("without windows it is not always open")
	}
	s, err := indicator.NewSchedule([]indicator.Window{{From: "13:00", To: "14:00"}, {Days: []indicator.Day{indicator.Monday}, From: "11:00", To: "12:30"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for range 5 {
		next, _ := s.Next(at)
		got = append(got, fmt.Sprint(next.Format("Mon 15:04 "), s.Open(next)))
		at = next
	}
	want := []string{"Mon 12:30 false", "Mon 13:00 true", "Mon 14:00 false", "Tue 13:00 true", "Tue 14:00 false"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := indicator.NewSchedule([]indicator.Window{{From: "13:00", To: "14:00"}, {From: "13", To: "14:00"}}); err == nil {
		t.Error("a window that is none was taken")
	}
}
