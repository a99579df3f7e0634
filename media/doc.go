// Package media reads media servers: one Collector per product turns what the server
// says into a fleet.Reading, and the Tracker turns successive readings of one server
// into snapshots. A collector knows the product and no history; the tracker knows
// history and, but for three facts in a table, no product.
//
// # nginx-rtmp
//
// One request to the page of the rtmp_stat directive (XML), which must be set to
// "all". Its bytes are counters per worker process and per stream; its rates (bw_in,
// bw_out) are ten percent too high by construction and are never read. The process
// number and the start of the process tell one run of the counters from the next;
// for a stream the time since its object was made does. That object outlives its
// publisher while players wait, so the next publisher continues its counters, and
// publishers are told apart by their connections. Connections are those of publishers,
// players, and relays (push and pull of other servers, told by their flash version):
// only players are viewers. Every request uses a connection of its own, because a kept
// one would always reach the same worker and hide the others. Files played from disk
// (play) are streams of the instance "play", without bytes. A second server block has
// the virtual host "2", a third "3", and so on, because the page does not name them.
//
// Forks may name the root http-flv and print bytes per client; both are read. What
// the page of a fork says is reported as verified "spec".
//
// # Icecast
//
// With credentials one request to /admin/stats (XML), otherwise one to
// /status-json.xsl, which has no bytes and costs the server about ten times more. A
// mount lives as long as its source, so the start of the stream, as printed, tells
// one run of its counters from the next, and server_start does for the server. Ages
// are taken against the Date of the answer, so a wrong clock does no harm. The server
// has no byte counters of its own: the sum over the mounts takes their place. Its
// counts of clients and connections include our own polls and are not used; accepted
// connections are listeners, sources and relays. Listeners with address and user agent
// come from /admin/listclients, one request per mount that has listeners, at the rate
// of ClientListEvery.
//
// # Bounds
//
// One request is under way per server, with a time-out. An answer is read as a stream
// and may not exceed 64 MiB after decompression, 32 levels, 200,000 streams or
// 1,000,000 clients. An answer that does not end as it must gives no numbers at all.
package media
