// Package blockpage decides which refused requests are answered with a page that
// says why, what the page says, and how it reaches the program that asked.
//
// The program's request waits in the queue. We put one segment beside it
// that looks as if the server had sent it: it acknowledges the request and
// carries a whole HTTP response and the connection's end. Then the request is
// refused as any other. The reset which the kernel sends the program for that
// comes too late to hurt: its sequence number is one that the program's end
// has received already, so that it is dropped, or answered with a challenge
// (RFC 5961, section 3.2) which meets a reset of its own. By then the response
// is in the program's receive queue and marked as complete, and Linux hands
// out what is in there before it speaks of errors.
//
// What cannot be answered in this way without doubt is not answered, and its
// program sees the reset alone. That is so for everything but GET and HEAD
// requests without a body that came whole in one segment; for forwarded
// connections, whose program is not on this host; for addresses that need a
// zone; for connections whose ends the connection table translates, since a
// segment under the untranslated names belongs to none and is discarded by the
// kernel; and beyond a bounded rate.
//
// The segment never leaves the host: it is sent only where the kernel says
// that its destination is this host's own, and its hop limit is one.
package blockpage
