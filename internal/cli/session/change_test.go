package session_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"interdict/internal/bundle"
	"interdict/internal/cli"
	"interdict/internal/server/servertest"
)

func TestADeviceThatFailedAndWentAwayIsAFailure(t *testing.T) {
	s := servertest.Start(t)
	a := s.Enroll(t, "alice-pc")
	resp, err := a.HTTP.Post(s.LocalURL()+bundle.PathApplied, "application/json", strings.NewReader(`{"error":"no room"}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusNoContent {
		t.Fatalf("acknowledging: %s, %v", resp.Status, err)
	}
	var stdout, stderr bytes.Buffer
	code := cli.Run(t.Context(), cli.Env{
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Getenv: func(string) string { return "" },
	}, []string{"--server", s.LocalURL(), "--token", s.Token, "app", "tag", "itunes", "unsanctioned", "--wait"})
	if code != cli.ExitFailed || !strings.Contains(stderr.String(), "alice-pc (no room)") {
		t.Errorf("got exit code %d and %q, want 1 and which device failed", code, stderr.String())
	}
}
