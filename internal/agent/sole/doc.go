// Package sole decides whether this process may be the agent: there is one on
// a state directory, and one that holds the packet filter of a network.
package sole
