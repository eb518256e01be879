package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"interdict/internal/access"
	"interdict/internal/event"
)

// goOnFor is how long a user may go on after a warning. The story waits until
// it is over.
const goOnFor = 6 * time.Second

func (st *story) warn(ctx context.Context, n *notes) error {
	if err := st.adminWait(ctx, n, "app", "tag", appMonitored, "monitored"); err != nil {
		return err
	}
	if err := st.fails(ctx, n, st.alice(), urlMonitored); err != nil {
		return err
	}
	if err := st.recorded(ctx, n, event.IDBlocked, st.alice(), appMonitored); err != nil {
		return err
	}
	if st.desktop == nil {
		return nil
	}
	var err error
	st.warned, err = st.told(ctx, n, "do you want to go on?")
	return err
}

// goOn has alice choose the notification's button, or that of the why page
// where she has no desktop.
func (st *story) goOn(ctx context.Context, n *notes) error {
	if err := st.chooseContinue(ctx, n); err != nil {
		return err
	}
	err := eventually(ctx, n, func(ctx context.Context, n *notes) error {
		return st.works(ctx, n, st.alice(), urlMonitored)
	})
	if err != nil {
		return err
	}
	e, err := st.site.WaitEvent(ctx, hostInside, func(e event.Event) bool {
		return e.EventID == event.IDBypassed && e.AppID == appMonitored && e.User.Name == userAlice
	})
	if err != nil {
		return err
	}
	st.bypassed = e.Until
	n.saw("%s", describe(e))
	return nil
}

func (st *story) chooseContinue(ctx context.Context, n *notes) error {
	if st.desktop != nil {
		n.did("alice chooses [Continue]")
		if err := st.desktop.Choose(st.warned, "continue"); err != nil {
			return err
		}
		_, err := st.told(ctx, n, "You may go on")
		return err
	}
	address, _, err := st.refusedPage(ctx, n, urlMonitored)
	if err != nil {
		return err
	}
	answer, err := st.browse(ctx, n, st.alice(), address+"/continue", "-d", "reason=")
	if err == nil && answer.status != http.StatusOK {
		return fmt.Errorf("the why page answered %d: %s", answer.status, answer.text())
	}
	return err
}

// counted checks that bob is not let through, and that the server knows who was
// warned and who went on.
func (st *story) counted(ctx context.Context, n *notes) error {
	if err := st.fails(ctx, n, st.person(userBob, hostInside), urlMonitored); err != nil {
		return err
	}
	counts := regexp.MustCompile(`(?im)^(warned|bypassed):? .*$`)
	return eventually(ctx, n, func(ctx context.Context, n *notes) error {
		out, err := st.admin(ctx, n, "app", "show", appMonitored)
		if err != nil {
			return err
		}
		lines := counts.FindAllString(out, -1)
		if len(lines) != 2 || !strings.Contains(lines[0], "2 users") || !strings.Contains(lines[1], "1 user ") {
			return fmt.Errorf("two users were warned and one went on, and the server says: %s", out)
		}
		n.saw("%s", strings.Join(lines, "\n"))
		return nil
	})
}

func (st *story) request(ctx context.Context, n *notes) error {
	if st.whyPage == "" {
		return errors.New("nothing led to the why page")
	}
	answer, err := st.browse(ctx, n, st.alice(), st.whyPage+"/request", "--data-urlencode", "reason=for the school fair")
	if err != nil {
		return err
	}
	if answer.status != http.StatusOK {
		return fmt.Errorf("the why page answered %d: %s", answer.status, answer.text())
	}
	n.saw("%s", answer.text())
	return nil
}

// approve gives alice access. She is told, on her desktop if she has one.
func (st *story) approve(ctx context.Context, n *notes) error {
	var id string
	err := eventually(ctx, n, func(ctx context.Context, n *notes) error {
		out, err := st.admin(ctx, n, "request", "list", "--state", "pending")
		if err != nil {
			return err
		}
		n.saw("%s", out)
		var pending []access.Request
		if err := st.site.AdminList(ctx, &pending, "request", "list", "--state", "pending"); err != nil {
			return err
		}
		if len(pending) != 1 || pending[0].User != userAlice || pending[0].AppID != appUnsanctioned {
			return fmt.Errorf("the pending requests are %+v", pending)
		}
		id = pending[0].ID
		return nil
	})
	if err != nil {
		return err
	}
	err = st.adminWait(ctx, n, "request", "approve", id, "--for", "1h", "--note", "have fun")
	if err != nil || st.desktop == nil {
		return err
	}
	_, err = st.told(ctx, n, "Access to iTunes approved")
	return err
}

func (st *story) aliceAlone(ctx context.Context, n *notes) error {
	if err := st.works(ctx, n, st.alice(), urlUnsanctioned); err != nil {
		return err
	}
	return st.fails(ctx, n, st.person(userBob, hostInside), urlUnsanctioned)
}

func (st *story) whileOver(ctx context.Context, n *notes) error {
	if st.bypassed.IsZero() {
		return errors.New("alice never went on")
	}
	n.saw("%s are over in %s", goOnFor, inMilliseconds(max(0, time.Until(st.bypassed))))
	timer := time.NewTimer(time.Until(st.bypassed))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return eventually(ctx, n, func(ctx context.Context, n *notes) error {
		return st.fails(ctx, n, st.alice(), urlMonitored)
	})
}
