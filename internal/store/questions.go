package store

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"interdict/internal/fleet"
)

// questionAge is how long a question is kept that its server did not close,
// because it ended.
const questionAge = time.Minute

// OpenQuestion notes that a device is being asked something.
func (tx *Tx) OpenQuestion(id string, device fleet.DeviceID, now time.Time) error {
	if _, err := tx.exec(`DELETE FROM questions WHERE asked < $1`, nanos(now.Add(-questionAge))); err != nil {
		return fmt.Errorf("forgetting old questions: %w", err)
	}
	_, err := tx.exec(`INSERT INTO questions (id, device_id, asked, answer) VALUES ($1, $2, $3, '')`, id, string(device), nanos(now))
	if err != nil {
		return fmt.Errorf("keeping question %q: %w", id, err)
	}
	return nil
}

// AnswerQuestion keeps the answer of a device, and reports whether it was
// asked: the question is open, of this device, and has no answer yet.
func (tx *Tx) AnswerQuestion(id string, device fleet.DeviceID, answer []byte) (bool, error) {
	n, err := tx.exec(`UPDATE questions SET answer = $3 WHERE id = $1 AND device_id = $2 AND answer = ''`, id, string(device), string(answer))
	if err != nil {
		return false, fmt.Errorf("keeping the answer to question %q: %w", id, err)
	}
	return n == 1, nil
}

// QuestionAnswer returns the answer to a question, nil while there is none.
func (tx *Tx) QuestionAnswer(id string) ([]byte, error) {
	var answer []byte
	switch err := tx.row(`SELECT answer FROM questions WHERE id = $1`, id).Scan(&answer); {
	case errors.Is(err, sql.ErrNoRows) || err == nil && len(answer) == 0:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading the answer to question %q: %w", id, err)
	}
	return answer, nil
}

// CloseQuestion forgets a question and its answer.
func (tx *Tx) CloseQuestion(id string) error {
	if _, err := tx.exec(`DELETE FROM questions WHERE id = $1`, id); err != nil {
		return fmt.Errorf("closing question %q: %w", id, err)
	}
	return nil
}
