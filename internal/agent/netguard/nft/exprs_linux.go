package nft

import (
	"encoding/binary"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"interdict/internal/agent/netguard"
)

// Keys of enum nft_meta_keys that golang.org/x/sys/unix lacks (Linux 4.20).
const (
	metaInputKind  expr.MetaKey = 26
	metaOutputKind expr.MetaKey = 27
)

// register is the one data register all matches go through; second is the
// register after it for a concatenation whose first part is an IPv4 (four
// bytes) or IPv6 (sixteen bytes) address. See enum nft_registers.
const (
	register = unix.NFT_REG_1
	second4  = unix.NFT_REG32_01
	second6  = unix.NFT_REG_2
)

// The reject statements' parameters; see enum nft_reject_types and
// nft_reject_inet_code.
const (
	rejectTCPReset     = unix.NFT_REJECT_TCP_RST
	rejectICMPX        = unix.NFT_REJECT_ICMPX_UNREACH
	icmpxAdminProhibit = unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED
)

// match is a list of expressions which all must hold, or a list of actions.
type match []expr.Any

func host32(v uint32) []byte { return binaryutil.NativeEndian.PutUint32(v) }
func net16(v uint16) []byte  { return binary.BigEndian.AppendUint16(nil, v) }

func equals(v []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: v}
}

// masked keeps the bits of mask in the register and sets those of set.
func masked(mask, set []byte) expr.Any {
	return &expr.Bitwise{
		SourceRegister: register, DestRegister: register,
		Len: uint32(len(mask)), Mask: mask, Xor: set,
	}
}

func payload(base expr.PayloadBase, offset, length uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: base, Offset: offset, Len: length}
}

func meta(key expr.MetaKey, value []byte) match {
	return match{&expr.Meta{Key: key, Register: register}, equals(value)}
}

func protocol(p byte) match { return meta(expr.MetaKeyL4PROTO, []byte{p}) }
func family(f byte) match   { return meta(expr.MetaKeyNFPROTO, []byte{f}) }

// kind matches the kind of an interface as `ip -d link` shows it: "veth".
func kind(key expr.MetaKey, name string) match {
	value := make([]byte, unix.IFNAMSIZ)
	copy(value, name)
	return meta(key, value)
}

// connectionMark matches a connection whose bits of netguard.MarkMask are v.
func connectionMark(v uint32) match {
	return match{
		&expr.Ct{Key: expr.CtKeyMARK, Register: register},
		masked(host32(netguard.MarkMask), host32(0)),
		equals(host32(v)),
	}
}

// packetMark matches a packet whose bits of netguard.MarkMask are v.
func packetMark(v uint32) match {
	return match{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: register},
		masked(host32(netguard.MarkMask), host32(0)),
		equals(host32(v)),
	}
}

// setConnectionMark writes v into the bits of netguard.MarkMask only.
func setConnectionMark(v uint32) match {
	return match{
		&expr.Ct{Key: expr.CtKeyMARK, Register: register},
		masked(host32(^netguard.MarkMask), host32(v)),
		&expr.Ct{Key: expr.CtKeyMARK, Register: register, SourceRegister: true},
	}
}

// clearPacketMark clears the bits of netguard.MarkMask and no other.
func clearPacketMark() match {
	return match{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: register},
		masked(host32(^netguard.MarkMask), host32(0)),
		&expr.Meta{Key: expr.MetaKeyMARK, Register: register, SourceRegister: true},
	}
}

// replying matches packets against the direction of their connection's first.
func replying() match {
	return match{&expr.Ct{Key: expr.CtKeyDIRECTION, Register: register}, equals([]byte{1})}
}

// trackState matches packets in one of the states of connection tracking.
func trackState(bits uint32) match {
	return match{
		&expr.Ct{Key: expr.CtKeySTATE, Register: register},
		masked(host32(bits), host32(0)),
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: host32(0)},
	}
}

func sourcePort(port uint16) match {
	return match{payload(expr.PayloadBaseTransportHeader, 0, 2), equals(net16(port))}
}

func destPort(port uint16) match {
	return match{payload(expr.PayloadBaseTransportHeader, 2, 2), equals(net16(port))}
}

// hasReset matches TCP segments with the RST flag.
func hasReset() match {
	const rst = 0x04
	return match{
		payload(expr.PayloadBaseTransportHeader, 13, 1),
		masked([]byte{rst}, []byte{0}),
		equals([]byte{rst}),
	}
}

// dest4 and dest6 match packets whose destination address is in a set.
func dest4(set string) match {
	return append(family(unix.NFPROTO_IPV4),
		payload(expr.PayloadBaseNetworkHeader, 16, 4),
		&expr.Lookup{SourceRegister: register, SetName: set})
}

func dest6(set string) match {
	return append(family(unix.NFPROTO_IPV6),
		payload(expr.PayloadBaseNetworkHeader, 24, 16),
		&expr.Lookup{SourceRegister: register, SetName: set})
}

// endpoint4 and endpoint6 match packets whose destination address and port
// are in a set.
func endpoint4(set string) match {
	return append(family(unix.NFPROTO_IPV4),
		payload(expr.PayloadBaseNetworkHeader, 16, 4),
		&expr.Payload{DestRegister: second4, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: register, SetName: set})
}

func endpoint6(set string) match {
	return append(family(unix.NFPROTO_IPV6),
		payload(expr.PayloadBaseNetworkHeader, 24, 16),
		&expr.Payload{DestRegister: second6, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: register, SetName: set})
}

func accept() expr.Any { return &expr.Verdict{Kind: expr.VerdictAccept} }

func jumpTo(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictJump, Chain: chain} }

func goTo(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain} }

func reject(kind uint32, code uint8) expr.Any { return &expr.Reject{Type: kind, Code: code} }

// count adds the packet to a named counter, which unlike one inside a rule
// survives the rule.
func count(c Counter) expr.Any {
	return &expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: string(c)}
}
