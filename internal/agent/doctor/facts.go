package doctor

import (
	"net/netip"
	"time"

	"interdict/internal/agent"
	"interdict/internal/agent/uplink"
	"interdict/internal/fleet"
)

// Facts are what was found out about a machine. An error beside a fact says
// why it could not be found out; it is a text, since it is only shown.
type Facts struct {
	Now time.Time
	// Version is this program's.
	Version string
	// UID is who asks.
	UID int
	// Release is the kernel's, such as 6.1.0-18-amd64.
	Release string
	// Features has what was tried out, by name, see [Features]: the error it
	// met, or nothing.
	Features map[string]string

	// Agent is the status of the running agent, nil if none answers.
	Agent      *agent.Status
	AgentError string
	// AgentPID is its process, 0 if that is not known.
	AgentPID int

	Identity Identity
	// Server is the attempt to reach the server; nil if none was made.
	Server *uplink.Reached
	Bundle Bundle
	// Unsynchronised says that nobody keeps the clock right.
	Unsynchronised bool

	Rules  Rules
	Queues []Queue
	// QueuesError is set where the queues are not known.
	QueuesError string

	Directory Directory
	// RefusedFiles are the drop-in files that do not count, and why.
	RefusedFiles []RefusedFile
	// UnreadFiles are files beside them that nobody reads, for their names.
	UnreadFiles []string
	// OwnPolicy says that the machine says something itself: there are
	// drop-in files, or something was set on it.
	OwnPolicy bool
	// SystemJournal says that systemd's journal takes events.
	SystemJournal bool

	Resolving Resolving
	// EncryptedDNS are open connections to name services that nobody can
	// look into.
	EncryptedDNS []Connection
	// Programs are running programs that matter to the agent.
	Programs []Program
	// Firewalls are those that are set up to write rules and need not run for
	// that.
	Firewalls []string
	// FlushesRules are files of firewalls that delete all rules when they
	// are loaded.
	FlushesRules []string
	Interfaces   []Interface
	// Namespaces are other network namespaces in which programs run.
	Namespaces []Namespace
}

// Identity is what makes the machine a device.
type Identity struct {
	// Enrolled says that there is one; Error that it cannot be used.
	Enrolled           bool
	Error              string
	Device             fleet.DeviceID
	Server             string
	ValidFrom, ValidTo time.Time
}

// Bundle is the last good bundle on disk.
type Bundle struct {
	Version  uint64
	IssuedAt time.Time
	NotAfter time.Time
	// Error says what is wrong with it; Missing that there is none.
	Error   string
	Missing bool
}

// Rules is Interdict's table in the kernel.
type Rules struct {
	Present bool
	// Compared says that it is known how the table ought to be; then Wanted
	// says whether there ought to be one, and Drift how it differs. Otherwise
	// Drift says how it differs from every table that an agent could have
	// left, its addresses left out.
	Compared, Wanted bool
	Drift            []string
	Error            string
}

// Queue is a packet queue that somebody listens to.
type Queue struct {
	Number int
	// PID and Program are of the listener, as far as it can be found.
	PID     int
	Program string
	// Own says that it is the agent's number.
	Own bool
	// Waiting packets have no answer yet; Dropped were lost.
	Waiting, Dropped uint64
}

// Directory is the state directory.
type Directory struct {
	Path string
	// Missing says that it does not exist, Error that nobody can tell.
	Missing bool
	Error   string
	// Open are the paths in it that others than root may read or write, or
	// own.
	Open []string
	// Free is how many bytes fit on its file system.
	Free uint64
	// Waiting is how many bytes of events wait in it for the server.
	Waiting int64
}

// RefusedFile is a drop-in file that does not count.
type RefusedFile struct {
	Path   string
	Faults []string
}

// Resolving is how programs look names up.
type Resolving struct {
	// File is where /etc/resolv.conf leads.
	File string
	// Servers are the name servers in it.
	Servers []netip.Addr
	// Resolved says that systemd-resolved runs, Encrypted what it says of
	// DNSOverTLS, and Bus that programs ask it by a way that is not DNS
	// (nss-resolve).
	Resolved  bool
	Encrypted string
	Bus       bool
}

// Connection is an open connection to an encrypted name service.
type Connection struct {
	// Program is who has it open, as far as it can be found.
	Program string
	PID     int
	Remote  netip.AddrPort
	// Service is its name, such as dns.google; empty if only the port tells.
	Service string
	// Protocol is dot, doq or doh.
	Protocol string
}

// Program is a running program.
type Program struct {
	PID int
	// Name is as the kernel knows it, 15 bytes at most.
	Name string
}

// Interface is a network interface.
type Interface struct {
	Name string
	// Kind is as `ip -d link` shows it: wireguard, tun, macvlan; empty for
	// hardware.
	Kind string
	Up   bool
}

// Namespace is a network namespace other than ours.
type Namespace struct {
	// Program is one that runs in it.
	Program string
	PID     int
}
