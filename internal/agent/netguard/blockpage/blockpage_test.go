package blockpage

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/sniff"
	"interdict/internal/agent/wording"
)

const (
	get    = "GET /store?id=1 HTTP/1.1\r\nHost: tunes.example\r\nAccept: text/html,*/*;q=0.8\r\nAccept-Language: de-DE, en;q=0.5\r\n\r\n"
	seq    = 0xffff_fff0
	ack    = 77
	whyURL = "http://127.0.0.1:5771/why/AAAAAAAAAAAAAAAAAAAAAA"
)

// ends are those of a connection.
type ends struct{ from, to netip.AddrPort }

func ends4() ends {
	return ends{netip.MustParseAddrPort("192.0.2.1:40001"), netip.MustParseAddrPort("198.51.100.2:80")}
}

func ends6() ends {
	return ends{netip.MustParseAddrPort("[2001:db8::1]:40001"), netip.MustParseAddrPort("[2001:db8:1::2]:80")}
}

// asking is a client's segment, with options that Linux sends.
func asking(e ends, payload string) []byte {
	t := make([]byte, tcpLength)
	binary.BigEndian.PutUint16(t, e.from.Port())
	binary.BigEndian.PutUint16(t[2:], e.to.Port())
	binary.BigEndian.PutUint32(t[4:], seq)
	binary.BigEndian.PutUint32(t[8:], ack)
	t[13] = byte(sniff.FlagACK | sniff.FlagPSH)
	t = append(t, 1, 1, 8, 10, 0, 0, 0, 11, 0, 0, 0, 22)
	t[12] = byte(len(t) / 4 << 4)
	t = append(t, payload...)
	if e.from.Addr().Is4() {
		ip := make([]byte, ipv4Length)
		ip[0], ip[8], ip[9] = 0x45, 64, sniff.ProtocolTCP
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+len(t)))
		copy(ip[12:], e.from.Addr().AsSlice())
		copy(ip[16:], e.to.Addr().AsSlice())
		return append(ip, t...)
	}
	ip := make([]byte, ipv6Length)
	ip[0], ip[6], ip[7] = 0x60, sniff.ProtocolTCP, 64
	binary.BigEndian.PutUint16(ip[4:], uint16(len(t)))
	copy(ip[8:], e.from.Addr().AsSlice())
	copy(ip[24:], e.to.Addr().AsSlice())
	return append(ip, t...)
}

func TestWhatCanBeAnswered(t *testing.T) {
	host := "Host: tunes.example\r\n"
	tests := []struct {
		name, payload string
		want          bool
	}{
		{"a GET", get, true},
		{"a HEAD", "HEAD / HTTP/1.1\r\n" + host + "\r\n", true},
		{"an old GET", "GET / HTTP/1.0\r\n" + host + "\r\n", true},
		{"a GET for a proxy", "GET http://tunes.example/a HTTP/1.1\r\n" + host + "\r\n", true},
		{"the request for a WebSocket", "GET / HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", true},
		{"a POST", "POST / HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n", false},
		{"a method nobody knows", "GETTER / HTTP/1.1\r\n" + host + "\r\n", false},
		{"a tunnel", "CONNECT tunes.example:443 HTTP/1.1\r\n" + host + "\r\n", false},
		{"a GET with a body", "GET / HTTP/1.1\r\n" + host + "Content-Length: 4\r\n\r\n", false},
		{"a GET with chunks", "GET / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n", false},
		{"a head that goes on", strings.TrimSuffix(get, "\r\n"), false},
		{"two requests at once", get + get, false},
		{"a head and more", get + "x", false},
		{"an end that is there twice", get + "\r\n", false},
		{"lines that end in a line feed alone", strings.ReplaceAll(get, "\r\n", "\n"), false},
		{"one line that does", "GET / HTTP/1.1\r\n" + host + "A: b\nContent-Length: 4\r\n\r\n", false},
		{"a line that is continued", "GET / HTTP/1.1\r\n" + host + "A: b\r\n Content-Length: 4\r\n\r\n", false},
		{"a space before the colon", "GET / HTTP/1.1\r\n" + host + "Content-Length : 4\r\n\r\n", false},
		{"no host", "GET / HTTP/1.1\r\n\r\n", false},
		{"an address for a host", "GET / HTTP/1.1\r\nHost: 192.0.2.7\r\n\r\n", false},
		{"the rest of a request", "Host: tunes.example\r\n\r\n", false},
		{"TLS", "\x16\x03\x01\x00\x05hello", false},
		{"nothing", "", false},
		{"three bytes", "GET", false},
	}
	for _, tt := range tests {
		for _, e := range []ends{ends4(), ends6()} {
			if _, ok := Read(asking(e, tt.payload)); ok != tt.want {
				t.Errorf("%s from %v: got %v, want %v", tt.name, e.from, ok, tt.want)
			}
		}
	}
}

func TestWhichPacketsCanBeAnswered(t *testing.T) {
	change := func(e ends, at int, value byte) []byte {
		p := asking(e, get)
		p[at] = value
		return p
	}
	port := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	const flags4, options4 = ipv4Length + 13, ipv4Length + tcpLength
	tests := []struct {
		name   string
		packet []byte
		want   bool
	}{
		{"data", change(ends4(), flags4, 0x18), true},
		{"data about which a router had something to say", change(ends4(), flags4, 0xd8), true},
		{"data without acknowledgement", change(ends4(), flags4, 0x08), false},
		{"data on a SYN", change(ends4(), flags4, 0x1a), false},
		{"data and the end", change(ends4(), flags4, 0x19), false},
		{"a reset", change(ends4(), flags4, 0x14), false},
		{"urgent data", change(ends4(), flags4, 0x38), false},
		{"an option that is too long", change(ends4(), options4+3, 200), false},
		{"an option of no length", change(ends4(), options4+3, 0), false},
		{"an odd timestamp", change(ends4(), options4+3, 8), false},
		{"options that end early", change(ends4(), options4, 0), true},
		{"not even an IP header", []byte{0x45}, false},
		{"no packet", nil, false},
		{"from an address with a zone", asking(ends{port("[fe80::1]:4000"), port("[fe80::2]:80")}, get), false},
		{"to an address with a zone", asking(ends{port("[2001:db8::1]:4000"), port("[fe80::2]:80")}, get), false},
		{"over loopback", asking(ends{port("127.0.0.1:4000"), port("127.0.0.1:80")}, get), true},
	}
	for _, tt := range tests {
		if _, ok := Read(tt.packet); ok != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, ok, tt.want)
		}
	}
}

func TestTheRequestSaysHowItWantsToBeAnswered(t *testing.T) {
	tests := []struct {
		fields string
		html   bool
		want   wording.Language
	}{
		{"", false, wording.English},
		{"Accept: */*\r\n", false, wording.English},
		{"Accept: TEXT/HTML;q=0.9\r\naccept-language: de\r\n", true, wording.German},
		{"Accept: text/html;q=0, */*\r\n", false, wording.English},
		{"Accept: image/png\r\nAccept: text/html;charset=utf-8\r\n", true, wording.English},
		{"Accept: text/htmlx\r\nAccept-Language: en, de\r\n", false, wording.English},
	}
	for _, tt := range tests {
		r, ok := Read(asking(ends4(), "GET / HTTP/1.1\r\nHost: tunes.example\r\n"+tt.fields+"\r\n"))
		if !ok || r.HTML != tt.html || r.Language != tt.want || r.Head {
			t.Errorf("%q: got %v, HTML %v in %q, want HTML %v in %q", tt.fields, ok, r.HTML, r.Language, tt.html, tt.want)
		}
	}
}

// received reads a response as a client does.
func received(t *testing.T, raw []byte, method string) (http.Header, string) {
	t.Helper()
	rest := bufio.NewReader(bytes.NewReader(raw))
	response, err := http.ReadResponse(rest, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("no response: %v\n%s", err, raw)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("no whole response: %v\n%s", err, raw)
	}
	if n, _ := rest.Peek(1); len(n) > 0 {
		t.Errorf("something follows the response:\n%s", raw)
	}
	if response.StatusCode != http.StatusForbidden || !response.Close {
		t.Errorf("got %s, or it stays open:\n%s", response.Status, raw)
	}
	return response.Header, string(body)
}

func TestTheAnswerSaysWhatAndWhy(t *testing.T) {
	why := netguard.Explanation{App: "Tunes & <b>Films</b>", Host: "tunes.example", URL: whyURL}
	plain := netguard.Explanation{Host: "tunes.example"}
	helped := netguard.Explanation{App: "Tunes", Host: "tunes.example", URL: whyURL, Contact: "I<T>", Support: "https://help.example/?a=1&b=%22"}
	running := netguard.Explanation{Host: "tunes.example", Support: "javascript:alert(1)"}
	warned := netguard.Explanation{App: "Tunes", Host: "tunes.example", URL: whyURL, Warned: true}
	tests := []struct {
		name    string
		request Request
		why     netguard.Explanation
		want    []string
		absent  string
	}{
		{
			"a page in English",
			Request{HTML: true, Language: wording.English},
			why,
			[]string{`<html lang="en">`, "<h1>Tunes &amp; &lt;b&gt;Films&lt;/b&gt; is blocked</h1>", "tunes.example", `<a href="` + whyURL + `">`},
			"<b>",
		},
		{
			"a page in German",
			Request{HTML: true, Language: wording.German},
			why,
			[]string{`<html lang="de">`, "Tunes &amp; &lt;b&gt;Films", "Organisation", "tunes.example", `<a href="` + whyURL + `">`},
			"blocked",
		},
		{"a warning", Request{HTML: true, Language: wording.English}, warned, []string{"You may go on", `<a href="` + whyURL + `">`}, "is blocked"},
		{"text", Request{Language: wording.English}, why, []string{"Tunes & <b>Films</b> is blocked\n", "tunes.example\n", " " + whyURL + "\n"}, "html"},
		{
			"whom to ask, in a page",
			Request{HTML: true, Language: wording.English},
			helped,
			[]string{"<p>Ask I&lt;T&gt; if", `<p><a href="https://help.example/?a=1&amp;b=%22">Open the help page`, `<a href="` + whyURL + `">`},
			"I<T>",
		},
		{
			"whom to ask, in text and German",
			Request{Language: wording.German},
			helped,
			[]string{"hilft weiter: I<T>.\n", "Hilfeseite Ihrer Organisation öffnen: " + helped.Support + "\n"},
			"&amp;",
		},
		{"an address of help that runs something", Request{HTML: true, Language: wording.English}, running, []string{"tunes.example"}, "alert"},
		{"neither app nor address", Request{HTML: true, Language: wording.English}, plain, []string{"<h1>tunes.example is blocked</h1>"}, "href"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			header, body := received(t, Response(tt.request, tt.why), http.MethodGet)
			if header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(header.Get("Content-Security-Policy"), "default-src 'none'") {
				t.Errorf("got %v", header)
			}
			want := "text/plain; charset=utf-8"
			if tt.request.HTML {
				want = "text/html; charset=utf-8"
			}
			if got := header.Get("Content-Type"); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			for _, want := range tt.want {
				if !strings.Contains(body, want) {
					t.Errorf("%q is missing in:\n%s", want, body)
				}
			}
			if strings.Contains(body, tt.absent) {
				t.Errorf("%q is in:\n%s", tt.absent, body)
			}
		})
	}
}

func TestTheAnswerToHEADIsThatToGETWithoutItsBody(t *testing.T) {
	why := netguard.Explanation{App: "Tunes", Host: "tunes.example", URL: whyURL}
	whole := Response(Request{}, why)
	got := Response(Request{Head: true}, why)
	if head, _, _ := bytes.Cut(whole, []byte("\r\n\r\n")); string(head)+"\r\n\r\n" != string(got) {
		t.Errorf("got\n%swant\n%s", got, head)
	}
	received(t, got, http.MethodHead)
}

func TestTheAnswerFitsIntoOneSegmentHoweverLongTheNames(t *testing.T) {
	for _, long := range []string{"a", "ä", `"`, "\xff", "日本"} {
		for _, l := range []wording.Language{wording.English, wording.German} {
			for _, n := range []int{1, 10, 100, 1000, 10000} {
				why := netguard.Explanation{App: strings.Repeat(long, n), Host: strings.Repeat(long, n), URL: whyURL + strings.Repeat("a", 150)}
				why.Contact, why.Support = strings.Repeat(long, n), "https://help.example/"+strings.Repeat("a", n)
				raw := Response(Request{HTML: true, Language: l}, why)
				if len(raw) > maxResponse {
					t.Errorf("%d times %q in %s: %d bytes, want at most %d", n, long, l, len(raw), maxResponse)
				}
				if _, body := received(t, raw, http.MethodGet); !strings.HasSuffix(body, "</html>") || !strings.Contains(body, whyURL) {
					t.Errorf("%d times %q in %s: got\n%s", n, long, l, body)
				}
			}
		}
	}
}

func TestWhomToAskGivesWayToTheReason(t *testing.T) {
	const help = "https://help.example/"
	tests := []struct {
		name          string
		app           int
		help          int
		asked, helped bool
	}{
		{"both fit", 20, 20, true, true},
		{"a long address of help", 20, 500, true, false},
		{"a long name", 160, 20, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			why := netguard.Explanation{
				App: strings.Repeat("a", tt.app), Host: "tunes.example", URL: whyURL,
				Contact: strings.Repeat("c", 120), Support: help + strings.Repeat("h", tt.help),
			}
			_, body := received(t, Response(Request{HTML: true, Language: wording.English}, why), http.MethodGet)
			if got := strings.Contains(body, why.Contact); got != tt.asked {
				t.Errorf("whom to ask is there: %v, want %v", got, tt.asked)
			}
			if got := strings.Contains(body, help); got != tt.helped {
				t.Errorf("the address of help is there: %v, want %v", got, tt.helped)
			}
			if !strings.Contains(body, why.App) || !strings.Contains(body, whyURL) {
				t.Errorf("the reason is missing in:\n%s", body)
			}
		})
	}
}

// verify checks what a receiver checks before it looks at sequence numbers.
func verify(t *testing.T, segment []byte) sniff.Packet {
	t.Helper()
	got, err := sniff.ParsePacket(segment)
	if err != nil {
		t.Fatalf("the segment cannot be read: %v", err)
	}
	if got.IPHeader == ipv4Length && fold(sum(0, segment[:ipv4Length])) != 0xffff {
		t.Error("the IPv4 header's checksum is wrong")
	}
	body := segment[got.IPHeader:]
	pseudo := sum(sum(uint64(len(body))+sniff.ProtocolTCP, got.Source.Addr().AsSlice()), got.Dest.Addr().AsSlice())
	if fold(sum(pseudo, body)) != 0xffff {
		t.Error("the TCP checksum is wrong")
	}
	return got
}

func TestTheSegmentLooksLikeTheServers(t *testing.T) {
	for _, e := range []ends{ends4(), ends6()} {
		packet := asking(e, get)
		r, ok := Read(packet)
		if !ok {
			t.Fatal("the request cannot be answered")
		}
		got := verify(t, r.Segment(packet, []byte("odd")))
		if got.Source != e.to || got.Dest != e.from || string(got.Payload) != "odd" {
			t.Errorf("got %q from %v to %v", got.Payload, got.Source, got.Dest)
		}
		if got.Seq != ack || got.Flags != sniff.FlagACK|sniff.FlagPSH|sniff.FlagFIN {
			t.Errorf("got sequence number %d, flags %x", got.Seq, got.Flags)
		}
		segment := r.Segment(packet, []byte("odd"))
		past := uint32(seq) // The number wraps.
		past += uint32(len(get))
		if n := binary.BigEndian.Uint32(segment[got.IPHeader+8:]); n != past {
			t.Errorf("%d was acknowledged, want %d", n, past)
		}
		if options := segment[got.IPHeader+tcpLength : got.Header]; !bytes.Equal(options, []byte{1, 1, 8, 10, 0, 0, 0, 22, 0, 0, 0, 11}) {
			t.Errorf("got options %v", options)
		}
	}
}

func TestASegmentHasTimestampsOnlyIfTheRequestHas(t *testing.T) {
	packet := asking(ends4(), get)
	for i := range 12 {
		packet[ipv4Length+tcpLength+i] = optionNone
	}
	r, ok := Read(packet)
	if !ok {
		t.Fatal("the request cannot be answered")
	}
	if got := verify(t, r.Segment(packet, []byte("x"))); got.Header != ipv4Length+tcpLength {
		t.Errorf("got %d bytes of headers", got.Header)
	}
}

func FuzzRead(f *testing.F) {
	for _, e := range []ends{ends4(), ends6()} {
		f.Add(asking(e, get), "Tunes")
		f.Add(asking(e, "HEAD http://a.example/ HTTP/1.0\r\n\r\n"), "\xff")
		f.Add(asking(e, ""), "")
	}
	f.Fuzz(func(t *testing.T, packet []byte, app string) {
		r, ok := Read(packet)
		if !ok {
			return
		}
		response := Response(r, netguard.Explanation{App: app, Host: app, URL: whyURL})
		got := verify(t, r.Segment(packet, response))
		if got.Source != r.segment.Dest || got.Dest != r.segment.Source || len(got.Payload) > maxResponse {
			t.Errorf("got %d bytes from %v to %v", len(got.Payload), got.Source, got.Dest)
		}
	})
}
