package doctor

import (
	"path/filepath"
	"strings"
)

const (
	// fullBelow is where events begin to be lost, and scarceBelow what the
	// spool and the event log take when both are full.
	fullBelow   = 10 << 20
	scarceBelow = 128 << 20
)

func settingsFiles(f *Facts) []Finding {
	var found []Finding
	for _, file := range f.RefusedFiles {
		found = append(found, fail("%s is refused: %s", file.Path, strings.Join(shorten(file.Faults, 3), "; ")).
			means("what it said before goes on counting").mend("${EDITOR:-vi} %s", file.Path)...)
	}
	for _, path := range f.UnreadFiles {
		extension := filepath.Ext(path)
		if !strings.EqualFold(extension, ".yml") && !strings.EqualFold(extension, ".yaml") {
			found = append(found, info("%s is not read: only files called *.yaml are", path))
			continue
		}
		found = append(found, warn("%s is not read: only files called *.yaml are", path).means("what it says does not count").
			mend("mv -n %s %s.yaml", path, strings.TrimSuffix(path, extension))...)
	}
	if len(found) == 0 {
		return ok("no drop-in file is refused")
	}
	return found
}

func stateDirectory(f *Facts) []Finding {
	d := f.Directory
	switch {
	case d.Error != "":
		return fail("%s", d.Error).means("neither identity nor bundle can be read").mend("ls -la %s", d.Path)
	case d.Missing && standalone(f), d.Missing && !f.Identity.Enrolled:
		return info("%s does not exist", d.Path).alone()
	case len(d.Open) > 0:
		return fail("others than root may use %s", strings.Join(shorten(d.Open, 3), ", ")).
			means("who reads it can pose as this device").mend("chown -R root:root %[1]s && chmod -R go= %[1]s", d.Path)
	default:
		return ok("%s is closed to others", d.Path)
	}
}

func disk(f *Facts) []Finding {
	d := f.Directory
	switch {
	case d.Missing || d.Error != "":
		return info("not known").alone()
	case d.Free < fullBelow:
		return fail("%d MiB are free for %s", d.Free>>20, d.Path).means("events are lost and bundles cannot be saved").mend("df -h %s", d.Path)
	case d.Free < scarceBelow:
		return warn("%d MiB are free for %s", d.Free>>20, d.Path).means("a long absence of the server would fill it").mend("df -h %s", d.Path)
	default:
		return ok("%d MiB are free", d.Free>>20)
	}
}

func spool(f *Facts) []Finding {
	if f.Agent == nil {
		return info("%d KiB of events wait; more is known when an agent runs", f.Directory.Waiting>>10).alone()
	}
	if !f.Agent.Managed {
		return info("no server takes events: they are in the agent's own log alone").alone()
	}
	s := f.Agent.Spool
	if lost := s.Dropped.Audited + s.Dropped.Other + s.Dropped.Rejected; lost > 0 {
		return warn("%d events never reached the server (%d of them it rejected), the last on %s", lost, s.Dropped.Rejected, stamp(s.Dropped.Last)).
			means("they are in the local log alone, as far as that reaches back").mend("interdict-agent events")
	}
	if s.Limit > 0 && s.Bytes > s.Limit*3/4 {
		return warn("%d events wait, %d of %d KiB are used", s.Events, s.Bytes>>10, s.Limit>>10).
			means("when it is full the oldest events are dropped, audited ones first").mend("interdict-agent sync")
	}
	return ok("%d events wait, %d of %d KiB are used", s.Events, s.Bytes>>10, s.Limit>>10)
}

func systemJournal(f *Facts) []Finding {
	if f.SystemJournal {
		return ok("events are written to systemd's journal too")
	}
	return info("there is no systemd journal: events are in the agent's own log alone").alone()
}
