package inquiry

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"interdict/internal/explain"
	"interdict/internal/indicator"
	"interdict/internal/store"
)

// Indicators are deleted when their time is over. These bound for how long,
// and among how many, one that is asked about is remembered all the same.
const (
	expiredAge  = 30 * 24 * time.Hour
	expiredMost = 500
)

// expired returns the indicators for a destination whose time was over
// lately, as the audit log has them.
func (s *Service) expired(ctx context.Context, subject explain.Subject) ([]indicator.Indicator, error) {
	oldest := s.control.Now().Add(-expiredAge)
	var found []indicator.Indicator
	err := s.control.View(ctx, func(tx *store.Tx) error {
		entries, err := tx.AuditLog(store.AuditQuery{Action: "indicator.expire", Limit: expiredMost})
		for i := range entries {
			if entries[i].Time.Before(oldest) {
				break
			}
			var was indicator.Indicator
			if bad := json.Unmarshal(entries[i].Before, &was); bad != nil {
				return fmt.Errorf("reading the indicator %q from the audit log: %w", entries[i].Target, bad)
			}
			if explain.Matches(&was, subject) {
				found = append(found, was)
			}
		}
		return err
	})
	return found, err
}
