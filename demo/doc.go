// Package demo runs the whole of Vigil on loopback: one node with every role, a
// fleet of media servers, and an agent beside each. The fleet is simulated by
// default, and then its truth is known to the byte; with Options.Real it is nginx
// with its rtmp module and Icecast, published to by ffmpeg.
//
// Nothing in the path from the media server to the page is special to the demo:
// collectors poll over HTTP, agents spool and send, the node takes, journals and
// stores. At the end the demo settles the account: what agents had acknowledged
// against what is stored, and what is reported against what truly flowed.
package demo
