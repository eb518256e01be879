package doctor

import (
	"fmt"
	"strings"
)

// Feature is something of the kernel that is tried out.
type Feature struct {
	// Name is also that of the check.
	Name string
	// says is what is found if it is there.
	says string
	// missing is how bad it is if it is not, and means what follows.
	missing State
	means   string
	// mend is a command that makes it or tells more.
	mend string
}

// Features returns what is tried out of the kernel.
func Features() []Feature {
	const config = `grep -E "NF_TABLES|NETFILTER_XT_TARGET_NFQUEUE|NFT_QUEUE" /boot/config-$(uname -r)`
	return []Feature{
		{"nf_tables", "rules can be written", Fail, "nothing can be enforced", "modprobe nf_tables"},
		{"packet_queue", "all rules, packet queues and connection marks are taken", Fail, "connections cannot be inspected", config},
		{"connection_table", "connections can be looked up and their ends are told", Fail, "connections that are open when rules change go on", "modprobe nf_conntrack_netlink"},
		{"socket_destroy", "an open socket can be ended at once", Warn, "programs whose open connection is refused notice late", "grep INET_DIAG_DESTROY /boot/config-$(uname -r)"},
		{"cgroup_bpf", "who connects is noted by the kernel", Warn, "programs that are gone within a few milliseconds are not named in events", "grep CGROUP_BPF /boot/config-$(uname -r)"},
		{"socket_monitor", "open sockets can be traced to programs", Warn, "connections older than the agent are not traced to programs", "modprobe inet_diag"},
		{"exec_permission", "starts of programs can be refused", Info, "app control cannot refuse starts of programs", "grep FANOTIFY_ACCESS_PERMISSIONS /boot/config-$(uname -r)"},
	}
}

// features are the checks of [Features].
func features() []check {
	var all []check
	for _, feature := range Features() {
		all = append(all, check{feature.Name, feature.check, root})
	}
	return all
}

func (feature Feature) check(f *Facts) []Finding {
	err, tried := f.Features[feature.Name]
	switch {
	case !tried:
		return info("not tried").alone()
	case err == "":
		return ok("%s", feature.says)
	default:
		return Finding{State: feature.missing, Text: err}.means("%s", feature.means).mend("%s", feature.mend)
	}
}

func privileges(f *Facts) []Finding {
	if f.UID != 0 {
		return fail("this runs as user %d", f.UID).means("most checks need root").mend("sudo interdict-agent doctor")
	}
	return ok("root")
}

// The oldest kernel that all of the agent works on, see package process/bpf.
const (
	leastMajor = 5
	leastMinor = 14
)

func kernel(f *Facts) []Finding {
	var major, minor int
	if _, err := fmt.Sscanf(f.Release, "%d.%d", &major, &minor); err != nil {
		return info("a kernel that calls itself %q", f.Release).alone()
	}
	if major < leastMajor || major == leastMajor && minor < leastMinor {
		return warn("Linux %s is older than %d.%d", f.Release, leastMajor, leastMinor).
			means("programs that are gone within a few milliseconds are not named in events").mend("uname -r")
	}
	return ok("Linux %s", f.Release)
}

// rules compares what is in the kernel with what ought to be.
func rules(f *Facts) []Finding {
	r := f.Rules
	switch {
	case r.Error != "":
		return warn("the rules cannot be read: %s", r.Error).means("nobody can tell whether they are as they should be").mend("nft list table inet interdict")
	case !r.Compared && r.Present && len(r.Drift) > 0:
		return fail("%s", strings.Join(shorten(r.Drift, 5), "; ")).
			means("another program has changed the rules that the agent left").mend("systemctl start interdict-agent")
	case !r.Compared && r.Present:
		return info("as an agent leaves them; without one nobody knows which addresses they ought to refuse").alone()
	case !r.Compared:
		return info("none, and no agent says whether there ought to be").alone()
	case !r.Wanted && r.Present:
		return warn("the kernel has rules although nothing is to be enforced").
			means("connections may be refused for no reason").mend("interdict-agent rescue")
	case !r.Wanted:
		return ok("none, as it should be")
	case !r.Present:
		return fail("the table inet interdict is missing").
			means("connections are not inspected, and refused addresses are not refused").mend("systemctl restart interdict-agent")
	case len(r.Drift) > 0:
		return fail("%s", strings.Join(shorten(r.Drift, 5), "; ")).
			means("another program has changed the rules; what is enforced is not what should be").mend("systemctl restart interdict-agent")
	default:
		return ok("as they should be")
	}
}

// shorten cuts a list, and says how much is missing.
func shorten(list []string, most int) []string {
	if len(list) <= most {
		return list
	}
	return append(list[:most:most], fmt.Sprintf("and %d more", len(list)-most))
}

// wantsQueues reports whether the rules in force ask for packets.
func wantsQueues(f *Facts) bool { return f.Rules.Compared && f.Rules.Wanted }

func ownQueues(f *Facts) []Finding {
	if f.QueuesError != "" {
		return warn("cannot be listed: %s", f.QueuesError).means("nobody can tell who listens to packets").mend("cat /proc/net/netfilter/nfnetlink_queue")
	}
	own, foreign := 0, ""
	var waiting, dropped uint64
	for _, q := range f.Queues {
		if !q.Own {
			continue
		}
		own++
		waiting, dropped = waiting+q.Waiting, dropped+q.Dropped
		if f.AgentPID != 0 && q.PID != 0 && q.PID != f.AgentPID {
			foreign = fmt.Sprintf("queue %d belongs to %s", q.Number, programText(q.Program, q.PID))
		}
	}
	switch {
	case foreign != "":
		return fail("%s", foreign).means("another program judges packets in the agent's place").mend("cat /proc/net/netfilter/nfnetlink_queue")
	case own == 0 && wantsQueues(f):
		return fail("nobody listens").means("connections are not inspected, only addresses are refused").mend("systemctl restart interdict-agent")
	case own == 0:
		return ok("none, and none are needed")
	case dropped > 0:
		return warn("%d packets were lost because the agent was too slow", dropped).
			means("connections took longer, or were decided by the fail mode").mend("journalctl -u interdict-agent --since -1h")
	default:
		return ok("%d open, %d packets waiting", own, waiting)
	}
}

func programText(name string, pid int) string {
	if name == "" {
		return "a program that cannot be found"
	}
	return fmt.Sprintf("%s (process %d)", name, pid)
}

func otherQueues(f *Facts) []Finding {
	var found []Finding
	for _, q := range f.Queues {
		if q.Own {
			continue
		}
		found = append(found, warn("queue %d is read by %s", q.Number, programText(q.Program, q.PID)).
			means("it also judges packets: either can delay or refuse what the other lets through").
			mend("nft list ruleset")...)
	}
	if len(found) == 0 {
		return ok("nobody else reads packet queues")
	}
	return found
}
