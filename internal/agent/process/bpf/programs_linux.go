package bpf

import (
	"encoding/binary"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// license of the programs below. The kernel lends the functions that read a
// process's memory only to programs that are also under the GPL.
const license = "Dual MIT/GPL"

// Where the programs at connect and sendmsg keep things on its stack, from the frame
// pointer down.
const (
	stackCookie = -8
	stackOwner  = stackCookie - ownerSize
	// stackRecent is the key of the map of recent announcements: process,
	// image and thread name.
	stackRecent = stackOwner - recentKeySize
	stackWord   = stackRecent - 8
	stackTime   = stackWord - 8

	recentKeySize = 32
)

// announceEvery is how often a process is announced again, in nanoseconds.
const announceEvery = 1_000_000_000

// opTCPConnect is BPF_SOCK_OPS_TCP_CONNECT_CB: an outbound handshake is about
// to begin.
const opTCPConnect = 3

// Offsets in struct bpf_sock_ops (linux/bpf.h).
const (
	opsOp         = 0
	opsFamily     = 20
	opsRemoteIP4  = 24
	opsLocalIP4   = 28
	opsRemoteIP6  = 32
	opsLocalIP6   = 48
	opsRemotePort = 64
	opsLocalPort  = 68
)

// Offsets in struct bpf_sock (linux/bpf.h).
const (
	sockFamily   = 4
	sockProtocol = 12
)

// afInet is AF_INET, as these structures have it.
const afInet = 2

// mappedPrefix is the last word before the address of an IPv4-mapped IPv6
// address, in network byte order.
var mappedPrefix = [4]byte{0, 0, 0xff, 0xff}

// program is what the programs are generated from: the maps they write to
// and what is known before they are loaded.
type program struct {
	owners, tuples, recent, events *ebpf.Map
	scope                          Scope
	netns                          uint64
	// image and sock are nil where the kernel's types are not known.
	image *imageOffsets
	sock  *sockOffsets
}

// imageOffsets says where the kernel keeps the memory of a process.
type imageOffsets struct {
	taskMM, argStart, argEnd, envEnd uint32
}

// sockOffsets says where the kernel keeps the ends of a socket.
type sockOffsets struct {
	local4, remote4, local6, remote6, localPort, remotePort uint32
}

// connect generates the program at connect(2).
func (p *program) connect() asm.Instructions { return p.use(nil) }

// sendmsg generates the program at sendmsg(2). It runs for every datagram and
// therefore leaves at once when it has seen the socket in the same process
// before.
func (p *program) sendmsg() asm.Instructions { return p.use(p.leaveIfKnown()) }

// use generates a program that records the use of a socket, with shortcut put
// in once the cookie and the process are known. It returns 1: go on.
//
// Registers: r6 context, r7 namespace and later the process's memory, r8
// process and thread id, r9 the announcement.
func (p *program) use(shortcut asm.Instructions) asm.Instructions {
	prog := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.FnGetNetnsCookie.Call(),
		asm.Mov.Reg(asm.R7, asm.R0),
	}
	if p.scope == ScopeNamespace {
		prog = append(prog,
			asm.LoadImm(asm.R1, int64(p.netns), asm.DWord),
			asm.JNE.Reg(asm.R7, asm.R1, "out"),
		)
	}
	prog = append(prog,
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.FnGetSocketCookie.Call(),
		asm.StoreMem(asm.RFP, stackCookie, asm.R0, asm.DWord),
		asm.FnGetCurrentPidTgid.Call(),
		asm.Mov.Reg(asm.R8, asm.R0),
	)
	prog = append(prog, shortcut...)
	prog = append(prog, p.fillOwner()...)
	if p.image != nil {
		prog = append(prog, p.fillImage()...)
	}
	prog = append(prog,
		asm.LoadMapPtr(asm.R1, p.owners.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, stackCookie),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, stackOwner),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnMapUpdateElem.Call(),
	)
	prog = append(prog, p.leaveIfRecent()...)
	prog = append(prog, p.announce()...)
	return append(prog,
		asm.Mov.Imm(asm.R0, 1).WithSymbol("out"),
		asm.Return(),
	)
}

// leaveIfKnown ends the program when this process is on record for the
// socket. The look-up also keeps the record from being pushed out.
func (p *program) leaveIfKnown() asm.Instructions {
	return asm.Instructions{
		asm.LoadMapPtr(asm.R1, p.owners.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, stackCookie),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "unknown"),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.R8),
		asm.RSh.Imm(asm.R2, 32),
		asm.JEq.Reg(asm.R1, asm.R2, "out"),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("unknown"),
	}
}

// fillOwner writes the owner record on the stack, all but the image.
func (*program) fillOwner() asm.Instructions {
	return asm.Instructions{
		asm.StoreMem(asm.RFP, stackOwner+4, asm.R8, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R8),
		asm.RSh.Imm(asm.R1, 32),
		asm.StoreMem(asm.RFP, stackOwner, asm.R1, asm.Word),
		asm.FnGetCurrentUidGid.Call(),
		asm.StoreMem(asm.RFP, stackOwner+8, asm.R0, asm.Word),
		asm.RSh.Imm(asm.R0, 32),
		asm.StoreMem(asm.RFP, stackOwner+12, asm.R0, asm.Word),
		asm.StoreMem(asm.RFP, stackOwner+16, asm.R7, asm.DWord),
		asm.FnGetCurrentCgroupId.Call(),
		asm.StoreMem(asm.RFP, stackOwner+24, asm.R0, asm.DWord),
		asm.FnKtimeGetBootNs.Call(),
		asm.StoreMem(asm.RFP, stackOwner+32, asm.R0, asm.DWord),
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.RFP, stackOwner+40, asm.R1, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, stackOwner+48),
		asm.Mov.Imm(asm.R2, commSize),
		asm.FnGetCurrentComm.Call(),
	}
}

// fillImage puts the process's memory into r7, zero for a thread of the
// kernel, and the address of its arguments into the record.
func (p *program) fillImage() asm.Instructions {
	prog := asm.Instructions{
		asm.FnGetCurrentTask.Call(),
		asm.Mov.Reg(asm.R3, asm.R0),
		asm.Add.Imm(asm.R3, int32(p.image.taskMM)),
	}
	prog = append(prog, readKernelWord(stackWord)...)
	prog = append(prog,
		asm.LoadMem(asm.R7, asm.RFP, stackWord, asm.DWord),
		asm.JEq.Imm(asm.R7, 0, "no image"),
		asm.Mov.Reg(asm.R3, asm.R7),
		asm.Add.Imm(asm.R3, int32(p.image.argStart)),
	)
	prog = append(prog, readKernelWord(stackOwner+40)...)
	return append(prog, asm.Mov.Imm(asm.R0, 0).WithSymbol("no image"))
}

// leaveIfRecent ends the program when the process has been announced within
// announceEvery.
func (p *program) leaveIfRecent() asm.Instructions {
	prog := asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R8),
		asm.RSh.Imm(asm.R1, 32),
		asm.StoreMem(asm.RFP, stackRecent, asm.R1, asm.DWord),
	}
	for i := int16(0); i < 24; i += 8 { // the image and the thread name
		prog = append(prog,
			asm.LoadMem(asm.R1, asm.RFP, stackOwner+40+i, asm.DWord),
			asm.StoreMem(asm.RFP, stackRecent+8+i, asm.R1, asm.DWord),
		)
	}
	return append(prog,
		asm.LoadMapPtr(asm.R1, p.recent.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, stackRecent),
		asm.FnMapLookupElem.Call(),
		asm.LoadMem(asm.R1, asm.RFP, stackOwner+32, asm.DWord),
		asm.StoreMem(asm.RFP, stackTime, asm.R1, asm.DWord),
		asm.JEq.Imm(asm.R0, 0, "not recent"),
		asm.LoadMem(asm.R2, asm.R0, 0, asm.DWord),
		asm.Sub.Reg(asm.R1, asm.R2),
		asm.JLT.Imm(asm.R1, announceEvery, "out"),
		asm.LoadMapPtr(asm.R1, p.recent.FD()).WithSymbol("not recent"),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, stackRecent),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, stackTime),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnMapUpdateElem.Call(),
	)
}

// announce sends the owner record and, where the image is known, the snapshot
// to user space. When the ring is full the announcement is lost; the record
// stays.
func (p *program) announce() asm.Instructions {
	prog := asm.Instructions{
		asm.LoadMapPtr(asm.R1, p.events.FD()),
		asm.Mov.Imm(asm.R2, announceSize),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnRingbufReserve.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Reg(asm.R9, asm.R0),
	}
	for i := int16(0); i < ownerSize; i += 8 {
		prog = append(prog,
			asm.LoadMem(asm.R1, asm.RFP, stackOwner+i, asm.DWord),
			asm.StoreMem(asm.R9, i, asm.R1, asm.DWord),
		)
	}
	prog = append(prog,
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.R9, announceArgsLen, asm.R1, asm.DWord),
		asm.StoreImm(asm.R9, announcePath, 0, asm.Byte),
	)
	if p.image != nil {
		prog = append(prog, p.snapshot()...)
	}
	return append(prog,
		asm.Mov.Reg(asm.R1, asm.R9).WithSymbol("submit"),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRingbufSubmit.Call(),
	)
}

// snapshot copies the arguments, and the path given to execve(2), which the
// kernel puts right behind the environment. Neither read can sleep: memory
// that is not resident leaves zeroes.
func (p *program) snapshot() asm.Instructions {
	prog := asm.Instructions{
		asm.JEq.Imm(asm.R7, 0, "submit"),
		asm.Mov.Reg(asm.R3, asm.R7),
		asm.Add.Imm(asm.R3, int32(p.image.argEnd)),
	}
	prog = append(prog, readKernelWord(stackWord)...)
	prog = append(prog,
		asm.LoadMem(asm.R2, asm.RFP, stackWord, asm.DWord),
		asm.LoadMem(asm.R3, asm.RFP, stackOwner+40, asm.DWord),
		asm.Sub.Reg(asm.R2, asm.R3),
		asm.JLE.Imm(asm.R2, argsMax, "fits"),
		asm.Mov.Imm(asm.R2, argsMax),
		asm.StoreMem(asm.R9, announceArgsLen, asm.R2, asm.DWord).WithSymbol("fits"),
		asm.Mov.Reg(asm.R1, asm.R9),
		asm.Add.Imm(asm.R1, announceArgs),
		asm.FnProbeReadUser.Call(),

		asm.Mov.Reg(asm.R3, asm.R7),
		asm.Add.Imm(asm.R3, int32(p.image.envEnd)),
	)
	prog = append(prog, readKernelWord(stackWord)...)
	return append(prog,
		asm.LoadMem(asm.R3, asm.RFP, stackWord, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.R9),
		asm.Add.Imm(asm.R1, announcePath),
		asm.Mov.Imm(asm.R2, pathMax),
		asm.FnProbeReadUserStr.Call(),
	)
}

// Where the programs that record tuples keep the key on their stack.
const (
	stackKey    = stackCookie - tupleSize
	stackLocal  = stackKey + 8
	stackRemote = stackKey + 24
	stackPorts  = stackKey + 40
)

// handshake generates the program that connects a tuple to a cookie when a
// TCP handshake begins. It returns 1: go on. Registers: r6 context.
func (p *program) handshake() asm.Instructions {
	prog := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R1, asm.R6, opsOp, asm.Word),
		asm.JNE.Imm(asm.R1, opTCPConnect, "out"),
	}
	prog = append(prog, p.beginKey(protocolTCP)...)
	prog = append(prog,
		asm.LoadMem(asm.R1, asm.R6, opsLocalPort, asm.Word),
		asm.StoreMem(asm.RFP, stackPorts, asm.R1, asm.Half),
		// The remote port is the only one in network byte order.
		asm.LoadMem(asm.R1, asm.R6, opsRemotePort, asm.Word),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.StoreMem(asm.RFP, stackPorts+2, asm.R1, asm.Half),

		asm.LoadMem(asm.R1, asm.R6, opsFamily, asm.Word),
		asm.JEq.Imm(asm.R1, afInet, "ipv4"),
	)
	for i := int16(0); i < 16; i += 4 {
		prog = append(prog,
			asm.LoadMem(asm.R1, asm.R6, opsLocalIP6+i, asm.Word),
			asm.StoreMem(asm.RFP, stackLocal+i, asm.R1, asm.Word),
			asm.LoadMem(asm.R1, asm.R6, opsRemoteIP6+i, asm.Word),
			asm.StoreMem(asm.RFP, stackRemote+i, asm.R1, asm.Word),
		)
	}
	prog = append(prog, asm.Ja.Label("record"))
	prog = append(prog, mappedKey("ipv4")...)
	prog = append(prog,
		asm.LoadMem(asm.R1, asm.R6, opsLocalIP4, asm.Word),
		asm.StoreMem(asm.RFP, stackLocal+12, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.R6, opsRemoteIP4, asm.Word),
		asm.StoreMem(asm.RFP, stackRemote+12, asm.R1, asm.Word),
	)
	return append(prog, p.recordKey()...)
}

// release generates the program that connects a tuple to a cookie when a UDP
// socket is closed: while it was open it could be asked, from now on the
// tuple has to do. It returns 1: go on. Registers: r6 context, which is the
// kernel's struct sock, r7 address family.
func (p *program) release() asm.Instructions {
	prog := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R1, asm.R6, sockProtocol, asm.Word),
		asm.JNE.Imm(asm.R1, protocolUDP, "out"),
		asm.LoadMem(asm.R7, asm.R6, sockFamily, asm.Word),
	}
	prog = append(prog, p.beginKey(protocolUDP)...)
	prog = append(prog, readSock(stackPorts, p.sock.localPort, 2)...)
	prog = append(prog, readSock(stackPorts+2, p.sock.remotePort, 2)...)
	prog = append(prog,
		asm.LoadMem(asm.R1, asm.RFP, stackPorts+2, asm.Half),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.StoreMem(asm.RFP, stackPorts+2, asm.R1, asm.Half),
		asm.JEq.Imm(asm.R7, afInet, "ipv4"),
	)
	prog = append(prog, readSock(stackLocal, p.sock.local6, 16)...)
	prog = append(prog, readSock(stackRemote, p.sock.remote6, 16)...)
	prog = append(prog, asm.Ja.Label("record"))
	prog = append(prog, mappedKey("ipv4")...)
	prog = append(prog, readSock(stackLocal+12, p.sock.local4, 4)...)
	prog = append(prog, readSock(stackRemote+12, p.sock.remote4, 4)...)
	return append(prog, p.recordKey()...)
}

// beginKey puts the socket's cookie on the stack, leaves if it is not on
// record (out of scope, or a socket of the kernel), and fills in the key's
// scope, as encodeTuple says, and protocol.
func (p *program) beginKey(protocol int64) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.FnGetSocketCookie.Call(),
		asm.StoreMem(asm.RFP, stackCookie, asm.R0, asm.DWord),
		asm.LoadMapPtr(asm.R1, p.owners.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, stackCookie),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),

		asm.LoadMem(asm.R1, asm.R0, 16, asm.DWord),
		asm.LoadImm(asm.R2, int64(p.netns), asm.DWord),
		asm.JEq.Reg(asm.R1, asm.R2, "own"),
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.RFP, stackKey, asm.R1, asm.DWord).WithSymbol("own"),
		asm.StoreImm(asm.RFP, stackPorts+4, protocol, asm.Word),
	}
}

// mappedKey fills in what all IPv4-mapped addresses have in common.
func mappedKey(symbol string) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm(asm.R1, 0).WithSymbol(symbol),
		asm.StoreMem(asm.RFP, stackLocal, asm.R1, asm.DWord),
		asm.StoreMem(asm.RFP, stackRemote, asm.R1, asm.DWord),
		asm.Mov.Imm32(asm.R1, nativeWord(mappedPrefix)),
		asm.StoreMem(asm.RFP, stackLocal+8, asm.R1, asm.Word),
		asm.StoreMem(asm.RFP, stackRemote+8, asm.R1, asm.Word),
	}
}

// recordKey stores the cookie under the key and ends the program.
func (p *program) recordKey() asm.Instructions {
	return asm.Instructions{
		asm.LoadMapPtr(asm.R1, p.tuples.FD()).WithSymbol("record"),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, stackKey),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, stackCookie),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnMapUpdateElem.Call(),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("out"),
		asm.Return(),
	}
}

// readSock reads a part of the socket at r6 into the stack.
func readSock(to int32, offset uint32, size int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, to),
		asm.Mov.Imm(asm.R2, size),
		asm.Mov.Reg(asm.R3, asm.R6),
		asm.Add.Imm(asm.R3, int32(offset)),
		asm.FnProbeReadKernel.Call(),
	}
}

// readKernelWord reads the word of the kernel's memory at r3 into the stack.
func readKernelWord(to int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, to),
		asm.Mov.Imm(asm.R2, 8),
		asm.FnProbeReadKernel.Call(),
	}
}

func nativeWord(b [4]byte) int32 { return int32(binary.NativeEndian.Uint32(b[:])) }
