package storage

import (
	"time"

	"vigil/observe"
)

// metrics are those of one Storage.
type metrics struct {
	packets            *observe.CounterVec
	rows               observe.Counter
	restarts           observe.Counter
	panics             observe.Counter
	messagesMissing    observe.Counter
	messagesDamaged    observe.Counter
	packetsArrived     observe.Counter
	transactionSeconds observe.Histogram
}

func newMetrics(r *observe.Registry, s *Storage) *metrics {
	r.GaugeFunc("vigil_storage_lag_seconds", "From ingest to stored, of the newest transaction.", func() float64 {
		return time.Duration(s.lag.Load()).Seconds()
	})
	r.GaugeFunc("vigil_storage_live_dropped_streams", "Streams of silent servers that the live view forgot because it was full, since the start.", func() float64 {
		return float64(s.deps.Live.Dropped())
	})
	return &metrics{
		packets:            r.Counter("vigil_storage_packets_total", "Packets read from the journal, by what became of them.", "result"),
		rows:               r.Counter("vigil_storage_rows_total", "Stream samples stored.").Counter,
		restarts:           r.Counter("vigil_storage_restarts_total", "Failures after which storage started again from its positions.").Counter,
		panics:             r.Counter("vigil_storage_panics_total", "Panics survived while decoding.").Counter,
		messagesMissing:    r.Counter("vigil_storage_missing_messages_total", "Messages that the journal lost before they were applied.").Counter,
		messagesDamaged:    r.Counter("vigil_storage_damaged_messages_total", "Messages of the journal that could not be read.").Counter,
		packetsArrived:     r.Counter("vigil_storage_arrived_packets_total", "Packets counted although they had been given up before.").Counter,
		transactionSeconds: r.Histogram("vigil_storage_transaction_seconds", "Duration of storing one batch.", nil).Histogram,
	}
}

func (m *metrics) published(t *tally) {
	m.packets.With("applied").Add(float64(t.applied))
	m.packets.With("duplicate").Add(float64(t.duplicate))
	m.packetsArrived.Add(float64(t.arrived))
	m.packets.With("conflict").Add(float64(t.conflict))
	m.packets.With("quarantined").Add(float64(t.quarantined))
	m.rows.Add(float64(t.rows))
}
