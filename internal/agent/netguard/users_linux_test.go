package netguard_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"interdict/internal/agent/account"
	"interdict/internal/agent/netguard"
	"interdict/internal/agent/netguard/conntrack"
	"interdict/internal/agent/netguard/nfqueue"
	"interdict/internal/agent/netguard/nft"
	"interdict/internal/agent/netguard/nft/netnstest"
	"interdict/internal/agent/verdict"
	"interdict/internal/bundle"
	"interdict/internal/indicator"
)

// The users of the host in these tests: the student is in scope.
const (
	student = 40001
	teacher = 40002
)

// endpoint is an agent's data path in a namespace of its own, with a server
// machine at 192.0.2.2 and 192.0.2.3.
type endpoint struct {
	t         *testing.T
	guard     *nft.Guard
	inspector *netguard.Inspector
	cutter    *conntrack.Cutter
}

func newEndpoint(t *testing.T) *endpoint {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		const reason = "NOT TESTED: curl is not installed"
		if os.Getenv("CI") != "" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	p := netnstest.NewPeer(t)
	p.Link("idt-host", []string{"192.0.2.1/24"}, "idt-peer", []string{"192.0.2.2/24", "192.0.2.3/24"})
	serveTLS(t, p)

	etc := t.TempDir()
	writeFile(t, etc, "etc/passwd", "student:x:40001:40000::/:/bin/sh\nteacher:x:40002:40002::/:/bin/sh\n")
	writeFile(t, etc, "etc/group", "students:x:40000:\nteachers:x:40002:\n")
	book := account.New(account.Config{Root: os.DirFS(etc)})
	e := &endpoint{t: t}
	var err error
	if e.inspector, err = netguard.NewInspector(netguard.InspectorConfig{
		Now: time.Now, Users: book, Report: func(o netguard.Observation) { o.Done() },
	}); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	if e.guard, err = nft.New(nft.Config{Logger: log}); err != nil {
		t.Fatal(err)
	}
	if e.cutter, err = conntrack.New(); err != nil {
		t.Fatal(err)
	}
	queues, err := nfqueue.New(nfqueue.Config{Base: 400, Handler: e.inspector, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	if err = queues.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		err := errors.Join(queues.Shutdown(ctx), e.guard.CleanUp(ctx), e.guard.Close(), e.cutter.Close())
		e.inspector.Wait()
		book.Close()
		if err != nil {
			t.Error(err)
		}
	})
	return e
}

// enforce puts records into force, as the agent does.
func (e *endpoint) enforce(records ...bundle.Record) {
	e.t.Helper()
	rs, err := verdict.Compile(blocking(), set(e.t, records...))
	if err != nil {
		e.t.Fatal(err)
	}
	cut := e.inspector.SetRuleset(rs)
	c := netguard.Config{Inspect: true, QueueBase: 400}
	c.Refused, c.Watched = rs.Addresses(time.Now())
	if err := e.guard.Set(e.t.Context(), c); err != nil {
		e.t.Fatal(err)
	}
	flows := make([]netguard.Flow, len(cut))
	for i := range cut {
		flows[i] = cut[i].Flow
	}
	if _, err := e.cutter.Cut(e.t.Context(), flows); err != nil {
		e.t.Fatal(err)
	}
}

// curl is a curl that a user runs, to the name's server.
func (e *endpoint) curl(uid uint32, addr, url string) *exec.Cmd {
	host, _, _ := strings.Cut(strings.TrimPrefix(url, "https://"), "/")
	cmd := exec.CommandContext(e.t.Context(), "curl", "-sSk", "--max-time", "10", "--resolve", host+":443:"+addr, url)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: uid, Gid: uid}, Pdeathsig: syscall.SIGKILL,
	}
	return cmd
}

// works reports whether a user gets the page.
func (e *endpoint) works(uid uint32, addr, url string) bool {
	out, err := e.curl(uid, addr, url).CombinedOutput()
	e.t.Logf("user %d, %s at %s: %q, %v", uid, url, addr, out, err)
	return err == nil && string(out) == "hello\n"
}

func TestTwoUsersOfWhomOneIsInScope(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	e := newEndpoint(t)
	students := indicator.People{IncludeUserGroups: []string{"students"}}
	e.enforce(
		onlyFor(students, block("itunes.apple.com")),
		onlyFor(students, address("a", indicator.TypeIP, "192.0.2.3", indicator.ActionBlock)),
	)
	for _, tt := range []struct {
		name      string
		uid       uint32
		addr, url string
		want      bool
	}{
		{"a name, in scope", student, "192.0.2.2", "https://itunes.apple.com/", false},
		{"a name, not in scope", teacher, "192.0.2.2", "https://itunes.apple.com/", true},
		{"another name, in scope", student, "192.0.2.2", "https://example.com/", true},
		{"an address, in scope", student, "192.0.2.3", "https://example.com/", false},
		{"an address, not in scope", teacher, "192.0.2.3", "https://example.com/", true},
	} {
		if got := e.works(tt.uid, tt.addr, tt.url); got != tt.want {
			t.Errorf("%s: works %t, want %t", tt.name, got, tt.want)
		}
	}
}

func TestOnlyTheConnectionOfTheUserInScopeIsCut(t *testing.T) {
	if !netnstest.Isolated(t) {
		return
	}
	e := newEndpoint(t)
	e.enforce()
	type download struct {
		lines <-chan string
		ended <-chan error
	}
	all := make(map[uint32]download)
	for _, uid := range []uint32{student, teacher} {
		cmd := e.curl(uid, "192.0.2.2", "https://itunes.apple.com/endless")
		cmd.Args = append(cmd.Args, "-N")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, ended := make(chan string), make(chan error, 1)
		go func() {
			for sc := bufio.NewScanner(out); sc.Scan(); {
				select {
				case lines <- sc.Text():
				case <-t.Context().Done():
				}
			}
			ended <- cmd.Wait()
		}()
		all[uid] = download{lines, ended}
		<-lines // It is open.
	}
	e.enforce(onlyFor(indicator.People{IncludeUsers: []string{"student"}}, block("itunes.apple.com")))
	for end := false; !end; {
		select {
		case <-all[student].lines:
		case err := <-all[student].ended:
			if err == nil {
				t.Error("the download of the user in scope ended well")
			}
			end = true
		case <-time.After(5 * time.Second):
			t.Fatal("the download of the user in scope goes on")
		}
	}
	for range 3 {
		select {
		case <-all[teacher].lines:
		case err := <-all[teacher].ended:
			t.Fatalf("the download of the other user ended: %v", err)
		}
	}
}

// serveTLS serves every name at the peer's addresses: "hello", or below
// /endless a line every few milliseconds.
func serveTLS(t *testing.T, p *netnstest.Peer) {
	t.Helper()
	var listener net.Listener
	p.Do(func() (err error) {
		listener, err = net.Listen("tcp", ":443")
		return err
	})
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello\n") })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, "more\n"); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
			<-tick.C
		}
	})
	s := &http.Server{
		Handler: mux, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate(t)}, MinVersion: tls.VersionTLS12},
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.ServeTLS(listener, "", "")
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
}

// certificate is one that signs itself, for whoever does not check.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func writeFile(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
