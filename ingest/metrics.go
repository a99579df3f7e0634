package ingest

import "vigil/observe"

type metrics struct {
	packets       *observe.CounterVec // by result
	bytes         observe.Counter
	ackSeconds    observe.Histogram
	panics        observe.Counter
	inFlight      observe.Gauge
	inFlightBytes observe.Gauge
}

func newMetrics(r *observe.Registry) *metrics {
	return &metrics{
		packets:       r.Counter("vigil_ingest_packets_total", "Packets by result: ok, or why they were refused.", "result"),
		bytes:         r.Counter("vigil_ingest_received_bytes_total", "Bytes of packet bodies read.").With(),
		ackSeconds:    r.Histogram("vigil_ingest_ack_seconds", "Time from the request until the packet was durable and answered.", observe.DurationBuckets()).With(),
		panics:        r.Counter("vigil_ingest_panics_total", "Requests that ended in a panic.").With(),
		inFlight:      r.Gauge("vigil_ingest_in_flight_requests", "Packets being worked on.").With(),
		inFlightBytes: r.Gauge("vigil_ingest_in_flight_bytes", "Bytes reserved by packets being worked on.").With(),
	}
}
