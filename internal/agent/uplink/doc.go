// Package uplink decides how an agent and its server stay in touch:
// enrolment, the stream, bundles that come down, events and reports of use that
// go up, questions the server asks, requests for access, and the renewal of the
// device's certificate.
//
// Everything runs over mutual TLS to the one server whose certificate
// authority was pinned at enrolment. The agent holds one response open, the
// stream; on it the server says that there is a new bundle, and the agent
// fetches it, verifies it, has it applied and acknowledges it. Each part
// retries on its own with jittered, growing pauses, and none needs another to
// work: events go up while the stream is down, and a slow periodic check
// fetches bundles even if no nudge ever comes.
//
// An acknowledgement says which bundle is in force, which settings are not as
// the server asked and what is wrong for longer than a moment; it is repeated
// when one of these changes.
//
// A bundle that does not verify is refused and reported once for each
// cause; the last good one stays in force. How a bundle is put into force is
// the caller's business, see Config.Apply.
package uplink
