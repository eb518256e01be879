package doctor

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"interdict/internal/agent/uplink"
	"interdict/internal/fault"
)

const (
	// certificateDue is how long before its end a certificate ought to have
	// been renewed: it lasts 30 days, and is renewed after 20.
	certificateDue = 7 * 24 * time.Hour
	// maxSkew is how far apart clocks may be. The server's is known in
	// seconds.
	maxSkew = time.Minute
	// staleAfter is the age from which a bundle is worth a remark while the
	// server is away.
	staleAfter = 7 * 24 * time.Hour
)

// standalone reports whether the agent does without a server.
func standalone(f *Facts) bool { return f.Agent != nil && !f.Agent.Managed }

func enrolment(f *Facts) []Finding {
	switch {
	case f.Identity.Error != "":
		return fail("%s", f.Identity.Error).means("the device cannot prove itself to its server").mend("interdict-agent unenroll --local")
	case standalone(f) && f.Identity.Enrolled:
		return warn("the machine is enrolled, and the agent runs as if it were not").
			means("the server's policies do not count yet").mend("systemctl restart interdict-agent")
	case standalone(f), !f.Identity.Enrolled && f.Agent == nil && f.OwnPolicy:
		return info("no server manages this machine: its drop-in files and settings alone count").alone()
	case !f.Identity.Enrolled:
		return fail("this machine is not enrolled").means("no server can manage it").mend("interdict-agent enroll TOKEN")
	default:
		return ok("device %s of %s", f.Identity.Device, f.Identity.Server)
	}
}

// usable reports whether there is an identity to check further.
func usable(f *Facts) bool { return f.Identity.Enrolled && f.Identity.Error == "" }

func certificate(f *Facts) []Finding {
	id := f.Identity
	switch {
	case !usable(f):
		return info("none: there is no enrolment").alone()
	case f.Now.After(id.ValidTo):
		return fail("the device's certificate ended on %s", stamp(id.ValidTo)).
			means("the server refuses it; it can only be enrolled anew").mend("interdict-agent unenroll --local")
	case f.Now.Before(id.ValidFrom):
		return fail("the device's certificate counts from %s on", stamp(id.ValidFrom)).
			means("this machine's clock is behind").mend("timedatectl set-ntp true")
	case id.ValidTo.Sub(f.Now) < certificateDue:
		return warn("the device's certificate ends on %s and was not renewed", stamp(id.ValidTo)).
			means("when it has ended the server refuses this device").mend("systemctl restart interdict-agent")
	default:
		return ok("valid until %s, and renewed before", stamp(id.ValidTo))
	}
}

func server(f *Facts) []Finding {
	s := f.Server
	switch {
	case !usable(f):
		return info("none: there is no enrolment").alone()
	case s == nil:
		return info("not tried").alone()
	case s.Err == nil:
		return ok("%s answers in %s", f.Identity.Server, s.Took.Round(time.Millisecond))
	}
	const stays = "the last good bundle stays in force, events wait"
	host, why := hostOf(f.Identity.Server), reason(s.Err)
	switch s.Stage {
	case uplink.StageLookup:
		return fail("the name %s cannot be looked up: %v", host, why).means(stays).mend("getent ahosts %s", host)
	case uplink.StageConnect:
		return fail("%s does not take a connection: %v", s.Address, why).means(stays).mend("ip route get %s", addressOf(s.Address))
	case uplink.StageTLS:
		text := fmt.Sprintf("TLS with %s fails: %v", host, why)
		if s.Authority != "" {
			text += "; its certificate is signed by " + s.Authority
		}
		return fail("%s", text).means("another server answers there, or something on the way intercepts TLS; %s", stays).
			mend("openssl s_client -connect %s -showcerts", s.Address)
	default:
		if code := fault.CodeOf(s.Err); code == fault.Unauthorized || code == fault.Forbidden {
			return fail("the server answers and does not accept this device: %v", s.Err).
				means("it may have been deleted there; %s", stays).mend("interdict-agent unenroll --local")
		}
		return fail("the server answers with a fault: %v", s.Err).means(stays).mend("interdict-agent sync")
	}
}

// reason takes off an error what says again that the server was not reached.
func reason(err error) error {
	if request, ok := errors.AsType[*url.Error](err); ok {
		return request.Err
	}
	return err
}

// hostOf returns the name or address in a URL.
func hostOf(server string) string {
	u, err := url.Parse(server)
	if err != nil {
		return server
	}
	return u.Hostname()
}

// addressOf returns the address without its port.
func addressOf(endpoint string) string {
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		return endpoint
	}
	return host
}

func clock(f *Facts) []Finding {
	if f.Server != nil && !f.Server.Now.IsZero() {
		if ahead := f.Server.Asked.Sub(f.Server.Now); ahead.Abs() > maxSkew {
			direction := "ahead of"
			if ahead < 0 {
				direction = "behind"
			}
			return fail("this clock is %s %s the server's", ahead.Abs().Round(time.Second), direction).
				means("bundles and certificates may be refused, and events have wrong times").mend("timedatectl set-ntp true")
		}
	}
	if f.Unsynchronised {
		return warn("nothing keeps this clock right").
			means("when it drifts, bundles and certificates are refused and events have wrong times").mend("timedatectl set-ntp true")
	}
	if f.Server == nil || f.Server.Now.IsZero() {
		return ok("synchronised; the server's is not known")
	}
	return ok("synchronised, and the same as the server's")
}

func bundleInForce(f *Facts) []Finding {
	b := f.Bundle
	switch {
	case !usable(f):
		return info("none: there is no enrolment").alone()
	case b.Error != "":
		return fail("%s", b.Error).means("after a restart nothing is in force until the server answers").mend("interdict-agent sync")
	case b.Missing:
		return warn("the server has sent none yet").means("nothing is enforced").mend("interdict-agent sync")
	case !b.NotAfter.IsZero() && f.Now.After(b.NotAfter):
		return warn("bundle %d was good until %s", b.Version, stamp(b.NotAfter)).
			means("it stays in force; the server was not heard for long").mend("interdict-agent sync")
	case f.Now.Sub(b.IssuedAt) > staleAfter && f.Server != nil && f.Server.Err != nil:
		return warn("bundle %d is from %s", b.Version, stamp(b.IssuedAt)).
			means("what was decided since is not in force").mend("interdict-agent sync")
	case f.Agent != nil && f.Agent.Uplink.Version != 0 && f.Agent.Uplink.Version != b.Version:
		return warn("bundle %d is on disk, %d is in force", b.Version, f.Agent.Uplink.Version).
			means("a restart would fall back to the one on disk").mend("df -h /var/lib/interdict-agent")
	default:
		return ok("version %d of %s, its signature is good", b.Version, stamp(b.IssuedAt))
	}
}
