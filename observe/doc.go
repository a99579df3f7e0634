// Package observe is how Vigil is watched from outside: the structured log, the
// metrics, and the private HTTP routes with metrics and profiles.
//
// Nothing here is global. A process makes one Registry and one logger and gives them
// to constructors, so that several nodes live in one process and in one test. A nil
// *Registry works everywhere: it hands out metrics that count and are never shown.
//
// Metric names are vigil_<package>_<what>_<unit>, with _total at the end of counters.
// Labels are few and have few values; a metric whose label names a target is deleted
// when the target goes.
package observe
