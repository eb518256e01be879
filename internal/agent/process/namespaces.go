package process

import (
	"strconv"

	"interdict/internal/agent/process/bpf"
	"interdict/internal/agent/process/sockdiag"
)

// namespacesMax bounds how many network namespaces are asked for one flow.
const namespacesMax = 64

// namespaces knows a process in each network namespace that was active of
// late. It keeps no namespace alive: it has numbers only, and opens what it
// asks for the time of the question.
type namespaces struct {
	known *cache[uint64, inhabitant]
}

type inhabitant struct {
	netns uint64
	pid   int
}

func newNamespaces() *namespaces {
	return &namespaces{known: newCache[uint64, inhabitant](namespacesMax)}
}

func (n *namespaces) announce(a bpf.Announcement) {
	n.known.put(a.NetNS, inhabitant{a.NetNS, a.PID})
}

// find finds the open socket of a flow in any namespace but own. The flow
// does not tell which one it comes from: a socket with the flow's local
// address settles it, one that is bound to no address only if no other
// namespace has such a one.
func (n *namespaces) find(own uint64, f Flow) (sockdiag.Socket, error) {
	var guesses []sockdiag.Socket
	for _, in := range n.known.values() {
		if in.netns == own {
			continue
		}
		s, err := findAt(in.pid, f)
		if err != nil {
			continue // Not here, or nobody lives here any more.
		}
		if s.Local == f.Local {
			return s, nil
		}
		guesses = append(guesses, s)
	}
	if len(guesses) != 1 {
		return sockdiag.Socket{}, sockdiag.ErrNotFound
	}
	return guesses[0], nil
}

func findAt(pid int, f Flow) (sockdiag.Socket, error) {
	c, err := sockdiag.OpenAt("/proc/" + strconv.Itoa(pid) + "/ns/net")
	if err != nil {
		return sockdiag.Socket{}, err
	}
	defer c.Close()
	return c.Find(f.Protocol, f.Local, f.Remote)
}
