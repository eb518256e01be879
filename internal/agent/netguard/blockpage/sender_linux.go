package blockpage

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"interdict/internal/agent/netguard"
)

// perSecond and burst bound the answers that are sent: what asks more often
// than that is no person.
const (
	perSecond = 20
	burst     = 40
)

// Sender answers refused requests of programs of this host. It is safe for
// concurrent use.
type Sender struct {
	limit *rate.Limiter

	// mu guards what follows, which is closed with the Sender.
	mu               sync.Mutex
	routes           *netlink.Conn
	socket4, socket6 int
}

var _ netguard.Replier = (*Sender)(nil)

// New opens what is needed in the network namespace of the calling thread,
// for which it takes CAP_NET_RAW. Close frees it.
func New() (*Sender, error) {
	s := &Sender{limit: rate.NewLimiter(perSecond, burst), socket4: -1, socket6: -1}
	var errs [3]error
	s.routes, errs[0] = netlink.Dial(unix.NETLINK_ROUTE, nil)
	// IPPROTO_RAW says that the IP header is in the data; see raw(7).
	const kind = unix.SOCK_RAW | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	s.socket4, errs[1] = unix.Socket(unix.AF_INET, kind, unix.IPPROTO_RAW)
	s.socket6, errs[2] = unix.Socket(unix.AF_INET6, kind, unix.IPPROTO_RAW)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("opening what answers refused requests: %w", errors.Join(err, s.Close()))
	}
	return s, nil
}

// Close frees what New opened. Reply does nothing from then on.
func (s *Sender) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	if s.routes != nil {
		errs = append(errs, s.routes.Close())
		s.routes = nil
	}
	for _, socket := range []*int{&s.socket4, &s.socket6} {
		if *socket >= 0 {
			errs = append(errs, unix.Close(*socket))
			*socket = -1
		}
	}
	return errors.Join(errs...)
}

// Reply implements [netguard.Replier].
func (s *Sender) Reply(packet []byte, e netguard.Explanation) bool {
	r, ok := Read(packet)
	if !ok || !s.limit.Allow() {
		return false
	}
	segment, to := r.Segment(packet, Response(r, e)), r.segment.Source.Addr()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.routes == nil || !s.isLocal(to) {
		return false
	}
	if to.Is4() {
		return unix.Sendto(s.socket4, segment, 0, &unix.SockaddrInet4{Addr: to.As4()}) == nil
	}
	return unix.Sendto(s.socket6, segment, 0, &unix.SockaddrInet6{Addr: to.As16()}) == nil
}

// isLocal asks the kernel whether what is sent to an address stays on this
// host. A transparent proxy sends under addresses of others, to which we must
// not send.
func (s *Sender) isLocal(addr netip.Addr) bool {
	// struct rtmsg of rtnetlink(7): family, length of the destination, and
	// eight bytes up to the type of the route.
	const header, length, kind = 12, 1, 7
	request := make([]byte, header)
	request[0], request[length] = unix.AF_INET, byte(addr.BitLen())
	if addr.Is6() {
		request[0] = unix.AF_INET6
	}
	destination, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.RTA_DST, Data: addr.AsSlice()}})
	if err != nil {
		return false
	}
	answers, err := s.routes.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETROUTE, Flags: netlink.Request},
		Data:   append(request, destination...),
	})
	return err == nil && len(answers) == 1 && len(answers[0].Data) >= header && answers[0].Data[kind] == unix.RTN_LOCAL
}
