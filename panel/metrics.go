package panel

import "vigil/observe"

// metrics are the panel's own numbers. Labels are route patterns and error kinds:
// both are short lists.
type metrics struct {
	requests     *observe.CounterVec
	failures     *observe.CounterVec
	panics       observe.Counter
	eventStreams observe.Gauge
	events       *observe.CounterVec
	refused      observe.Counter
}

func newMetrics(r *observe.Registry) *metrics {
	return &metrics{
		requests:     r.Counter("vigil_panel_requests_total", "Requests by route.", "route"),
		failures:     r.Counter("vigil_panel_failures_total", "Requests that ended with an error, by its kind.", "kind"),
		panics:       r.Counter("vigil_panel_panics_total", "Requests that ended with a panic.").With(),
		eventStreams: r.Gauge("vigil_panel_event_streams", "Open event streams of pages.").With(),
		events:       r.Counter("vigil_panel_events_total", "Events sent to pages, by type.", "type"),
		refused:      r.Counter("vigil_panel_event_streams_refused_total", "Event streams refused because too many were open.").With(),
	}
}
