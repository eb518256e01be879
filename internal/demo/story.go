package demo

import (
	"os/exec"
	"strings"
	"time"

	"interdict/internal/demo/desktop"
	"interdict/internal/lab"
	"interdict/internal/lab/site"
)

// The cast.
const (
	appUnsanctioned = "itunes"
	urlUnsanctioned = "https://init.itunes.apple.com/"
	urlDownload     = "https://audio.itunes.apple.com/slow"
	appSanctioned   = "dropbox"
	urlSanctioned   = "https://www.dropbox.com/"
	appMonitored    = "wetransfer"
	urlMonitored    = "https://www.wetransfer.com/"
	appScoped       = "spotify"
	urlScoped       = "https://open.spotify.com/"
	appOnTrial      = "discord"
	urlElse         = "https://www.example.com/"
	groupInside     = "pilots"
	groupOutside    = "others"
	policyName      = "pilot"
	contact         = "Ada, ext. 5"
)

// story is what the steps share.
type story struct {
	lab      *lab.Lab
	site     *site.Site
	programs string
	// reachedAs is the name or address at which the server is reached from
	// the machine, for its certificate; "" if it is not.
	reachedAs string
	// desktop is alice's, nil if she has none.
	desktop  *desktop.Desktop
	download *download
	// switched is when the mode was set to block.
	switched time.Time
	// whyPage is the address of alice's page about the unsanctioned app.
	whyPage string
	// warned is the notification that alice was warned by.
	warned desktop.Note
	// bypassed is when alice's going on ends.
	bypassed time.Time
}

// download is a running curl.
type download struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it ended
	at   time.Time     // when it ended
	err  error
}

// act is a part of the story.
type act struct {
	title string
	steps []step
}

func (st *story) acts() []act {
	return []act{
		{"An administrator installs the server and enrols machines", []step{
			{"Start the server on " + hostServer, true, st.startServer},
			{"Enrol two machines", true, st.enrol},
			{"Put them into groups by rules", true, st.group},
			{"Both agents run and are online", true, st.online},
			{"Alice signs in to her desktop", false, st.signIn},
		}},
		{"She watches", []step{
			{"Network protection in audit mode, for one group", true, st.auditPolicy},
			{"Unsanction iTunes", true, st.unsanction},
			{"A connection to iTunes still works, and is recorded", false, st.audited},
			{"A download from iTunes is open", false, st.openDownload},
		}},
		{"She refuses", []step{
			{"Network protection in block mode", true, st.blockPolicy},
			{"The open download is cut", false, st.cut},
			{"The same connection is refused at once", false, st.refused},
			{"So it is without a look-up", false, st.refusedByName},
			{"The user is told once: which app, why, whom to ask", false, st.onDesktop(st.notified)},
			{"A plain HTTP request is answered with a page", false, st.blockPage},
			{"The why page is there", false, st.why},
			{"An alert is on the server", false, st.alerted},
			{"A sanctioned app is untouched", false, st.sanctioned},
			{"So is the rest of the Internet", false, st.rest},
			{"The machine outside the group is untouched", false, st.outside},
		}},
		{"Users may be right", []step{
			{"A monitored app is refused with a warning", false, st.warn},
			{"Alice goes on for a while", false, st.twoUsers(st.goOn)},
			{"Bob is still refused, and all is counted", false, st.twoUsers(st.counted)},
			{"Alice requests access to iTunes from the why page", false, st.twoUsers(st.request)},
			{"An administrator approves it for an hour", false, st.twoUsers(st.approve)},
			{"The access is Alice's alone", false, st.twoUsers(st.aliceAlone)},
			{"The while is over, and Alice is warned again", false, st.twoUsers(st.whileOver)},
		}},
		{"The fleet", []step{
			{"A tag for one user", false, st.twoUsers(st.scopedTag)},
			{"Two policies contradict each other: the stricter value counts", false, st.conflict},
			{"A drop-in file on the machine, and its removal", false, st.dropIn},
			{"A roll-out is stopped by what its canary meets", false, st.rollOut},
		}},
		{"Somebody asks why", []step{
			{"Why is iTunes blocked on " + hostInside + "?", false, st.explainBlocked},
			{"Why can Alice use it all the same?", false, st.twoUsers(st.explainAllowed)},
			{"Why is it not blocked on " + hostOutside + "?", false, st.explainNot},
			{"Is the agent well?", false, st.doctor},
		}},
	}
}

// logs is what the programs said last.
func (st *story) logs() string {
	return strings.Join([]string{st.site.ServerLog(), st.site.AgentLog(hostInside)}, "\n")
}
