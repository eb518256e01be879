// Package desktop decides how the agent speaks to a user's desktop: through a
// process of that user.
//
// The agent is root, and a session bus admits nobody but its own user. So the
// agent runs this same program once more, as the user, with nothing of its
// own but a pipe in each direction: [Start] is the agent's end, [Serve] the
// helper's. One line is one JSON object: an [Order] to the helper, a [Report]
// from it. The helper ends when its input does, which is also what the death
// of the agent looks like. PR_SET_PDEATHSIG would look at the death of one
// thread of the agent, and Go's threads come and go.
//
// The helper belongs to the user, who can make it say what they like. What it
// says is therefore about that user's own notifications only, and bounded;
// whoever hears it has to check that it makes sense.
//
// Notifications are those of org.freedesktop.Notifications 1.2 (2011).
package desktop

// Order is what the helper is to do: one of its fields is set.
type Order struct {
	Show *Message `json:"show,omitempty"`
	// Open opens a page in the user's browser.
	Open *Page `json:"open,omitempty"`
	// Withdraw takes the notification with this key away.
	Withdraw string `json:"withdraw,omitempty"`
}

// Message is one notification.
type Message struct {
	// Key names it in reports. One with the key of another takes its place.
	Key   string `json:"key"`
	Title string `json:"title"`
	// Body is plain text.
	Body string `json:"body"`
	// Help stands below the body, unless it has no address.
	Help Help `json:"help,omitzero"`
	// Icon is a name of the Icon Naming Specification.
	Icon string `json:"icon"`
	// Actions are its buttons. The one called "default" is no button but a
	// click on the notification itself.
	Actions []Action `json:"actions,omitempty"`
	// Link is shown where the desktop has no buttons.
	Link string `json:"link,omitempty"`
}

// Help is a page that people find help at.
type Help struct {
	// Label says what it is.
	Label string `json:"label"`
	URL   string `json:"url"`
}

// Action is a button.
type Action struct {
	Name  string `json:"name"`
	Label string `json:"label"`
}

// Page is a page to open.
type Page struct {
	// Key is the notification whose button asked for it.
	Key string `json:"key"`
	URL string `json:"url"`
}

// What is what happened to a notification.
type What string

// What can happen.
const (
	// Shown: the desktop has it.
	Shown What = "shown"
	// Failed: the desktop does not take it.
	Failed What = "failed"
	// Invoked: the user chose Report.Action.
	Invoked What = "invoked"
	// Closed: nothing more can happen to it.
	Closed What = "closed"
)

// Report is what the helper says about the notification with Key.
type Report struct {
	Key    string `json:"key"`
	What   What   `json:"what"`
	Action string `json:"action,omitempty"`
	// Text says why it failed.
	Text string `json:"text,omitempty"`
}

// maxLine bounds a line in either direction, in bytes.
const maxLine = 16 << 10
