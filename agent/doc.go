// Package agent watches media servers and brings what it sees to the service. It is
// the composition of the collectors (media), the disk queue (spool), the language
// (wire) and the client (failover).
//
// Two loops share nothing but the spool. The poller asks every media server once per
// interval and appends one packet, synced, before it does anything else; it never
// waits for the network beyond that. The shipper sends from the spool: the newest
// packet at once, so that live pages stay live, and beside it the oldest ones at a
// bounded pace, so that history catches up after an outage without delaying anything.
//
// A packet leaves the spool only when the service has said that it is durable, or has
// said that it will never take it (then it goes to the dead letters and a gap says so).
// Everything else, whatever the network does, leaves it there.
//
// The hold rule: packets are identified by their sequence number, so a packet that may
// have reached the service must never be merged with another one. While the service
// answers, packets are appended free to go. After a failed attempt they are appended
// held: those may be merged, and may not be sent before the spool has been told, on
// disk, that they are released. One packet is always left free, to find out whether
// the service is back.
//
// Locks, in order: Agent.appending (numbering of packets), Agent.mu (counters and
// settings). Neither is held while a media server or the service is asked; appending
// is held over the sync of the spool, because the order of numbers is what it guards.
package agent
