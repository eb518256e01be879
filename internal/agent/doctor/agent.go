package doctor

import (
	"time"

	"interdict/internal/agent/health"
	"interdict/internal/fleet"
)

func running(f *Facts) []Finding {
	if f.Agent == nil {
		return fail("%s", f.AgentError).means("rules it left go on refusing addresses; nothing is inspected or recorded").
			mend("systemctl start interdict-agent")
	}
	if f.Agent.AgentVersion != f.Version {
		return warn("version %s runs, version %s is installed", f.Agent.AgentVersion, f.Version).
			means("an upgrade is not in effect yet").mend("systemctl restart interdict-agent")
	}
	return ok("version %s, since %s", f.Agent.AgentVersion, stamp(f.Agent.StartedAt))
}

// stamp writes a time as people compare it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func enforcement(f *Facts) []Finding {
	switch {
	case f.Agent == nil:
		return info("not known without a running agent").alone()
	case !f.Agent.Enforcing:
		return fail("nothing is enforced").means("no rules are in force yet, or rescue suspended them").mend("interdict-agent sync")
	case f.Agent.Mode == fleet.ModeDisabled:
		return info("network protection is disabled").alone()
	default:
		return ok("network protection: %s", f.Agent.Mode)
	}
}

// mends has, for every health item, the command that mends it or tells more.
func mends() map[health.Code]string {
	const log = "journalctl -u interdict-agent --since -1h"
	return map[health.Code]string{
		health.ServerUnreachable:    "interdict-agent sync",
		health.DeviceRefused:        "interdict-agent unenroll --local",
		health.CertificateExpired:   "interdict-agent unenroll --local",
		health.ClockWrong:           "timedatectl set-ntp true",
		health.BundleRefused:        "interdict-agent sync",
		health.BundleDamaged:        "interdict-agent sync",
		health.BundleNotSaved:       "df -h /var/lib/interdict-agent",
		health.ApplyFailed:          log,
		health.EventsDropped:        "df -h /var/lib/interdict-agent",
		health.EventsRejected:       log,
		health.JournalFailing:       "df -h /var/lib/interdict-agent",
		health.CaptureMissing:       "cat /proc/net/netfilter/nfnetlink_queue",
		health.CuttingMissing:       "modprobe nf_conntrack_netlink",
		health.RulesDisturbed:       "nft list ruleset",
		health.WatchMissing:         "systemctl restart interdict-agent",
		health.AttributionMissing:   "modprobe inet_diag",
		health.ObservationsDropped:  "interdict-agent events",
		health.Panicked:             log,
		health.Suspended:            "interdict-agent sync",
		health.PolicyFileRefused:    "ls -l /etc/interdict/policy.d",
		health.PolicyFilesUnwatched: "cat /proc/sys/fs/inotify/max_user_watches",
		health.PolicyFilesUnkept:    "df -h /var/lib/interdict-agent",
		health.EnvironmentRefused:   "systemctl edit interdict-agent",
		health.SetDamaged:           "interdict-agent set",
	}
}

// Mends reports whether there is a command of its own for a fault of the agent.
func Mends(code health.Code) bool { return mends()[code] != "" }

// healthItems are what the agent itself says is wrong. Each says what follows.
func healthItems(f *Facts) []Finding {
	if f.Agent == nil {
		return info("not known without a running agent").alone()
	}
	var found []Finding
	known := mends()
	for _, item := range f.Agent.Health {
		if away := f.Server != nil && f.Server.Err != nil; away && (item.Code == health.ServerUnreachable || item.Code == health.DeviceRefused) {
			// The check of the server says more about it.
			continue
		}
		if item.Code == health.PolicyFileRefused && len(f.RefusedFiles) > 0 {
			// So does the one of these files.
			continue
		}
		mend := known[item.Code]
		if mend == "" {
			mend = "journalctl -u interdict-agent --since -1h"
		}
		found = append(found, fail("%s: %s", item.Code, item.Text).means("so since %s", stamp(item.Since)).mend("%s", mend)...)
	}
	if len(found) == 0 {
		return ok("the agent knows of no other fault")
	}
	return found
}
