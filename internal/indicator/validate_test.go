package indicator_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/fault"
	"interdict/internal/indicator"
)

func TestValidateTellsAllFaultsAtOnce(t *testing.T) {
	_, got := indicator.Validate(indicator.Indicator{
		Type: indicator.TypeDomain, Value: "co.uk", Action: "deny", Severity: "fatal", Source: "rumour",
		Description: strings.Repeat("a", indicator.MaxDescription) + "\x00", ExpiresAt: noon,
		Scope: indicator.Profile{Scope: indicator.Scope{Include: []string{"g", ""}, Exclude: []string{"", "g"}}},
	}, noon)
	want := fault.Fields{
		{Name: "value", Rule: "must not be a public suffix: everybody's names are below it"},
		{Name: "action", Rule: "must be one of allow, warn, block, audit"},
		{Name: "severity", Rule: "must be one of informational, low, medium, high"},
		{Name: "source", Rule: "must be one of custom, feed, catalog, local, resolver"},
		{Name: "expires_at", Rule: "must be in the future"},
		{Name: "description", Rule: "must not be longer than 1024 bytes"},
		{Name: "description", Rule: "must not have control characters"},
		{Name: "scope.include_groups", Rule: "must not have an empty group"},
		{Name: "scope.exclude_groups", Rule: "must not have an empty group"},
		{Name: "scope.exclude_groups", Rule: `must not have group "g", which is also included`},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Validate (-want +got):\n%s", diff)
	}
}

func TestValidateDoesNotReadAValueOfAnUnknownType(t *testing.T) {
	_, got := indicator.Validate(indicator.Indicator{Type: "host", Action: indicator.ActionBlock, Source: indicator.SourceCustom}, noon)
	want := fault.Fields{{Name: "type", Rule: "must be one of domain, url, ip, cidr, certificate, file_sha256"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Validate (-want +got):\n%s", diff)
	}
}

func TestValidateReturnsTheCanonicalValue(t *testing.T) {
	in := indicator.Indicator{
		Type: indicator.TypeDomain, Value: "Example.COM.", Action: indicator.ActionBlock, Source: indicator.SourceCustom,
		Description: "two\nlines", ExpiresAt: noon.Add(time.Second), Scope: indicator.Profile{Scope: indicator.Scope{Include: []string{"a"}, Exclude: []string{"b"}}},
	}
	want := in
	want.Value = "example.com"
	got, faults := indicator.Validate(in, noon)
	if faults != nil {
		t.Fatalf("Validate finds %v", faults)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Validate (-want +got):\n%s", diff)
	}
}

func TestNetworkTypesAreThoseMatchedAgainstConnections(t *testing.T) {
	for _, typ := range indicator.Types() {
		want := typ != indicator.TypeCertificate && typ != indicator.TypeFileSHA256
		if typ.Network() != want {
			t.Errorf("%s.Network() = %t, want %t", typ, !want, want)
		}
	}
	if indicator.Type("process").Network() {
		t.Error("an unknown type is matched against connections")
	}
}
