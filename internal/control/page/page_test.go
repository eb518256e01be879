package page_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/control/page"
	"interdict/internal/fault"
)

func same(s *string) string { return *s }

// ids returns n ids of the form of a ULID, in ascending order.
func ids(n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("01JNXC8V80%016d", i))
	}
	return all
}

func TestPagesHaveEachItemOnce(t *testing.T) {
	want := ids(10)
	newestFirst := slices.Clone(want)
	slices.Reverse(newestFirst)
	for _, tc := range []struct {
		name string
		want []string
		page func(page.Query) (page.Page[string], error)
	}{
		{"of a list in memory", want, func(q page.Query) (page.Page[string], error) {
			return page.Of(slices.Clone(newestFirst), q, same)
		}},
		{"of a list that is read", newestFirst, func(q page.Query) (page.Page[string], error) {
			return page.Read(q, func(limit int) ([]string, error) {
				from := newestFirst[slices.Index(newestFirst, q.Cursor)+1:]
				return from[:min(limit, len(from))], nil
			}, same)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, size := range []int{1, 3, 5, 10, 11, 0} {
				var got []string
				q := page.Query{Limit: size}
				for {
					p, err := tc.page(q)
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, p.Items...)
					if q.Cursor = p.Next; q.Cursor == "" {
						break
					}
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("pages of %d (-want +got):\n%s", size, diff)
				}
			}
		})
	}
}

func TestAPageGoesOnAfterAnItemThatIsGone(t *testing.T) {
	all := ids(4)
	p, err := page.Of(slices.Clone(all), page.Query{Limit: 2}, same)
	if err != nil {
		t.Fatal(err)
	}
	p, err = page.Of([]string{all[0], all[2], all[3]}, page.Query{Cursor: p.Next}, same)
	if diff := cmp.Diff(all[2:], p.Items); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestQueriesThatAreNoneAreRefused(t *testing.T) {
	for _, q := range []page.Query{{Limit: -1}, {Limit: 1001}, {Cursor: "%"}} {
		_, err := page.Of(ids(3), q, same)
		if fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%+v of a list: got %v, want it to be invalid", q, err)
		}
		_, err = page.Read(q, func(int) ([]string, error) { return nil, errors.New("it was read") }, same)
		if fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%+v of what is read: got %v, want it to be invalid", q, err)
		}
	}
}
