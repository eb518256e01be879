package sniff

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/miekg/dns"
)

// Keys of RFC 9460, section 14.3.2, and RFC 9848.
const (
	paramMandatory = 0
	paramIPv4Hint  = 4
	paramECH       = 5
	paramIPv6Hint  = 6
	// Private use, which clients pass over unless it is mandatory.
	paramPrivate     = 65280
	paramPrivateLast = 65534

	paramHeader = 4
)

// svcParam is one SvcParam; raw is all of it, key and length included.
type svcParam struct {
	key        uint16
	value, raw []byte
}

// service returns where the target name and the parameters of an HTTPS or
// SVCB record begin (RFC 9460, section 2.2).
func (m *message) service(rec *record) (target, params int, ok bool) {
	const priority = 2
	target = rec.data + priority
	if target > rec.end {
		return 0, 0, false
	}
	params, _, ok = skipName(m.msg[:rec.end], target)
	return target, params, ok
}

// svcParams yields the parameters in b. The second value is true, once and at
// the end, when b does not end with a parameter.
func svcParams(b []byte) iter.Seq2[svcParam, bool] {
	return func(yield func(svcParam, bool) bool) {
		for len(b) > 0 {
			end := paramHeader
			if len(b) >= paramHeader {
				end += int(binary.BigEndian.Uint16(b[2:]))
			}
			if end > len(b) {
				yield(svcParam{}, true)
				return
			}
			p := svcParam{key: binary.BigEndian.Uint16(b), value: b[paramHeader:end], raw: b[:end]}
			if !yield(p, false) {
				return
			}
			b = b[end:]
		}
	}
}

// StripECH takes the keys for Encrypted ClientHello out of the HTTPS and SVCB
// records of an answer, so that clients send the name in the clear. It
// reports whether there were any; when not, the answer is returned as it is.
// Msg is never changed.
//
// The result has the length of msg, whatever carries it. The room of the ech
// parameter, and of its mention in mandatory, goes to a parameter of the
// private range behind all others, with zeros for a value: clients pass over
// keys they do not know (RFC 9460, section 2.4.3). So nothing moves that a
// compressed name points to.
//
// The AD bit is cleared, since nobody has validated the result. Signatures
// stay where they are: to a client that validates by itself the record is
// bogus with them or without.
func StripECH(msg []byte) (stripped []byte, changed bool, err error) {
	m, err := parseMessage(msg)
	if err != nil {
		return nil, false, err
	}
	out := msg
	for i := range m.records {
		rec := &m.records[i]
		_, params, ok := m.service(rec)
		if !ok || rec.kind != dns.TypeHTTPS && rec.kind != dns.TypeSVCB || !hasECH(msg[params:rec.end]) {
			continue
		}
		if !changed {
			out, changed = append([]byte(nil), msg...), true
			out[3] &^= 0x20 // AD
		}
		if err := overwriteECH(out[params:rec.end], msg[params:rec.end]); err != nil {
			return nil, false, fmt.Errorf("removing ech from record %d: %w", i+1, err)
		}
	}
	// A name may point into a parameter, though no server has a reason to:
	// then it may no longer be one.
	if changed && new(dns.Msg).Unpack(out) != nil {
		return nil, false, errors.New("removing ech: the answer would not be readable")
	}
	return out, changed, nil
}

func hasECH(params []byte) bool {
	for p := range svcParams(params) {
		if p.key == paramECH && p.raw != nil {
			return true
		}
	}
	return false
}

// overwriteECH writes the parameters in src to dst, which has the same
// length, with filler in place of ech.
func overwriteECH(dst, src []byte) error {
	out, last := dst[:0], 0
	for p, broken := range svcParams(src) {
		if broken {
			return errors.New("its parameters are broken")
		}
		last = max(last, int(p.key))
		switch p.key {
		case paramECH:
		case paramMandatory:
			out = appendMandatory(out, p)
		default:
			out = append(out, p.raw...)
		}
	}
	key := max(last+1, paramPrivate)
	if key > paramPrivateLast {
		return errors.New("no key is left for the filler")
	}
	filler := dst[len(out):]
	clear(filler)
	binary.BigEndian.PutUint16(filler, uint16(key))
	binary.BigEndian.PutUint16(filler[2:], uint16(len(filler)-paramHeader))
	return nil
}

// appendMandatory appends the parameter mandatory without ech, and nothing
// when no other key is left: it may not be empty.
func appendMandatory(out []byte, p svcParam) []byte {
	start := len(out)
	out = append(out, p.raw[:paramHeader]...)
	for v := p.value; len(v) >= 2; v = v[2:] {
		if binary.BigEndian.Uint16(v) != paramECH {
			out = append(out, v[:2]...)
		}
	}
	n := len(out) - start - paramHeader
	if n == 0 {
		return out[:start]
	}
	binary.BigEndian.PutUint16(out[start+2:], uint16(n))
	return out
}
