package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"interdict/internal/explain"
)

// explainBlocked asks about a connection of bob, for whom nobody made an
// exception.
func (st *story) explainBlocked(ctx context.Context, n *notes) error {
	args := []string{"explain", hostOf(urlUnsanctioned), "--device", hostInside}
	if bob := st.person(userBob, hostInside); bob.user != "" {
		args = append(args, "--user", bob.user)
	}
	return st.explained(ctx, n, explain.LinkTag, append(args, "--expect", "blocked")...)
}

// explainNot asks about the machine that no policy reaches.
func (st *story) explainNot(ctx context.Context, n *notes) error {
	return st.explained(ctx, n, explain.LinkPolicy, "explain", hostOf(urlUnsanctioned), "--device", hostOutside, "--expect", "allowed")
}

// explainAllowed asks about alice's connection, which has been approved.
func (st *story) explainAllowed(ctx context.Context, n *notes) error {
	return st.explained(ctx, n, explain.LinkIndicator,
		"explain", hostOf(urlUnsanctioned), "--device", hostInside, "--user", userAlice, "--expect", "allowed")
}

// explained checks that a command explains with one link as the one that
// decides.
func (st *story) explained(ctx context.Context, n *notes, decisive explain.Name, args ...string) error {
	out, err := st.admin(ctx, n, args...)
	if err != nil {
		return err
	}
	n.saw("%s", out)
	var chain struct {
		Decisive explain.Name `json:"decisive"`
		Live     bool         `json:"live"`
	}
	if err := st.site.AdminShow(ctx, &chain, args...); err != nil {
		return err
	}
	if chain.Decisive != decisive || !chain.Live {
		return fmt.Errorf("it should be the link %q that decides, by the device's own word, and is %q", decisive, chain.Decisive)
	}
	return nil
}

// doctor has the agent examine what it depends on. What it finds elsewhere on
// the machine that plays the demo is shown, and is no failure of the story.
func (st *story) doctor(ctx context.Context, n *notes) error {
	files := st.site.PolicyDir(hostInside)
	out, broken := st.agent(ctx, n, hostInside, "doctor", "--policy-dir", files)
	n.saw("%s", out)
	// The exit code is not 0 where something is broken.
	text, err := st.site.Agent(ctx, hostInside, "doctor", "--policy-dir", files, "--output", "json")
	if (err == nil) != (broken == nil) {
		return errors.Join(errors.New("the doctor was asked twice and found different things"), broken, err)
	}
	var examination struct {
		Findings []struct {
			Check string `json:"check"`
			State string `json:"state"`
			Text  string `json:"text"`
		} `json:"findings"`
	}
	if err := json.Unmarshal([]byte(text), &examination); err != nil {
		return fmt.Errorf("reading what the doctor found: %w", err)
	}
	well := 0
	for _, f := range examination.Findings {
		if !slices.Contains([]string{"agent", "enforcement", "rules", "queues", "health", "server"}, f.Check) {
			continue
		}
		if f.State != "ok" {
			return fmt.Errorf("the doctor finds that %s is %q: %s", f.Check, f.State, f.Text)
		}
		well++
	}
	if well != 6 {
		return fmt.Errorf("of six things of the agent the doctor looked at %d", well)
	}
	return nil
}

// hostOf returns the host of one of our own URLs.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic(err)
	}
	return u.Hostname()
}
