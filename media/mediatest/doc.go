// Package mediatest emulates media servers over HTTP: the statistics pages of
// nginx-rtmp and Icecast as the real programs write them, fed by a simulated fleet
// whose truth is known to the byte, with switches for everything that goes wrong in
// practice.
//
// An Emulator is one server. It is an http.Handler and can listen on a loopback port
// of its own; a Farm puts many behind one port. Each answer is recorded, so that a
// test can compare what a collector made of it with exactly what was said.
//
// The dialects were written from the output of Debian's nginx 1.22.1 with its rtmp
// module 1.2.2 and of Icecast 2.4.4, and the tests hold the emulators against those
// programs. What differs on purpose: the emulated Icecast speaks HTTP/1.1, it
// sends no burst to new listeners and its mounts' bytes leave the HTTP headers out.
package mediatest
