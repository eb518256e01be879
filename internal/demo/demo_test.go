package demo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

func TestReportTellsEveryStepAndTheResult(t *testing.T) {
	var out bytes.Buffer
	r := newReport(&out, false)
	good := step{title: "Good", run: func(_ context.Context, n *notes) error {
		n.did("this %s", "thing")
		n.saw("two\nlines")
		n.took("how long it took", 1500*time.Millisecond)
		return nil
	}}
	bad := step{title: "Bad", run: func(context.Context, *notes) error { return errors.New("no such luck") }}
	if err := r.play(t.Context(), good); err != nil {
		t.Error(err)
	}
	if err := r.play(t.Context(), bad); err == nil {
		t.Error("a failed step was no error")
	}
	r.logs("the log\n")
	if err := r.summary(); err == nil {
		t.Error("the summary of a failed step was no error")
	}
	for _, want := range []string{
		" 1. Good\n    did  this thing\n    saw  two\n         lines\n    PASS in ",
		" 2. Bad\n    FAIL no such luck after ",
		"    | the log\n",
		" 1500 ms  how long it took\n",
		"FAIL  1 of 2 steps failed",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("there are colours in a report that has none")
	}
}

func TestWhatCannotBePlayedIsLeftOutAndSaidToBe(t *testing.T) {
	var out bytes.Buffer
	r := newReport(&out, false)
	r.act("Some")
	for _, s := range []step{
		{title: "Not here", run: func(context.Context, *notes) error { return &leftOutError{"too small a world"} }},
		{title: "Here", run: func(context.Context, *notes) error { return nil }},
	} {
		if err := r.play(t.Context(), s); err != nil {
			t.Error(err)
		}
	}
	if err := r.summary(); err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		"== Some ==\n", " 1. Not here\n    LEFT OUT too small a world\n", " 2. Here\n    PASS in ",
		"PASS  all 1 steps that can be played here; 1 were left out",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
}

func TestCommandsAreToldAsTheyAreTyped(t *testing.T) {
	got := commandLine([]string{"policy", "set", "pilot", "--support-contact", "Ada, ext. 5", "--rule", `os == "linux"`, "https://a.example/b"})
	if want := `policy set pilot --support-contact 'Ada, ext. 5' --rule 'os == "linux"' https://a.example/b`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAPageIsToldWithoutItsMarkup(t *testing.T) {
	p := page{body: `<html><head><title>x</title></head><body><main><h1>A &amp; B</h1>
<p>One <b>two</b>
three</p><dl><dt>App</dt><dd>A</dd></dl><p><a href="http://x/">Why?</a></p></main></body></html>`}
	if got, want := p.text(), "A & B\nOne two three\nWhy?"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAStepThatHangsIsEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := newReport(io.Discard, true)
	err := r.play(ctx, step{title: "Hangs", run: func(ctx context.Context, _ *notes) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestListenHost(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:8443": "127.0.0.1", "[2001:db8::1]:8443": "2001:db8::1", ":8443": "", "nonsense": "",
	} {
		if got := listenHost(address); got != want {
			t.Errorf("listenHost(%q) = %q, want %q", address, got, want)
		}
	}
}

func TestWithoutTheProgramsNothingStarts(t *testing.T) {
	// This test's own program stands alone in its directory.
	err := run(t.Context(), options{once: true, out: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("got %v, want an error that says what to do", err)
	}
}

func TestForwardCopiesBothWaysUntilTheEnd(t *testing.T) {
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	go func() {
		for {
			c, acceptErr := far.Accept()
			if acceptErr != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	f, err := openListener(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	near := addressOf(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- forward(ctx, f, far.Addr().String()) }()
	conn, err := net.Dial("tcp", near)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 5)
	if _, err = io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err = io.ReadFull(conn, buf); err != nil || string(buf) != "hello" {
		t.Errorf("got %q, %v", buf, err)
	}
	cancel()
	if err = <-done; err != nil {
		t.Error(err)
	}
	if _, err = conn.Read(buf); err == nil {
		t.Error("the connection outlived the demo")
	}
}

func addressOf(t *testing.T, f *os.File) string {
	t.Helper()
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
