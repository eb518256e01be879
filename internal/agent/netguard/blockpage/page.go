package blockpage

import (
	"fmt"
	"html"
	"net/url"
	"strings"

	"interdict/internal/agent/netguard"
	"interdict/internal/agent/wording"
)

const (
	// maxResponse is what fits into one segment, with timestamps, of the
	// smallest packet that IPv6 lets a link be limited to (RFC 8200, section
	// 5).
	maxResponse = 1280 - ipv6Length - tcpLength - (timestampsLength + 2)
	// maxURL bounds the address of the why page, and maxText a name.
	maxURL  = 200
	maxText = 256
)

// Response is the whole answer to a request: a status line, header fields and,
// unless the request was HEAD, a body. It fits into one segment: where that is
// too small the address of help is left out, then whom to ask, and then names
// are cut.
func Response(r Request, e netguard.Explanation) []byte {
	if len(e.URL) > maxURL {
		e.URL = ""
	}
	if !onWeb(e.Support) {
		e.Support = ""
	}
	e.Contact = cut(e.Contact, maxText)
	for limit := maxText; ; limit /= 2 {
		bare := e
		bare.App, bare.Host = cut(e.App, limit), cut(e.Host, limit)
		whole, asking := bare, bare
		bare.Contact, bare.Support, asking.Support = "", "", ""
		for _, fewer := range []netguard.Explanation{whole, asking, bare} {
			if response := assemble(r, fewer); len(response) <= maxResponse {
				return response
			}
		}
		if limit == 0 {
			return assemble(r, bare)
		}
	}
}

// onWeb reports whether s is the address of a page.
func onWeb(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != ""
}

func assemble(r Request, e netguard.Explanation) []byte {
	kind, body := "text/plain", text(r.Language, e)
	if r.HTML {
		kind, body = "text/html", page(r.Language, e)
	}
	response := fmt.Appendf(nil, "HTTP/1.1 403 Forbidden\r\n"+
		"Content-Type: %s; charset=utf-8\r\n"+
		"Content-Language: %s\r\n"+
		"Content-Length: %d\r\n"+
		"Content-Security-Policy: default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"+
		"X-Content-Type-Options: nosniff\r\n"+
		"Referrer-Policy: no-referrer\r\n"+
		"Cache-Control: no-store\r\n"+
		"Connection: close\r\n\r\n", kind, r.Language, len(body))
	if r.Head {
		return response
	}
	return append(response, body...)
}

// said is what an answer says, in the words of one language.
type said struct{ title, sentence, address, host, link, ask, help string }

func say(l wording.Language, e netguard.Explanation) said {
	t := wording.For(l)
	s := said{title: t.PageBlocked, sentence: t.AppBlocked, address: t.Address, host: e.Host, link: t.Why, help: t.AskLink}
	if e.Contact != "" {
		s.ask = wording.Fill(t.AskBody, "contact", e.Contact)
	}
	if e.Warned {
		s.title, s.sentence = t.PageWarned, t.AppWarned
	}
	app := e.App
	if app == "" {
		app = e.Host
		s.sentence = t.HostBlocked
		if e.Warned {
			s.sentence = t.HostWarned
		}
	}
	s.title = wording.Fill(s.title, "app", app)
	s.sentence = wording.Fill(s.sentence, "app", app, "host", e.Host)
	return s
}

func text(l wording.Language, e netguard.Explanation) string {
	s := say(l, e)
	body := fmt.Sprintf("%s\n\n%s\n%s: %s\n", s.title, s.sentence, s.address, s.host)
	if e.URL != "" {
		body += fmt.Sprintf("%s %s\n", s.link, e.URL)
	}
	if s.ask != "" {
		body += s.ask + "\n"
	}
	if e.Support != "" {
		body += fmt.Sprintf("%s: %s\n", s.help, e.Support)
	}
	return body
}

// page is a web page that needs nothing else.
func page(l wording.Language, e netguard.Explanation) string {
	s := say(l, e)
	body := fmt.Sprintf(`<!DOCTYPE html><html lang="%s"><head><meta charset="utf-8">`+
		`<meta name="viewport" content="width=device-width"><title>%s</title></head>`+
		`<body><main><h1>%[2]s</h1><p>%s</p><p>%s: %s</p>`,
		l, html.EscapeString(s.title), html.EscapeString(s.sentence), html.EscapeString(s.address), html.EscapeString(s.host))
	if e.URL != "" {
		body += fmt.Sprintf(`<p><a href="%s">%s</a></p>`, html.EscapeString(e.URL), html.EscapeString(s.link))
	}
	if s.ask != "" {
		body += fmt.Sprintf(`<p>%s</p>`, html.EscapeString(s.ask))
	}
	if e.Support != "" {
		body += fmt.Sprintf(`<p><a href="%s">%s</a></p>`, html.EscapeString(e.Support), html.EscapeString(s.help))
	}
	return body + `</main></body></html>`
}

// cut cuts s to at most n bytes, between two characters, and without what is
// no text.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
