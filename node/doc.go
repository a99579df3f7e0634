// Package node is one machine of the service: it opens the parts that the node's
// roles need, in order, connects them, and closes them in reverse.
//
//	directory -> observe -> bus -> journal -> catalog -> store -> storage -> ingest, panel
//
// A node runs only on a data directory that Init prepared. A wrong path would
// otherwise look like an empty fleet, and agents would empty their spools into it.
//
// Several nodes may run in one process, each with its own data directory and its own
// metrics; package node has no state of its own.
package node
