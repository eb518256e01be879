// Package journal decides how events are written down: which repetitions
// count as one event, the local log, and the spool in which events wait for
// the server.
//
// # Repetitions
//
// An application that is refused tries again, often many times a second. An
// event about the same process, host and action as one within the last
// minute is counted with it instead of being written. The first is written at
// once; it is written again, under the same id with a higher count, when
// stronger evidence arrives (a name that was looked up is then said on the
// connection), and, if the count has grown since, after 1, 5 and 20 seconds
// and when the window closes. What a window has counted beyond what was
// written is lost if the agent is killed; the event itself is not.
//
// # The local log
//
// events/events.jsonl has one event a line. When it is full it becomes
// events.1.jsonl, that becomes events.2.jsonl, and so on; the last one goes.
// Where systemd's journal runs it gets the same fields.
//
// # The spool
//
// spool/ has segments, files of events that are only ever appended to. A
// segment is one batch on the wire and its name, a ULID, is the batch's
// idempotency key, so that a batch which is sent again after a crash has the
// same key and the same events. It is deleted when the server has taken it.
// A write reaches the kernel before Record returns, so that killing the agent
// loses nothing; it reaches the disk within a second, and when its segment
// is closed, so that a power cut costs at most the last second. Syncing every
// event would cost a disk flush each and protect against nothing but that. A
// torn last line is ignored.
//
// The spool is bounded. When it is full the oldest segment of audited events
// goes first, since nothing was refused there; only without any the oldest of
// the rest. What was dropped is counted in spool/dropped.json.
package journal
