package bundle

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func appSet(t *testing.T, ids ...string) Set {
	t.Helper()
	var records []Record
	for _, id := range ids {
		records = append(records, App(id, "name of "+id))
	}
	s, err := NewSet(slices.Values(records))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestMergeIsTheSameAsMakingOneSet(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var all []string
		parts := make([][]string, 3)
		for i := range random.IntN(40) {
			id := fmt.Sprintf("app-%03d", random.IntN(1000)*100+i)
			n := random.IntN(len(parts))
			all, parts[n] = append(all, id), append(parts[n], id)
		}
		merged, err := Merge(appSet(t, parts[0]...), appSet(t, parts[1]...), appSet(t, parts[2]...))
		if err != nil || merged.Digest() != appSet(t, all...).Digest() {
			t.Fatalf("merging %v: not the set of all (%v)", parts, err)
		}
	}
}

func TestMergeRefusesTwoRecordsOfOneKey(t *testing.T) {
	other, err := NewSet(slices.Values([]Record{App("b", "another name")}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Merge(appSet(t, "a", "b", "c"), other); err == nil {
		t.Error("two records of one key were merged")
	}
}

func TestReplace(t *testing.T) {
	from := appSet(t, "a", "b", "c")
	got, err := from.Replace([]Record{{Kind: KindApp, Key: "b"}, {Kind: KindApp, Key: "none"}}, []Record{App("d", "name of d"), App("c", "name of c")})
	if err != nil || got.Digest() != appSet(t, "a", "c", "d").Digest() {
		t.Errorf("got %v (%v), want a, c and d", got.lines, err)
	}
	if from.Len() != 3 {
		t.Error("the set that was replaced from changed")
	}
}
