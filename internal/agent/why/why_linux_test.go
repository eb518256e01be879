package why

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"interdict/internal/access"
	"interdict/internal/agent/appeal"
	"interdict/internal/bypass"
	"interdict/internal/event"
	"interdict/internal/fault"
	"interdict/internal/fleet"
)

var samples = flag.String("samples", "", "a directory to write sample pages into")

// Users that no real ones are.
const (
	anna = 61001
	ben  = 61002
)

// A client is this program once more, as its user.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "client" {
		os.Exit(client())
	}
	os.Exit(m.Run())
}

// question is what a client asks.
type question struct {
	Method, URL, Body, Host string
	Header                  map[string]string
}

// answer is what it got.
type answer struct {
	Status int
	Header http.Header
	Body   string
}

// client asks what it reads, and writes what it got.
func client() int {
	var q question
	if json.NewDecoder(os.Stdin).Decode(&q) != nil {
		return 1
	}
	got, err := q.ask()
	if err != nil {
		_, _ = io.WriteString(os.Stderr, err.Error())
		return 1
	}
	return map[bool]int{true: 0, false: 1}[json.NewEncoder(os.Stdout).Encode(got) == nil]
}

func (q question) ask() (answer, error) {
	r, err := http.NewRequest(q.Method, q.URL, strings.NewReader(q.Body))
	if err != nil {
		return answer{}, err
	}
	r.Host = q.Host
	if q.Method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, value := range q.Header {
		r.Header.Set(name, value)
	}
	c := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	resp.Header.Del("Date")
	return answer{resp.StatusCode, resp.Header, string(b)}, err
}

// as asks as a user.
func (q question) as(t *testing.T, uid uint32) answer {
	t.Helper()
	if os.Geteuid() != 0 {
		const reason = "NOT TESTED: becoming another user needs root"
		if os.Getenv("CI") != "" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	in, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "client")
	// The race detector would have every client end a second late.
	cmd.Dir, cmd.Stdin, cmd.Env = "/", bytes.NewReader(in), []string{"GORACE=atexit_sleep_ms=0"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.Output()
	var got answer
	if err == nil {
		err = json.Unmarshal(out, &got)
	}
	if err != nil {
		t.Fatalf("asking as user %d: %v", uid, err)
	}
	return got
}

// scene is a page that is served, over real appeals.
type scene struct {
	*Server
	appeals  *appeal.Appeals
	settings fleet.Settings
}

func newScene(t *testing.T) *scene {
	t.Helper()
	sc := &scene{settings: fleet.Defaults()}
	sc.settings.SupportContact, sc.settings.SupportURL = "help@corp.example", "https://help.corp.example/"
	settings := func() fleet.Settings { return sc.settings }
	sc.appeals = appeal.New(appeal.Config{
		File: filepath.Join(t.TempDir(), "appeals.json"), Device: "device", Settings: settings, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Record:   func(context.Context, event.Event) {},
		Changed:  func(context.Context, []bypass.Bypass) {},
		Send:     func(_ context.Context, r access.Request) (access.Request, error) { return r, nil },
		Answered: func(context.Context, access.Request, string) {},
	})
	peers, err := OpenPeers()
	if err != nil {
		t.Fatal(err)
	}
	sc.Server, err = Listen(t.Context(), Config{
		Listen: "127.0.0.1:0", Appeals: sc.appeals, Settings: settings, UID: peers.UID, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- sc.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, sc.Close(), peers.Close()); err != nil {
			t.Error(err)
		}
	})
	return sc
}

func (sc *scene) refused(t *testing.T, uid uint32, app string, action event.Action) (url string) {
	t.Helper()
	r, ok := sc.appeals.Refused(event.Event{
		EventID: event.IDBlocked, Action: action, AppID: strings.ToLower(app), AppName: app, IndicatorID: "tunes:init.tunes.example", PolicyID: "p-laptops",
		Destination: event.Destination{Host: "init.tunes.example", IP: netip.MustParseAddr("192.0.2.7"), Port: 443}, Evidence: event.EvidenceTLSSNI,
		Process: event.Process{Path: "/usr/bin/curl"}, User: event.User{Name: "anna", UID: &uid},
	})
	if !ok {
		t.Fatal("the refusal was not taken")
	}
	return sc.URL(r.ID)
}

func get(url string) question { return question{Method: http.MethodGet, URL: url} }

func post(url, reason string) question {
	return question{Method: http.MethodPost, URL: url, Body: "reason=" + reason}
}

func german(q question) question {
	q.Header = map[string]string{"Accept-Language": "de-AT,en;q=0.5"}
	return q
}

// sample writes a page down for people to look at.
func sample(t *testing.T, name string, a answer) {
	t.Helper()
	if *samples != "" {
		if err := os.WriteFile(filepath.Join(*samples, name+".html"), []byte(a.Body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func check(t *testing.T, what string, a answer, status int, has ...string) {
	t.Helper()
	if a.Status != status {
		t.Errorf("%s: got status %d, want %d", what, a.Status, status)
	}
	for _, text := range has {
		if !strings.Contains(a.Body, text) {
			t.Errorf("%s: %q is not in\n%s", what, text, a.Body)
		}
	}
}

func TestThePageIsForItsUserAlone(t *testing.T) {
	sc := newScene(t)
	url := sc.refused(t, anna, "Tunes", event.ActionBlocked)
	page := get(url).as(t, anna)
	sample(t, "blocked", page)
	check(t, "for its user", page, http.StatusOK,
		`<html lang="en">`, "<h1>Tunes is blocked</h1>", "does not allow Tunes", "init.tunes.example:443", "curl (/usr/bin/curl)",
		"help@corp.example", `href="https://help.corp.example/"`, "tunes:init.tunes.example", "p-laptops", "192.0.2.7", "/request")
	nothing := get(sc.URL("aaaaaaaaaaaaaaaaaaaaaaaaaa")).as(t, ben)
	sample(t, "missing", nothing)
	check(t, "an unknown id", nothing, http.StatusNotFound, "There is nothing here")
	for name, q := range map[string]question{
		"looking": get(url), "continuing": post(url+"/continue", "x"), "requesting": post(url+"/request", "x"), "another path": get(sc.URL("")),
	} {
		if diff := cmp.Diff(nothing, q.as(t, ben)); diff != "" {
			t.Errorf("another user %s gets another answer than for an unknown id:\n%s", name, diff)
		}
	}
	root := get(url).as(t, 0)
	check(t, "for root", root, http.StatusOK, "<h1>Tunes is blocked</h1>")
	if strings.Contains(root.Body, "<form") {
		t.Error("root is offered to act for the user")
	}
	check(t, "root acting for the user", post(url+"/request", "x").as(t, 0), http.StatusForbidden)
}

func TestAUserGoesOnAfterAWarning(t *testing.T) {
	sc := newScene(t)
	sc.settings.BypassReason = fleet.Required
	url := sc.refused(t, anna, "Tunes", event.ActionWarned)
	page := german(get(url)).as(t, anna)
	sample(t, "warnung", page)
	check(t, "the form", page, http.StatusOK, `<html lang="de">`, "Tunes: Möchten Sie fortfahren?", " required>", url[len("http://")+len(sc.address.String()):]+"/continue")
	check(t, "without the required reason", post(url+"/continue", "").as(t, anna), http.StatusUnprocessableEntity, "Please give a reason", `role="alert"`)
	if got := post(url+"/continue", "the+customer").as(t, anna); got.Status != http.StatusSeeOther || !strings.HasSuffix(url, got.Header.Get("Location")) {
		t.Errorf("got %+v", got)
	}
	page = german(get(url)).as(t, anna)
	sample(t, "fortgefahren", page)
	check(t, "afterwards", page, http.StatusOK, "<h1>Sie können Tunes nutzen</h1>", "Sie können Tunes bis ")
	if strings.Contains(page.Body, "<form") {
		t.Error("the form is still there")
	}
	if all := sc.appeals.Bypasses(); len(all) != 1 || all[0].Reason != "the customer" || all[0].UID != anna {
		t.Errorf("got %+v", all)
	}
}

func TestAUserAsksForAccessAndSeesTheAnswer(t *testing.T) {
	sc := newScene(t)
	url := sc.refused(t, anna, "Tunes", event.ActionBlocked)
	if got := post(url+"/request", "the+customer").as(t, anna); got.Status != http.StatusSeeOther {
		t.Fatalf("got %+v", got)
	}
	id := url[strings.LastIndex(url, "/")+1:]
	standing, _ := sc.appeals.Standing(id)
	check(t, "not decided", get(url).as(t, anna), http.StatusOK, "It is not decided yet")
	decided := *standing.Request
	decided.DecidedAt = time.Now()
	for _, test := range []struct {
		state access.State
		until time.Time
		want  string
	}{
		{access.StateApproved, time.Now().Add(time.Hour), "Your request was approved. You can use Tunes until "},
		{access.StateApproved, time.Time{}, "Your request was approved. You can use Tunes."},
		{access.StateRevoked, time.Time{}, "the approval was taken back"},
		{access.StateDenied, time.Time{}, "Your request was not approved."},
	} {
		decided.State, decided.Until, decided.Note = test.state, test.until, "says <b>the boss</b>"
		sc.appeals.Requests(t.Context(), []access.Request{decided})
		page := get(url).as(t, anna)
		sample(t, string(test.state), page)
		check(t, string(test.state), page, http.StatusOK, test.want, "says &lt;b&gt;the boss&lt;/b&gt;")
	}
}

func TestOtherSitesCannotUseThePage(t *testing.T) {
	sc := newScene(t)
	url := sc.refused(t, anna, "Tunes", event.ActionWarned)
	with := func(q question, name, value string) question {
		q.Header = map[string]string{name: value}
		return q
	}
	rebound := get(url)
	rebound.Host = "evil.example"
	local := get(url)
	local.Host = "localhost:" + url[strings.LastIndex(url[:strings.Index(url, "/why")], ":")+1:strings.Index(url, "/why")]
	for _, test := range []struct {
		name string
		q    question
		want int
	}{
		{"a link to it works", with(get(url), "Sec-Fetch-Site", "cross-site"), http.StatusOK},
		{"a form of another site", with(post(url+"/continue", "x"), "Sec-Fetch-Site", "cross-site"), http.StatusForbidden},
		{"a form of another port", with(post(url+"/continue", "x"), "Sec-Fetch-Site", "same-site"), http.StatusForbidden},
		{"a form of another site in an old browser", with(post(url+"/continue", "x"), "Origin", "http://evil.example"), http.StatusForbidden},
		{"a form of no site in an old browser", with(post(url+"/continue", "x"), "Origin", "null"), http.StatusForbidden},
		{"a name that leads here", rebound, http.StatusMisdirectedRequest},
		{"another name of here", local, http.StatusMisdirectedRequest},
		{"another method", question{Method: http.MethodDelete, URL: url}, http.StatusNotFound},
		{"a form that is far too long", post(url+"/continue", strings.Repeat("x", maxBody+1)), http.StatusBadRequest},
	} {
		if got := test.q.as(t, anna); got.Status != test.want {
			t.Errorf("%s: got status %d, want %d", test.name, got.Status, test.want)
		}
	}
	if len(sc.appeals.Bypasses()) != 0 {
		t.Error("one of them went through")
	}
	same := with(post(url+"/continue", "x"), "Sec-Fetch-Site", "same-origin")
	check(t, "our own form", same.as(t, anna), http.StatusSeeOther)
}

func TestThePageIsClosedToEverythingElse(t *testing.T) {
	sc := newScene(t)
	page := get(sc.refused(t, anna, `<script>alert("x")</script>`, event.ActionBlocked)).as(t, anna)
	_, rest, _ := strings.Cut(page.Body, "<style>")
	style, _, _ := strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(style))
	want := map[string]string{
		"Content-Security-Policy": "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
			"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
		"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
		"Content-Type": "text/html; charset=utf-8", "Content-Language": "en",
	}
	for name, value := range want {
		if got := page.Header.Get(name); got != value {
			t.Errorf("%s: got %q, want %q", name, got, value)
		}
	}
	check(t, "a hostile name", page, http.StatusOK, "&lt;script&gt;")
	for _, bad := range []string{"<script", "<img", "<link", "src=", "onload"} {
		if strings.Contains(page.Body, bad) {
			t.Errorf("%q is in the page", bad)
		}
	}
}

func TestNobodyAsksTooOften(t *testing.T) {
	sc := newScene(t)
	url := sc.refused(t, 0, "Tunes", event.ActionBlocked)
	got := http.StatusOK
	for range 10 * burst {
		a, err := get(url).ask()
		if err != nil {
			t.Fatal(err)
		}
		if got = a.Status; got != http.StatusOK {
			break
		}
	}
	if got != http.StatusTooManyRequests {
		t.Errorf("got status %d after %d requests", got, 10*burst)
	}
	check(t, "another user", get(sc.refused(t, anna, "Tunes", event.ActionBlocked)).as(t, anna), http.StatusOK)
}

// dials opens connections to the page until one is refused, or all are open.
func dials(t *testing.T, address string, n int) (open int) {
	t.Helper()
	for range n {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp4", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if err := c.SetDeadline(time.Now().Add(headerTimeout)); err != nil {
			t.Fatal(err)
		}
		// The answer to a first request says that it was let in.
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := c.Read(make([]byte, 1)); err != nil {
			return open
		}
		open++
	}
	return open
}

func TestAUserCannotKeepOthersOut(t *testing.T) {
	sc := newScene(t)
	url := sc.refused(t, anna, "Tunes", event.ActionBlocked)
	if got := dials(t, sc.address.String(), maxConnectionsUser+1); got != maxConnectionsUser {
		t.Errorf("one user has %d connections, want %d", got, maxConnectionsUser)
	}
	check(t, "another user", get(url).as(t, anna), http.StatusOK)
}

func TestAConnectionThatEndsMakesRoom(t *testing.T) {
	s := &slots{taken: make(map[uint32]int), uid: func(netip.AddrPort) (uint32, error) { return anna, nil }}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 * maxConnectionsUser {
		held := s.hold(c)
		if held == nil {
			t.Fatal("there is no room although nothing is open")
		}
		// Closing it twice makes room once.
		_, _ = held.Close(), held.Close()
	}
	if s.all != 0 || len(s.taken) != 0 {
		t.Errorf("%d connections are counted, %v", s.all, s.taken)
	}
}

func TestCommandsAreAnsweredToCommandsAlone(t *testing.T) {
	sc := newScene(t)
	url := sc.refused(t, anna, "Tunes", event.ActionWarned)
	id := url[strings.LastIndex(url, "/")+1:]
	base := "http://" + sc.address.String()
	from := func(q question, headers ...string) question {
		q.Header = map[string]string{headerCommand: "why"}
		for i := 0; i < len(headers); i += 2 {
			q.Header[headers[i]] = headers[i+1]
		}
		return q
	}
	list, goOn := get(base+pathRefusals), post(base+pathRefusals+"/"+id+"/continue", "x")
	preflight := question{Method: http.MethodOptions, URL: base + pathRefusals}
	rebound := from(list)
	rebound.Host = "evil.example"
	for _, test := range []struct {
		name string
		q    question
		want int
	}{
		{"without the header", list, http.StatusNotFound},
		{"a page of another site", from(list, "Sec-Fetch-Site", "cross-site"), http.StatusNotFound},
		{"a page of ours", from(list, "Sec-Fetch-Site", "same-origin"), http.StatusNotFound},
		{"a page in an old browser", from(list, "Origin", "http://evil.example"), http.StatusNotFound},
		{"a form of another site", post(base+pathRefusals+"/"+id+"/continue", "x"), http.StatusNotFound},
		{"a script of another site", from(goOn, "Sec-Fetch-Site", "cross-site"), http.StatusForbidden},
		{"a browser that asks for leave", from(preflight, "Origin", "http://evil.example", "Access-Control-Request-Headers", headerCommand), http.StatusNotFound},
		{"a name that leads here", rebound, http.StatusMisdirectedRequest},
	} {
		got := test.q.as(t, anna)
		if got.Status != test.want || strings.Contains(got.Body, id) {
			t.Errorf("%s: got status %d and %q, want %d", test.name, got.Status, got.Body, test.want)
		}
		for name := range got.Header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: the answer allows something: %s", test.name, name)
			}
		}
	}
	if len(sc.appeals.Bypasses()) != 0 {
		t.Error("one of them went through")
	}
	check(t, "a command", from(list).as(t, anna), http.StatusOK, id)
	if got := from(list).as(t, ben); got.Status != http.StatusOK || strings.Contains(got.Body, id) {
		t.Errorf("another user got status %d and %q", got.Status, got.Body)
	}
	if got := from(list).as(t, 0); got.Status != http.StatusOK || strings.Contains(got.Body, id) {
		t.Errorf("root, who was refused nothing, got status %d and %q", got.Status, got.Body)
	}
	check(t, "another user's command", from(goOn).as(t, ben), http.StatusForbidden)
	check(t, "the user's command", from(goOn).as(t, anna), http.StatusOK, id, `"until"`)
}

func TestWhereThePageIsIsSaid(t *testing.T) {
	dir := t.TempDir()
	if got, err := find(dir); got != DefaultListen || err != nil {
		t.Errorf("before: got %q, %v", got, err)
	}
	withdraw, err := Announce(dir, netip.MustParseAddrPort("127.0.0.1:40001"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := find(dir); got != "127.0.0.1:40001" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if info, err := os.Stat(filepath.Join(dir, fileAddress)); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("got %v, %v, want a file that everybody can read", info, err)
	}
	withdraw()
	if got, err := find(dir); got != DefaultListen || err != nil {
		t.Errorf("after: got %q, %v", got, err)
	}
}

func TestAnythingElseThatAnswersIsNoAgent(t *testing.T) {
	for name, body := range map[string]string{"a page": "<html>", "nothing": "", "other JSON": `{"x":1}`, "a problem without a code": `{"message":"x"}`} {
		for _, status := range []int{http.StatusOK, http.StatusNotFound, http.StatusFound} {
			if status == http.StatusOK && name == "other JSON" || status == http.StatusOK && name == "a problem without a code" {
				continue
			}
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(status)
				_, _ = io.WriteString(w, body)
			}))
			c, err := NewClient(srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if all, err := c.List(t.Context()); fault.CodeOf(err) != fault.Unreachable {
				t.Errorf("%s with status %d: got %v, %v", name, status, all, err)
			}
			if _, err := c.Continue(t.Context(), "../x", "y"); fault.CodeOf(err) != fault.Unreachable {
				t.Errorf("%s with status %d: continuing got %v", name, status, err)
			}
			c.Close()
			srv.Close()
		}
	}
}

func TestAClosedSocketIsNobodys(t *testing.T) {
	peers, err := OpenPeers()
	if err != nil {
		t.Fatal(err)
	}
	defer peers.Close()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	from, to := netip.MustParseAddrPort(c.LocalAddr().String()), netip.MustParseAddrPort(l.Addr().String())
	if uid, err := peers.UID(from, to); err != nil || int(uid) != os.Geteuid() {
		t.Errorf("an open one: got %d, %v", uid, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	// The kernel would say it is root's.
	if uid, err := peers.UID(from, to); err == nil {
		t.Errorf("a closed one: got %d, want an error", uid)
	}
}

func TestThePageIsOnLoopbackOnly(t *testing.T) {
	for _, address := range []string{"0.0.0.0:4773", "192.0.2.1:1", "[::1]:4773", "localhost:4773", "4773", "", "127.0.0.2:1"} {
		if _, err := Listen(t.Context(), Config{Listen: address}); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%q: got %v", address, err)
		}
	}
}

func TestAPortThatIsTakenIsNoReasonToHaveNoPage(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s, err := Listen(t.Context(), Config{Listen: taken.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	u, err := url.Parse(s.URL("id"))
	if err != nil || u.Hostname() != "127.0.0.1" || u.Host == taken.Addr().String() || u.Path != "/why/id" {
		t.Errorf("got %s, %v", u, err)
	}
}
