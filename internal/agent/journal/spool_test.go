package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"interdict/internal/bundle"
)

const testLimit = 1 << 20

func mustOpenSpool(t *testing.T, dir string, limit int64) *Spool {
	t.Helper()
	s, err := openSpool(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.close() })
	return s
}

func line(n int) []byte { return fmt.Appendf(nil, "{\"n\":%d}\n", n) }

func mustAppend(t *testing.T, s *Spool, l lane, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		if err := s.append(l, line(n)); err != nil {
			t.Fatal(err)
		}
	}
}

// unpack returns the numbers of the events in a batch.
func unpack(t *testing.T, body []byte) []int {
	t.Helper()
	r, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	content, err := r.DecodeAll(body, nil)
	if err != nil {
		t.Fatal(err)
	}
	var numbers []int
	for l := range bytes.Lines(content) {
		var v struct{ N int }
		if err := json.Unmarshal(l, &v); err != nil {
			t.Fatalf("line %q: %v", l, err)
		}
		numbers = append(numbers, v.N)
	}
	return numbers
}

// drain takes and finishes batches until there are none.
func drain(t *testing.T, s *Spool) []int {
	t.Helper()
	var all []int
	for {
		key, content, err := s.take()
		if err != nil {
			t.Fatal(err)
		}
		if key == "" {
			return all
		}
		body, err := compress(content)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, unpack(t, body)...)
		if err := s.Done(key); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKilledAtAnyByteTheSpoolKeepsEveryWholeEvent(t *testing.T) {
	dir := t.TempDir()
	s := mustOpenSpool(t, dir, testLimit)
	mustAppend(t, s, laneMain, 1, 22, 333, 4444)
	names, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil || len(names) != 1 {
		t.Fatalf("got segments %v, want one", names)
	}
	content, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(content) + 1 {
		after := t.TempDir()
		if err := os.WriteFile(filepath.Join(after, filepath.Base(names[0])), content[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		var want []int
		for l := range bytes.Lines(content[:cut]) {
			if bytes.HasSuffix(l, []byte("\n")) {
				want = append(want, []int{1, 22, 333, 4444}[len(want)])
			}
		}
		again := mustOpenSpool(t, after, testLimit)
		mustAppend(t, again, laneMain, 5)
		if diff := cmp.Diff(append(want, 5), drain(t, again)); diff != "" {
			t.Fatalf("cut at byte %d of %d (-want +got):\n%s", cut, len(content), diff)
		}
		if left, _ := os.ReadDir(after); len(left) > 0 {
			t.Fatalf("cut at byte %d: %v is left when all is sent", cut, left)
		}
	}
}

func TestABatchIsTheSameAfterACrash(t *testing.T) {
	dir := t.TempDir()
	s := mustOpenSpool(t, dir, testLimit)
	mustAppend(t, s, laneMain, 1, 2)
	key, body, err := s.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// What comes after a batch was taken is not in it.
	mustAppend(t, s, laneMain, 3)
	sameKey, sameBody, err := s.Next(t.Context())
	if err != nil || sameKey != key || !bytes.Equal(body, sameBody) {
		t.Errorf("asked again got key %s, want %s with the same body (%v)", sameKey, key, err)
	}

	crashed := mustOpenSpool(t, dir, testLimit)
	afterKey, afterBody, err := crashed.Next(t.Context())
	if err != nil || afterKey != key || !slices.Equal(unpack(t, afterBody), []int{1, 2}) {
		t.Errorf("after a crash got key %s with %v, want %s with [1 2] (%v)", afterKey, unpack(t, afterBody), key, err)
	}
	if err := crashed.Done(key); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{3}, drain(t, mustOpenSpool(t, dir, testLimit))); diff != "" {
		t.Errorf("after Done and another crash (-want +got):\n%s", diff)
	}
}

func TestAFullSpoolDropsOldAuditedEventsFirst(t *testing.T) {
	dir := t.TempDir()
	const room = 4096
	s := mustOpenSpool(t, dir, room)
	wide := func(n int) []byte { return fmt.Appendf(nil, "{\"n\":%d,\"x\":%q}\n", n, strings.Repeat("x", 480)) }
	put := func(l lane, n int) {
		t.Helper()
		if err := s.append(l, wide(n)); err != nil {
			t.Fatal(err)
		}
		// Small segments, so that dropping one is not dropping all.
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, seg := range s.segments {
			if err := s.seal(seg); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(laneMain, 1)
	put(laneAudit, 2)
	for n := 3; n <= 9; n++ {
		put(laneMain, n)
	}
	if got := s.Stats().Dropped; got.Audited != 1 || got.Other != 0 {
		t.Errorf("dropped %+v, want the audited one only", got)
	}
	put(laneMain, 10)
	put(laneMain, 11)
	if got := s.Stats(); got.Dropped.Other != 2 || got.Bytes > room {
		t.Errorf("got %+v, want two others dropped and at most %d bytes", got, room)
	}
	if diff := cmp.Diff([]int{4, 5, 6, 7, 8, 9, 10, 11}, drain(t, s)); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if got := mustOpenSpool(t, dir, room).Stats().Dropped; got.Audited != 1 || got.Other != 2 {
		t.Errorf("after a restart the count is %+v", got)
	}
}

func TestWhatIsBeingSentIsNotDropped(t *testing.T) {
	s := mustOpenSpool(t, t.TempDir(), 100)
	mustAppend(t, s, laneAudit, 1)
	key, _, err := s.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for n := range 40 {
		// The only thing that could make room is on its way.
		_ = s.append(laneMain, line(n))
	}
	again, content, err := s.take()
	if err != nil || again != key || string(content) != string(line(1)) {
		t.Errorf("got batch %s with %q (%v), want %s", again, content, err, key)
	}
	if got := s.Stats(); got.Bytes > 100 {
		t.Errorf("%d bytes are more than the bound", got.Bytes)
	}
}

func TestABatchIsBounded(t *testing.T) {
	s := mustOpenSpool(t, t.TempDir(), testLimit)
	for n := range bundle.MaxEventBatch + 1 {
		mustAppend(t, s, laneMain, n)
	}
	_, content, err := s.take()
	if err != nil {
		t.Fatal(err)
	}
	if got := bytes.Count(content, []byte("\n")); got != bundle.MaxEventBatch {
		t.Errorf("the first batch has %d events, want %d", got, bundle.MaxEventBatch)
	}
}

func TestGarbageInTheSpoolIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	s := mustOpenSpool(t, dir, testLimit)
	mustAppend(t, s, laneMain, 1)
	_ = s.close()
	names, _ := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err := os.WriteFile(names[0], []byte("\x00\x00\x00\n{\"n\":7}\n{\"n\":\n\n{\"n\":8}\n{\"n\""), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"notes.txt", "nonsense-main.jsonl"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]int{7, 8}, drain(t, mustOpenSpool(t, dir, testLimit))); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestARejectedBatchIsCounted(t *testing.T) {
	s := mustOpenSpool(t, t.TempDir(), testLimit)
	mustAppend(t, s, laneMain, 1, 2, 3)
	key, _, err := s.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Reject(key); err != nil {
		t.Fatal(err)
	}
	if got := s.Stats(); got.Dropped.Rejected != 3 || got.Events != 0 {
		t.Errorf("got %+v, want three rejected and none left", got)
	}
}

func TestNextWaitsForAnEventAndALittleForMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustOpenSpool(t, t.TempDir(), testLimit)
		ctx, cancel := context.WithCancel(t.Context())
		batches := make(chan []int)
		go func() {
			defer close(batches)
			for {
				key, body, err := s.Next(ctx)
				if err != nil {
					return
				}
				batches <- unpack(t, body)
				_ = s.Done(key)
			}
		}()
		elapse(time.Hour)
		mustAppend(t, s, laneMain, 1)
		elapse(linger / 2)
		mustAppend(t, s, laneMain, 2)
		if diff := cmp.Diff([]int{1, 2}, <-batches); diff != "" {
			t.Errorf("the batch (-want +got):\n%s", diff)
		}
		cancel()
		for range batches {
			t.Error("another batch came")
		}
	})
}

func TestNextDoesNotWaitWhenItsTimeIsUp(t *testing.T) {
	s := mustOpenSpool(t, t.TempDir(), testLimit)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if key, _, err := s.Next(ended); key != "" || !errors.Is(err, context.Canceled) {
		t.Errorf("with nothing there: got %q, %v", key, err)
	}
	mustAppend(t, s, laneMain, 1, 2)
	_, body, err := s.Next(ended)
	if err != nil {
		t.Fatal(err)
	}
	if got := unpack(t, body); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("got events %v, want both", got)
	}
}

func TestWhatCannotBeWrittenIsCounted(t *testing.T) {
	dir := t.TempDir()
	s := mustOpenSpool(t, filepath.Join(dir, "spool"), testLimit)
	if err := os.RemoveAll(filepath.Join(dir, "spool")); err != nil {
		t.Fatal(err)
	}
	if err := s.append(laneAudit, line(1)); err == nil {
		t.Error("got no error without a directory")
	}
	if got := s.Stats().Dropped; got.Audited != 1 {
		t.Errorf("dropped %+v, want one audited", got)
	}
}

func TestAFullDiskIsNotFilledWithEmptyFiles(t *testing.T) {
	dir := t.TempDir()
	s := mustOpenSpool(t, dir, testLimit)
	for range 3 {
		seg, err := s.active(laneMain, 1)
		if err != nil {
			t.Fatal(err)
		}
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Skipf("this system has no full device: %v", err)
		}
		if err := seg.file.Close(); err != nil {
			t.Fatal(err)
		}
		seg.file = full
		if err := s.append(laneMain, line(1)); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("got %v, want no space left", err)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil || len(files) > 0 || len(s.segments) > 0 {
		t.Errorf("%d files and %d segments (%v) for events that could not be written", len(files), len(s.segments), err)
	}
	mustAppend(t, s, laneMain, 2)
	if got := drain(t, s); len(got) != 1 || got[0] != 2 {
		t.Errorf("got events %v once there is room, want 2", got)
	}
}

func FuzzSegmentOnDisk(f *testing.F) {
	f.Add([]byte("{\"n\":1}\n{\"n\":2}\n"))
	f.Add([]byte("{\"n\":1}\n{\"n\""))
	f.Add([]byte("\x00\n\n[]\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		name := "01ARZ3NDEKTSV4RRFFQ69G5FAV-main.jsonl"
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		s := mustOpenSpool(t, dir, testLimit)
		for {
			key, batch, err := s.take()
			if err != nil {
				t.Fatal(err)
			}
			if key == "" {
				break
			}
			for l := range bytes.Lines(batch) {
				if !json.Valid(l) || !bytes.HasSuffix(l, []byte("\n")) {
					t.Errorf("line %q would be sent", l)
				}
			}
			if err := s.Done(key); err != nil {
				t.Fatal(err)
			}
		}
		if st := s.Stats(); st.Events != 0 || st.Bytes != 0 {
			t.Errorf("%+v is left when all is sent", st)
		}
	})
}
