// Package fleetsim is a fleet of media servers in closed form: who publishes, who
// watches and how many bytes have flowed is a pure function of a seed and a time.
// Nothing is stored and nothing advances, so a fleet of any size costs nothing
// until somebody asks, two processes with the same seed agree without talking, and
// the truth between any two instants can be computed exactly afterwards. Tests and
// the demo compare what Vigil reports with that truth.
//
// The model, from the outside in:
//
//   - A Server boots, and with Config.RestartEvery restarts now and then. Between
//     going down and coming up nothing flows.
//   - A Stream has a day that repeats. Its publications are intervals of that day;
//     one stream in three, and always the first of a server, publishes without end.
//   - A seat is a place in the audience. It is taken while the day's curve is above
//     the seat's threshold, by one viewer after another: each watches for a while,
//     and after a pause the next one comes. The popularity of streams follows Zipf.
//   - A flash crowd adds seats that are taken once.
//
// Rates are whole bytes per millisecond and times whole milliseconds, so every
// counter is an exact integral: bytes out is the rate times the viewer-ms, to the
// byte, and what flows in two adjoining intervals adds up to what flows in both.
//
// Times are Unix milliseconds (UTC). The package does no I/O, never asks for the
// time and uses no floating point. A Fleet is immutable; all methods are safe for
// concurrent use.
package fleetsim
