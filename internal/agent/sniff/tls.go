package sniff

import (
	"bytes"

	"golang.org/x/crypto/cryptobyte"

	"interdict/internal/event"
)

// Numbers of RFC 8446 (sections 4, 4.2, 5.1), RFC 6066 (section 3) and
// RFC 9849 (section 5).
const (
	recordHandshake  = 22
	recordHeader     = 5
	maxRecord        = 1 << 14
	typeClientHello  = 1
	handshakeHeader  = 4
	extServerName    = 0
	extECH           = 0xfe0d
	nameTypeHostName = 0
)

// tlsReader takes the handshake bytes out of a TLS record layer. Each record
// is looked at once, when it is whole.
type tlsReader struct {
	// pos is where the first record begins that was not taken yet.
	pos int
	// hello holds the handshake bytes of the records taken, when there
	// was more than one.
	hello []byte
}

// read goes on with a connection of which data are the bytes from the first
// record on.
func (r *tlsReader) read(data []byte) Finding {
	for {
		fragment, whole, ok := nextRecord(data[r.pos:])
		switch {
		case !ok:
			return nameless(ReasonMalformed)
		case !whole:
			return Finding{}
		}
		r.pos += recordHeader + len(fragment)
		message := fragment
		if r.hello != nil {
			r.hello = append(r.hello, fragment...)
			message = r.hello
		}
		if f := readHello(message, event.EvidenceTLSSNI); f.State != Undecided {
			return f
		}
		if r.hello == nil {
			r.hello = bytes.Clone(fragment)
		}
	}
}

// giveUp looks for the name in what there is: a ClientHello that is too long
// to be held may still have said it at its start.
func (r *tlsReader) giveUp(data []byte) Finding {
	message := r.hello
	if rest := data[r.pos:]; len(rest) > recordHeader {
		message = append(message, rest[recordHeader:]...)
	}
	if len(message) > handshakeHeader {
		if f := helloFinding(message[handshakeHeader:], event.EvidenceTLSSNI); f.State == Named {
			return f
		}
	}
	return nameless(ReasonLimit)
}

// nextRecord returns the fragment of the record at the start of data. It is
// whole only when all of it is there; ok is false when data cannot be a
// handshake record. Empty fragments are forbidden (RFC 8446, section 5.1), but
// servers such as OpenSSL's pass over them, and so do we.
func nextRecord(data []byte) (fragment []byte, whole, ok bool) {
	if len(data) > 0 && data[0] != recordHandshake || len(data) > 1 && data[1] != 3 {
		return nil, false, false
	}
	if len(data) < recordHeader {
		return nil, false, true
	}
	n := int(data[3])<<8 | int(data[4])
	if n > maxRecord {
		return nil, false, false
	}
	data = data[recordHeader:]
	if len(data) < n {
		return nil, false, true
	}
	return data[:n], true, true
}

// readHello reads handshake bytes, which a TCP connection carries in records
// and QUIC in CRYPTO frames. It looks into the ClientHello only when that is
// complete: encrypted_client_hello may stand after the name.
func readHello(message []byte, how event.Evidence) Finding {
	if len(message) > 0 && message[0] != typeClientHello {
		return nameless(ReasonMalformed)
	}
	if len(message) < handshakeHeader {
		return Finding{}
	}
	n := int(message[1])<<16 | int(message[2])<<8 | int(message[3])
	message = message[handshakeHeader:]
	if len(message) < n {
		return Finding{}
	}
	return helloFinding(message[:n], how)
}

// helloFinding reads a ClientHello's body (RFC 8446, section 4.1.2). A fault
// behind the name does not take the name back: the server sees it, and so do
// we.
func helloFinding(body cryptobyte.String, how event.Evidence) Finding {
	const versionAndRandom = 2 + 32
	var session, ciphers, compression cryptobyte.String
	if !body.Skip(versionAndRandom) ||
		!body.ReadUint8LengthPrefixed(&session) ||
		!body.ReadUint16LengthPrefixed(&ciphers) ||
		!body.ReadUint8LengthPrefixed(&compression) {
		return nameless(ReasonMalformed)
	}
	if body.Empty() {
		return nameless(ReasonNoName)
	}
	name, ech, ok := readExtensions(body)
	var f Finding
	switch {
	case name != nil:
		f = destination(name, 0, how)
	case !ok:
		f = nameless(ReasonMalformed)
	default:
		f = nameless(ReasonNoName)
	}
	f.ECH = ech
	return f
}

// readExtensions returns what the extensions of a ClientHello say. Name is
// nil when there is no server_name; ok is false when they end too early.
func readExtensions(exts cryptobyte.String) (name []byte, ech, ok bool) {
	if !exts.Skip(2) {
		return nil, false, false
	}
	for !exts.Empty() {
		var kind uint16
		var data cryptobyte.String
		if !exts.ReadUint16(&kind) || !exts.ReadUint16LengthPrefixed(&data) {
			return name, ech, false
		}
		switch {
		case kind == extECH:
			ech = true
		case kind == extServerName && name == nil:
			name = readServerName(data)
		}
	}
	return name, ech, true
}

// readServerName returns the first host_name of a ServerNameList (RFC 6066,
// section 3). It is empty, not nil, when the list is broken: the client meant
// to say a name.
func readServerName(data cryptobyte.String) []byte {
	var list cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) {
		return []byte{}
	}
	for !list.Empty() {
		var kind uint8
		var value cryptobyte.String
		if !list.ReadUint8(&kind) || !list.ReadUint16LengthPrefixed(&value) {
			break
		}
		if kind == nameTypeHostName && len(value) > 0 {
			return value
		}
	}
	return []byte{}
}
