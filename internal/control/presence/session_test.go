package presence_test

import (
	"fmt"
	"testing"

	"interdict/internal/bundle"
	"interdict/internal/control/presence"
)

func TestASessionKeepsTheNewestMessageOfEachType(t *testing.T) {
	hub := presence.NewHub()
	s := hub.Open("d", func() bundle.Message { return bundle.Message{Type: bundle.MessageHello} }, func() {})
	for i := range 3 {
		for kind := range 12 {
			m := bundle.Message{Type: bundle.MessageType(fmt.Sprint("type ", kind)), Version: uint64(i)}
			if !hub.Tell("d", m) {
				t.Fatal("the device is not connected")
			}
		}
	}
	if m := <-s.Messages(); m.Type != bundle.MessageHello {
		t.Errorf("got %+v first, want hello", m)
	}
	for kind := range 12 {
		if m := <-s.Messages(); m.Type != bundle.MessageType(fmt.Sprint("type ", kind)) || m.Version != 2 {
			t.Errorf("got %+v, want the newest of type %d", m, kind)
		}
	}
	s.Close()
	if m, open := <-s.Messages(); open {
		t.Errorf("got %+v from a session that was closed", m)
	}
	if hub.Tell("d", bundle.Message{Type: bundle.MessageSync}) {
		t.Error("a device without a session was told something")
	}
}

func TestASessionThatNobodyReadsNeverBlocks(t *testing.T) {
	hub := presence.NewHub()
	s := hub.Open("d", func() bundle.Message { return bundle.Message{Type: bundle.MessageHello} }, func() {})
	for kind := range 100 {
		hub.Tell("d", bundle.Message{Type: bundle.MessageType(fmt.Sprint("type ", kind))})
	}
	s.Close()
	var last bundle.Message
	for m := range s.Messages() {
		last = m
	}
	if last.Type != "type 99" {
		t.Errorf("the last message is %+v, want the newest", last)
	}
}
