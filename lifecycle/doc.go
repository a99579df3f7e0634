// Package lifecycle starts the parts of a process in order and stops them in reverse.
//
// A part is a function that blocks. Its context ends when the part should stop: take
// nothing new, finish what is there, return. Drain gives a part a second context that
// lives until the part's deadline for stopping; work that must finish uses it. A part
// that is still running at its deadline is named in the log and left behind, because
// one stuck part must not keep the others from stopping well.
//
// Signals come in two stages. The first one stops, the second one ends the process at
// once: whatever the process has acknowledged is durable already, and the next start
// finds the marker of an unclean end.
package lifecycle
