package desktop

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"os/exec"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"
)

// The desktop's notification service.
const (
	serviceName   = "org.freedesktop.Notifications"
	servicePath   = dbus.ObjectPath("/org/freedesktop/Notifications")
	signalInvoked = serviceName + ".ActionInvoked"
	signalClosed  = serviceName + ".NotificationClosed"
	signalToken   = serviceName + ".ActivationToken"
)

const (
	// callTimeout bounds what the desktop may take to answer.
	callTimeout = 5 * time.Second
	// urgencyNormal and category are hints of the specification.
	urgencyNormal = byte(1)
	category      = "network.error"
)

// ServeConfig is what Serve needs. Every field is required.
type ServeConfig struct {
	// Orders come in, reports go out.
	Orders  io.Reader
	Reports io.Writer
	// Bus is the address of the session bus.
	Bus string
}

// Serve is the helper: it carries out orders until they end or ctx does.
func Serve(ctx context.Context, cfg ServeConfig) error {
	// Signals in the order in which they come: first the choice, then that
	// the notification is closed.
	conn, err := dbus.Connect(cfg.Bus, dbus.WithContext(ctx), dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		return fmt.Errorf("connecting to the session bus: %w", err)
	}
	defer func() { _ = conn.Close() }()
	h := &helper{
		cfg: cfg, conn: conn, service: conn.Object(serviceName, servicePath),
		keys: make(map[uint32]string), ids: make(map[string]uint32), tokens: make(map[string]string),
	}
	// The bus sees to it that these are the service's own.
	if err = conn.AddMatchSignal(dbus.WithMatchSender(serviceName), dbus.WithMatchObjectPath(servicePath), dbus.WithMatchInterface(serviceName)); err != nil {
		return fmt.Errorf("listening to the notification service: %w", err)
	}
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	defer conn.RemoveSignal(signals)
	orders := make(chan Order)
	go readOrders(ctx, cfg.Orders, orders)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case order, ok := <-orders:
			if !ok {
				return nil
			}
			err = h.carryOut(ctx, order)
		case s, ok := <-signals:
			if !ok {
				return fmt.Errorf("listening to the notification service: the session bus is gone")
			}
			err = h.hear(s)
		}
		if err != nil {
			return err
		}
	}
}

// readOrders reads orders until they end. A line that cannot be read ends
// them: the other end is not the agent.
func readOrders(ctx context.Context, from io.Reader, to chan<- Order) {
	defer close(to)
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var o Order
		if json.Unmarshal(lines.Bytes(), &o) != nil {
			return
		}
		select {
		case to <- o:
		case <-ctx.Done():
			return
		}
	}
}

// helper is a helper at work. It belongs to one goroutine.
type helper struct {
	cfg     ServeConfig
	conn    *dbus.Conn
	service dbus.BusObject
	// capabilities are the service's, nil before it was asked.
	capabilities []string
	// keys and ids translate between the agent's and the service's names of
	// what is shown; tokens are what lets the browser come to the front.
	keys   map[uint32]string
	ids    map[string]uint32
	tokens map[string]string
}

func (h *helper) carryOut(ctx context.Context, o Order) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	switch {
	case o.Show != nil:
		if err := h.show(ctx, o.Show); err != nil {
			return h.report(Report{Key: o.Show.Key, What: Failed, Text: err.Error()})
		}
		return h.report(Report{Key: o.Show.Key, What: Shown})
	case o.Open != nil:
		h.open(ctx, o.Open)
	case o.Withdraw != "":
		if id, ok := h.ids[o.Withdraw]; ok {
			// One that is gone already is an error of the service's.
			_ = h.service.CallWithContext(ctx, serviceName+".CloseNotification", 0, id).Err
		}
	}
	return nil
}

// show has the desktop show a message.
func (h *helper) show(ctx context.Context, m *Message) error {
	if h.capabilities == nil {
		if err := h.service.CallWithContext(ctx, serviceName+".GetCapabilities", 0).Store(&h.capabilities); err != nil {
			return fmt.Errorf("asking the notification service what it can do: %w", err)
		}
	}
	body := m.Body
	var actions []string
	if h.can("actions") {
		for _, a := range m.Actions {
			actions = append(actions, a.Name, a.Label)
		}
	} else if m.Link != "" {
		body += "\n" + m.Link
	}
	body = h.text(body, m.Help)
	hints := map[string]dbus.Variant{"urgency": dbus.MakeVariant(urgencyNormal), "category": dbus.MakeVariant(category)}
	// Arguments: application, id to replace, icon, summary, body, actions,
	// hints, and a time-out of -1, which leaves it to the desktop.
	var id uint32
	err := h.service.CallWithContext(ctx, serviceName+".Notify", 0,
		"Interdict", h.ids[m.Key], m.Icon, m.Title, body, slices.Concat([]string{}, actions), hints, int32(-1)).Store(&id)
	if err != nil {
		return fmt.Errorf("showing a notification: %w", err)
	}
	h.forget(h.ids[m.Key])
	h.ids[m.Key], h.keys[id] = id, m.Key
	return nil
}

// text is a body and the help below it, as the desktop takes them.
func (h *helper) text(body string, help Help) string {
	escape := func(s string) string { return s }
	if h.can("body-markup") {
		escape = html.EscapeString
	}
	body = escape(body)
	switch {
	case help.URL == "":
		return body
	case h.can("body-markup") && h.can("body-hyperlinks"):
		return body + "\n" + `<a href="` + escape(help.URL) + `">` + escape(help.Label) + `</a>`
	default:
		return body + "\n" + escape(help.Label+": "+help.URL)
	}
}

func (h *helper) can(capability string) bool { return slices.Contains(h.capabilities, capability) }

func (h *helper) forget(id uint32) {
	key := h.keys[id]
	delete(h.keys, id)
	delete(h.ids, key)
	delete(h.tokens, key)
}

// hear passes on what happened to a notification of ours; the signals are
// about everybody's.
func (h *helper) hear(s *dbus.Signal) error {
	if len(s.Body) != 2 {
		return nil
	}
	id, _ := s.Body[0].(uint32)
	text, _ := s.Body[1].(string)
	key, ours := h.keys[id]
	if !ours {
		return nil
	}
	switch s.Name {
	case signalToken:
		h.tokens[key] = text
	case signalInvoked:
		return h.report(Report{Key: key, What: Invoked, Action: text})
	case signalClosed:
		token := h.tokens[key]
		h.forget(id)
		if token != "" {
			// The order to open the page comes after this.
			h.tokens[key] = token
		}
		return h.report(Report{Key: key, What: Closed})
	}
	return nil
}

func (h *helper) report(r Report) error {
	b, err := json.Marshal(r)
	if err == nil {
		_, err = h.cfg.Reports.Write(append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("reporting to the agent: %w", err)
	}
	return nil
}

// open opens a page in the user's browser. First it asks the portal, then the
// user's service manager, since what they start lives in the session; what we
// start ourselves would be in the confinement of the agent's service and end
// with it.
func (h *helper) open(ctx context.Context, p *Page) {
	options := map[string]dbus.Variant{}
	if token := h.tokens[p.Key]; token != "" {
		options["activation_token"] = dbus.MakeVariant(token)
		delete(h.tokens, p.Key)
	}
	portal := h.conn.Object("org.freedesktop.portal.Desktop", "/org/freedesktop/portal/desktop")
	if portal.CallWithContext(ctx, "org.freedesktop.portal.OpenURI.OpenURI", 0, "", p.URL, options).Err == nil {
		return
	}
	//nolint:gosec // the address comes from the agent and is one argument
	if exec.CommandContext(ctx, "systemd-run", "--user", "--quiet", "--collect", "xdg-open", p.URL).Run() == nil {
		return
	}
	//nolint:gosec,noctx // the same; and the browser outlives us
	cmd := exec.Command("xdg-open", p.URL)
	if cmd.Start() == nil {
		_ = cmd.Process.Release()
	}
}
