package bus

import "vigil/observe"

type metrics struct {
	startSeconds observe.Gauge
	storeBytes   observe.Gauge
	healthy      observe.Gauge
	restarts     observe.Counter
}

func newMetrics(r *observe.Registry) *metrics {
	return &metrics{
		startSeconds: r.Gauge("vigil_bus_start_seconds", "Time from start until the embedded NATS server answered.").With(),
		storeBytes:   r.Gauge("vigil_bus_store_bytes", "Bytes of all streams and buckets.").With(),
		healthy:      r.Gauge("vigil_bus_healthy", "1 while the embedded NATS server can write, otherwise 0.").With(),
		restarts:     r.Counter("vigil_bus_storage_restarts_total", "Times the storage of the embedded NATS server was begun anew after a write error.").With(),
	}
}
