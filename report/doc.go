// Package report turns questions into numbers: what the fleet does now, how many
// viewers a stream had yesterday, how much a server sent this week. It reads the
// analytic store for the past and the live view for the present, and does nothing
// but arithmetic on what they say: no I/O of its own, no clock of its own.
//
// Four rules hold for every number that leaves this package:
//
//   - It was counted. An average is viewer time divided by the time that was
//     watched, a rate is bytes divided by the time they took; nothing is scaled up
//     for servers that did not report.
//   - Unknown stays unknown. A bucket that nothing covers has no numbers, and a
//     total that has no part has none either.
//   - It says how complete it is: covered time against the time that servers known
//     then should have covered, per bucket and for the whole range.
//   - It carries its unit in its name (_ms, _bps, _bytes, _pct) and the time it
//     is true of (at_ms).
//
// Every result lists how long its steps took, so that a slow page can be asked why.
package report
