// Package conntrack ends connections that are already open, and tells when
// one has ended by itself (Linux). It speaks to two parts of the kernel: to
// sock_diag, which can destroy a local socket so that its program notices at
// once, and to ctnetlink, which holds the connection mark by which the rules
// of package nft refuse what is left. Which connections end is for others to
// say.
package conntrack
