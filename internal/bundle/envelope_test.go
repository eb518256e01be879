package bundle_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"interdict/internal/bundle"
	"interdict/internal/indicator"
)

var issued = time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC)

func newKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func public(k ed25519.PrivateKey) ed25519.PublicKey {
	return k.Public().(ed25519.PublicKey)
}

func seal(tb testing.TB, key ed25519.PrivateKey, version uint64, from, to bundle.Set) bundle.Envelope {
	tb.Helper()
	header, sig, err := bundle.SignHeader(key, bundle.Header{
		Audience: "everyone", Version: version, IssuedAt: issued, NotAfter: issued.Add(24 * time.Hour),
	}, to)
	if err != nil {
		tb.Fatal(err)
	}
	base := ""
	if from.Len() > 0 {
		base = from.Digest()
	}
	e, err := bundle.Seal(header, sig, base, bundle.Diff(from, to))
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func TestAnAgentTakesInWhatTheServerSigned(t *testing.T) {
	key := newKey(1)
	first, second := mustSet(t, someRecords(100)...), mustSet(t, someRecords(103)...)

	h, set, err := seal(t, key, 1, bundle.Set{}, first).Open(public(key), bundle.Current{}, issued)
	if err != nil || set.Digest() != first.Digest() || h.Records != 100 {
		t.Fatalf("opening the whole set: got %+v, %v", h, err)
	}
	have := bundle.Current{Version: 1, Digest: h.Digest, Set: set}
	delta := seal(t, key, 2, first, second)
	if _, set, err = delta.Open(public(key), have, issued); err != nil || set.Digest() != second.Digest() {
		t.Fatalf("opening the difference: got %v", err)
	}
	if _, _, err := seal(t, key, 1, bundle.Set{}, first).Open(public(key), have, issued); err != nil {
		t.Errorf("opening the bundle in force again: got %v", err)
	}
}

func TestWhatIsNotTrustedIsRefused(t *testing.T) {
	key := newKey(1)
	first, second := mustSet(t, someRecords(100)...), mustSet(t, someRecords(103)...)
	have := bundle.Current{Version: 5, Digest: first.Digest(), Set: first}

	tests := []struct {
		name   string
		want   error
		at     time.Time
		tamper func() bundle.Envelope
	}{
		{"another server's key", bundle.ErrSignature, issued, func() bundle.Envelope {
			return seal(t, newKey(2), 6, first, second)
		}},
		{"an older version", bundle.ErrRollback, issued, func() bundle.Envelope {
			return seal(t, key, 4, first, second)
		}},
		{"another set of the version in force", bundle.ErrRollback, issued, func() bundle.Envelope {
			return seal(t, key, 5, first, second)
		}},
		{"a bundle after its time", bundle.ErrExpired, issued.Add(25 * time.Hour), func() bundle.Envelope {
			return seal(t, key, 6, first, second)
		}},
		{"a changed header", bundle.ErrSignature, issued, func() bundle.Envelope {
			e := seal(t, key, 6, first, second)
			e.Header = bytes.Replace(e.Header, []byte(`"version":6`), []byte(`"version":7`), 1)
			return e
		}},
		{"a changed record", bundle.ErrDigest, issued, func() bundle.Envelope {
			e := seal(t, key, 6, first, second)
			e.Body = bytes.Replace(e.Body, []byte("block"), []byte("allow"), 1)
			return e
		}},
		{"a record left out", bundle.ErrDigest, issued, func() bundle.Envelope {
			e := seal(t, key, 6, first, second)
			e.Body = e.Body[bytes.IndexByte(e.Body, '\n')+1:]
			return e
		}},
		{"a truncated body", bundle.ErrDigest, issued, func() bundle.Envelope {
			e := seal(t, key, 6, bundle.Set{}, second)
			e.Body = e.Body[:len(e.Body)/2]
			return e
		}},
		{"an unknown encoding", bundle.ErrFormat, issued, func() bundle.Envelope {
			e := seal(t, key, 6, first, second)
			e.Encoding = "rot13"
			return e
		}},
		{"a difference to another set", bundle.ErrBase, issued, func() bundle.Envelope {
			return seal(t, key, 6, second, first)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := tt.tamper().Open(public(key), have, tt.at)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestTheLastGoodBundleStaysGoodOnDisk(t *testing.T) {
	key := newKey(1)
	set := mustSet(t, someRecords(300)...)
	stored, err := json.Marshal(seal(t, key, 9, bundle.Set{}, set))
	if err != nil {
		t.Fatal(err)
	}
	var e bundle.Envelope
	if err := json.Unmarshal(stored, &e); err != nil {
		t.Fatal(err)
	}
	if h, got, err := e.Reopen(public(key)); err != nil || got.Digest() != set.Digest() || h.Version != 9 {
		t.Errorf("got version %d, %v", h.Version, err)
	}
	e.Body[len(e.Body)/2] ^= 1
	if _, _, err := e.Reopen(public(key)); !errors.Is(err, bundle.ErrDigest) {
		t.Errorf("got %v for a damaged file, want %v", err, bundle.ErrDigest)
	}
}

// The budget of the design: one app's change among 100,000 indicators costs
// each agent less than 2 KB.
func TestOneAppsChangeAmongAHundredThousandIndicatorsIsSmall(t *testing.T) {
	key := newKey(1)
	records := someRecords(100_000)
	from := mustSet(t, records...)
	for i := range 8 {
		records = append(records, bundle.Indicator(indicator.Indicator{
			ID: fmt.Sprintf("itunes:part%d.itunes.apple.com", i), Type: indicator.TypeDomain,
			Value: fmt.Sprintf("part%d.itunes.apple.com", i), Action: indicator.ActionBlock,
			Severity: indicator.SeverityMedium, Source: indicator.SourceCatalog, AppID: "itunes", GenerateAlert: true, CreatedAt: issued,
		}))
	}
	b, err := json.Marshal(seal(t, key, 2, from, mustSet(t, append(records, bundle.App("itunes", "iTunes"))...)))
	if err != nil {
		t.Fatal(err)
	}
	if len(b) >= 2048 {
		t.Errorf("the change is %d bytes on the wire, want less than 2048", len(b))
	}
}

func TestATokenIsOneString(t *testing.T) {
	want := bundle.Token{URL: "https://interdict.example:8443", CAFingerprint: bundle.Fingerprint([]byte("ca")), Secret: "s3cret"}
	got, err := bundle.ParseToken("  " + want.String() + "\n")
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{
		"", "idt1_", "hello", want.String()[:40],
		bundle.Token{URL: "http://plain.example", CAFingerprint: want.CAFingerprint, Secret: "s"}.String(),
		bundle.Token{URL: want.URL, CAFingerprint: "abcd", Secret: "s"}.String(),
		bundle.Token{URL: want.URL, CAFingerprint: want.CAFingerprint}.String(),
	} {
		if _, err := bundle.ParseToken(bad); err == nil {
			t.Errorf("got no error for %q", bad)
		}
	}
}

func FuzzOpen(f *testing.F) {
	key := newKey(1)
	set := mustSet(f, someRecords(20)...)
	for _, e := range []bundle.Envelope{seal(f, key, 1, bundle.Set{}, set), seal(f, key, 2, set, mustSet(f, someRecords(22)...))} {
		f.Add(e.Header, e.Signature, e.Base, e.Encoding, e.Body)
	}
	have := bundle.Current{Version: 1, Digest: set.Digest(), Set: set}
	f.Fuzz(func(t *testing.T, header, signature []byte, base, encoding string, body []byte) {
		e := bundle.Envelope{Header: header, Signature: signature, Base: base, Encoding: encoding, Body: body}
		h, got, err := e.Open(public(key), have, issued)
		if err == nil && got.Digest() != h.Digest {
			t.Errorf("took in a set with digest %s under a header that says %s", got.Digest(), h.Digest)
		}
	})
}

func FuzzApply(f *testing.F) {
	base := mustSet(f, someRecords(20)...)
	f.Add(bundle.Diff(bundle.Set{}, base))
	f.Add(bundle.Diff(base, mustSet(f, someRecords(9)...)))
	f.Add([]byte("+app\t\t\n-\n"))
	f.Fuzz(func(t *testing.T, changes []byte) {
		set, err := base.Apply(bytes.NewReader(changes))
		if err != nil {
			return
		}
		again, err := bundle.Set{}.Apply(bytes.NewReader(bundle.Diff(bundle.Set{}, set)))
		if err != nil || again.Digest() != set.Digest() {
			t.Errorf("a set that was taken in cannot be passed on: %v", err)
		}
	})
}

func BenchmarkDigest(b *testing.B) {
	set := mustSet(b, someRecords(100_000)...)
	for b.Loop() {
		set.Digest()
	}
}

func BenchmarkOpenFull(b *testing.B) {
	key := newKey(1)
	e := seal(b, key, 1, bundle.Set{}, mustSet(b, someRecords(100_000)...))
	b.ReportMetric(float64(len(e.Body)), "body-bytes")
	for b.Loop() {
		if _, _, err := e.Open(public(key), bundle.Current{}, issued); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDiff(b *testing.B) {
	from := mustSet(b, someRecords(100_000)...)
	to := mustSet(b, someRecords(100_010)...)
	for b.Loop() {
		bundle.Diff(from, to)
	}
}
