// Package failover is the client for a service that is published under several
// addresses of which some may be dead. Transport is an http.RoundTripper for one host:
// it looks the addresses up itself, keeps the last good set when the name servers are
// away, races connections, believes an address only at the first byte of an answer,
// remembers the dead ones, and takes a failed request to another address when that is
// safe.
//
// What to try next is decided by Core, a step function without goroutines, clock or
// sockets; Transport is the shell around it. DESIGN.md has the picture and the rules.
//
// Locks, in the order in which they are taken: Transport.mu (the core and the
// connections), then nothing. No lock is held across I/O.
package failover
