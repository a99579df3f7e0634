// Package real starts private instances of real media servers and clients on loopback:
// nginx with its rtmp module, Icecast, and ffmpeg as publisher and viewer. Tests hold
// collectors and emulators against them, and a demo can show a fleet that is not
// simulated.
//
// Everything lives in one directory, listens on free ports of 127.0.0.1 and dies with
// its Lab: each program is the leader of a process group that is killed as a whole.
// Programs that are missing are an error that says how to install them.
package real
