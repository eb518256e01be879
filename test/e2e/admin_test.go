package e2e

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"interdict/internal/fleet"
)

func TestAnIndicatorThatIsChangedAndAFeatureThatIsOffCountAtOnce(t *testing.T) {
	f := install(t)
	f.mode(t, fleet.ModeBlock)
	id := f.indicator(t, "domain", "changed.example.org", "--action", "block")
	refused(t, "what is blocked", f.curl(t, hostInside, "https://a.changed.example.org/"))
	f.admin(t, "indicator", "set", id, "--action", "audit", "--wait")
	works(t, "what is audited now", f.curl(t, hostInside, "https://b.changed.example.org/"))

	const feature, url = "app_enforcement", "https://feature.itunes.apple.com/"
	f.tag(t, app, "unsanctioned")
	refused(t, "an app", f.curl(t, hostInside, url))
	f.featureOff(t, feature)
	says(t, "the list of features", f.admin(t, "feature", "list", "--output", "csv"), feature+",off")
	works(t, "an app, with the feature off", f.curl(t, hostInside, url))
}

func TestATailPrintsWhatADeviceRefusesNow(t *testing.T) {
	f := install(t)
	f.tag(t, app, "unsanctioned")
	f.mode(t, fleet.ModeBlock)
	names := fresh("tail")
	lines := f.tail(t, "device="+hostInside, "host=itunes.apple.com")
	// What happens before it is connected it does not print.
	tries := 0
	until(t, "it prints what is refused", func(context.Context) error {
		_ = f.curl(t, hostInside, "https://"+nth(names, tries)+"/")
		tries++
		for {
			select {
			case line := <-lines:
				if strings.Contains(line, names) && strings.Contains(line, hostInside) {
					return nil
				}
			default:
				return errors.New("it has printed nothing about it")
			}
		}
	})
}

// tail is what "event tail" prints until the test ends.
func (f *fixture) tail(t *testing.T, expression ...string) <-chan string {
	t.Helper()
	program := filepath.Join(os.Getenv(envPrograms), "interdict")
	cmd := exec.CommandContext(t.Context(), program, append([]string{"event", "tail"}, expression...)...)
	cmd.Env = append(os.Environ(), "INTERDICT_SERVER="+f.site.ServerURL(), "INTERDICT_TOKEN="+f.site.Token(), "XDG_CONFIG_HOME="+f.lab.Dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1000)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
		_ = cmd.Wait() // The end of the test has killed it.
	}()
	t.Cleanup(func() { <-ended })
	return lines
}
