package e2e

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"interdict/internal/explain"
	"interdict/internal/fleet"
)

// question is what "interdict explain" is asked, and what it should answer.
type question struct {
	host, device, user string
	outcome            explain.Outcome
	decisive           explain.Name
	// says is in the text of the decisive link, and mend in what mends it.
	says, mend string
	// silent is true of a device that cannot answer for itself.
	silent bool
}

func (q question) args() []string {
	args := []string{"explain", q.host, "--device", q.device}
	if q.user != "" {
		args = append(args, "--user", q.user)
	}
	return args
}

// explained asks, and fails the test unless the answer is right, as JSON and
// in words.
func (f *fixture) explained(t *testing.T, q question) {
	t.Helper()
	var c explain.Chain
	if err := f.site.AdminShow(t.Context(), &c, q.args()...); err != nil {
		t.Fatal(err)
	}
	if c.Outcome != q.outcome || c.Decisive != q.decisive || c.Live == q.silent {
		t.Errorf("got outcome %s, decided by %s, live %v; want %s, %s, %v:\n%+v",
			c.Outcome, c.Decisive, c.Live, q.outcome, q.decisive, !q.silent, c.Links)
	}
	for _, l := range c.Links {
		if l.Name == c.Decisive {
			says(t, "the decisive link", l.Text, q.says)
			says(t, "what mends it", l.Fix, q.mend)
		}
	}
	says(t, "the answer in words", f.admin(t, q.args()...), "\n> "+string(q.decisive))
}

func TestExplainNamesTheLinkThatIsBroken(t *testing.T) {
	f := installUsers(t)
	for _, test := range []struct {
		name string
		// arrange breaks one link.
		arrange func(t *testing.T)
		question
	}{
		{
			name:     "the name belongs to no app",
			arrange:  func(*testing.T) {},
			question: question{host: "nobody.example", decisive: explain.LinkApp, says: "belongs to no app", mend: "interdict indicator add domain nobody.example --action block"},
		},
		{
			name:     "several apps share the domain",
			arrange:  func(t *testing.T) { t.Helper(); f.tag(t, app, "unsanctioned") },
			question: question{host: "is1.mzstatic.com", decisive: explain.LinkApp, says: "which several apps share"},
		},
		{
			name:     "the app is not tagged",
			arrange:  func(*testing.T) {},
			question: question{decisive: explain.LinkTag, says: "iTunes is not tagged", mend: "interdict app tag itunes unsanctioned"},
		},
		{
			name:     "the app is sanctioned",
			arrange:  func(t *testing.T) { t.Helper(); f.tag(t, app, "sanctioned") },
			question: question{decisive: explain.LinkTag, says: "iTunes is tagged sanctioned, by admin-token"},
		},
		{
			name: "the tag is on trial elsewhere",
			arrange: func(t *testing.T) {
				t.Helper()
				f.group(t, canary, "--member", hostOutside)
				f.admin(t, "app", "tag", app, "unsanctioned", "--canary", canary, "--wait")
				f.after(t, "rollout", "stop", app, "--wait")
			},
			question: question{decisive: explain.LinkTag, says: "on trial in group " + canary, mend: "interdict rollout advance "},
		},
		{
			name: "the feature is off",
			arrange: func(t *testing.T) {
				t.Helper()
				f.tag(t, app, "unsanctioned")
				f.featureOff(t, "app-enforcement")
			},
			question: question{decisive: explain.LinkFeature, says: "app_enforcement is off", mend: "interdict feature set "},
		},
		{
			name: "an allow goes before",
			arrange: func(t *testing.T) {
				t.Helper()
				f.tag(t, app, "unsanctioned")
				f.indicator(t, "domain", "explain.itunes.apple.com", "--action", "allow")
			},
			question: question{decisive: explain.LinkIndicator, says: "says allow, and goes before", mend: "interdict indicator delete "},
		},
		{
			name: "the indicator has expired",
			arrange: func(t *testing.T) {
				t.Helper()
				f.admin(t, "indicator", "add", "domain", "expired.example", "--action", "block", "--expires", "2s", "--wait")
				until(t, "it has expired", func(ctx context.Context) error {
					out, err := f.site.Admin(ctx, "indicator", "list", "--search", "expired.example", "--output", "csv")
					if err == nil && strings.Contains(out, ",expired.example,") {
						err = errors.New("it is still there")
					}
					return err
				})
			},
			question: question{host: "expired.example", decisive: explain.LinkIndicator, says: "expired at ", mend: "interdict indicator add domain expired.example --action block"},
		},
		{
			name: "the name belongs to another app below it, which is left alone",
			arrange: func(t *testing.T) {
				t.Helper()
				f.tag(t, "amazon", "unsanctioned")
				f.tag(t, "amazon-web-services", "sanctioned")
			},
			question: question{host: "console.aws.amazon.com", decisive: explain.LinkTag, says: "tagged sanctioned"},
		},
		{
			name:     "the device is in a group that is spared",
			arrange:  func(t *testing.T) { t.Helper(); f.tag(t, app, "unsanctioned", "--exclude-group", group) },
			question: question{decisive: explain.LinkScope, says: hostInside + " is not in its scope", mend: "interdict app scope " + app},
		},
		{
			name:     "the user is not in the scope",
			arrange:  func(t *testing.T) { t.Helper(); f.tag(t, app, "unsanctioned", "--user-group", usersFinance) },
			question: question{user: bob, decisive: explain.LinkScope, says: "user " + bob + " is not in its scope"},
		},
		{
			name: "it is out of hours",
			arrange: func(t *testing.T) {
				t.Helper()
				f.tag(t, app, "unsanctioned", "--window", window(time.Now().Add(-24*time.Hour)))
			},
			question: question{decisive: explain.LinkScope, says: "it counts at other times only"},
		},
		{
			name:     "no policy reaches the device",
			arrange:  func(t *testing.T) { t.Helper(); f.tag(t, app, "unsanctioned") },
			question: question{device: hostOutside, decisive: explain.LinkPolicy, says: policy + " does not", mend: "interdict policy assign " + policy},
		},
		{
			name: "the policy audits",
			arrange: func(t *testing.T) {
				t.Helper()
				f.tag(t, app, "unsanctioned")
				f.mode(t, fleet.ModeAudit)
			},
			question: question{outcome: explain.OutcomeAudited, decisive: explain.LinkPolicy, says: "to audit", mend: "interdict policy set " + policy},
		},
		{
			name: "the device is away and has something older",
			arrange: func(t *testing.T) {
				t.Helper()
				f.relabel(t, "group="+group)
				f.leave(t, hostOutside)
				f.tag(t, app, "unsanctioned")
			},
			question: question{device: hostOutside, outcome: explain.OutcomeUnknown, decisive: explain.LinkDelivery, says: "offline", silent: true},
		},
		{
			name: "somebody ran rescue",
			arrange: func(t *testing.T) {
				t.Helper()
				f.relabel(t, "group="+group)
				f.tag(t, app, "unsanctioned")
				f.rescue(t, hostOutside)
				f.waitState(t, hostOutside, fleet.SettingFailed)
			},
			question: question{device: hostOutside, decisive: explain.LinkDevice, says: "rescue", mend: "interdict-agent sync"},
		},
		{
			name: "the user went on after a warning",
			arrange: func(t *testing.T) {
				t.Helper()
				f.tag(t, "evernote", "monitored")
				if a := f.post(t, alice, f.whyPage(t, alice, "www.evernote.com")+"/continue", "for once"); a.status != http.StatusOK {
					t.Fatalf("the why page answers %d: %s", a.status, a.body)
				}
				f.after(t, "bypass", "revoke", "evernote", "--wait")
				until(t, "the user can go on", f.worksNow(t, alice, "https://www.evernote.com/"))
			},
			question: question{host: "www.evernote.com", user: alice, decisive: explain.LinkVerdict, says: "user alice went on after a warning", mend: "interdict bypass revoke evernote --user alice"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			f.mode(t, fleet.ModeBlock)
			test.arrange(t)
			q := test.question
			for field, otherwise := range map[*string]string{&q.host: "a.explain.itunes.apple.com", &q.device: hostInside} {
				if *field == "" {
					*field = otherwise
				}
			}
			if q.outcome == "" {
				q.outcome = explain.OutcomeAllowed
			}
			f.explained(t, q)
		})
	}
}

func TestExplainSaysWhatBlocksANameThatShouldNotBe(t *testing.T) {
	f := install(t)
	f.mode(t, fleet.ModeBlock)
	f.tag(t, app, "sanctioned")

	t.Run("a tag", func(t *testing.T) {
		f.tag(t, "discord", "unsanctioned")
		f.explained(t, question{
			host: "discord.com", device: hostInside, outcome: explain.OutcomeBlocked, decisive: explain.LinkTag, says: "is tagged unsanctioned, by admin-token",
		})
	})
	t.Run("a custom indicator", func(t *testing.T) {
		id := f.indicator(t, "domain", "custom.itunes.apple.com", "--action", "block")
		f.explained(t, question{
			host: "custom.itunes.apple.com", device: hostInside, outcome: explain.OutcomeBlocked, decisive: explain.LinkIndicator, says: id,
		})
		refusal := f.fails(t, "explain", "custom.itunes.apple.com", "--device", hostInside, "--expect", "allowed")
		says(t, "the failure", refusal, "exit status 1", "is blocked on "+hostInside+", and allowed was expected")
	})
	t.Run("a file on the device", func(t *testing.T) {
		f.dropIn(t, "50-explain.yaml", "indicators:\n  - {type: domain, value: file.example, action: block}\n")
		until(t, "the file is in force", func(ctx context.Context) error {
			if r := f.curl(t, hostInside, "https://file.example/"); r.err == nil {
				return errors.New("the name is not refused")
			}
			return ctx.Err()
		})
		f.explained(t, question{
			host: "file.example", device: hostInside, outcome: explain.OutcomeBlocked, decisive: explain.LinkVerdict, says: "file",
		})
		var c explain.Chain
		if err := f.site.AdminShow(t.Context(), &c, "explain", "file.example", "--device", hostInside); err != nil {
			t.Fatal(err)
		}
		for _, l := range c.Links {
			if l.State == explain.StateBroken || l.Fix != "" {
				t.Errorf("link %s is %s, and is mended by %q, though nothing is amiss", l.Name, l.State, l.Fix)
			}
		}
		says(t, "the failure", f.fails(t, "explain", "file.example", "--device", hostInside, "--expect", "allowed"), "allowed was expected")
	})
}
