package journal

import (
	"errors"
	"time"

	"vigil/bus"
	"vigil/observe"
)

type metrics struct {
	appendSeconds *observe.HistogramVec // by result
	messages      *observe.CounterVec   // by result
	bytes         observe.Counter
	batch         observe.Histogram
	retries       observe.Counter
	used          *observe.GaugeVec // by shard
	limit         *observe.GaugeVec // by shard
}

func newMetrics(r *observe.Registry) *metrics {
	return &metrics{
		appendSeconds: r.Histogram("vigil_journal_append_seconds", "Time until an entry was durable, by result.", observe.DurationBuckets(), "result"),
		messages:      r.Counter("vigil_journal_publishes_total", "Messages published, one fsync each, by result.", "result"),
		bytes:         r.Counter("vigil_journal_published_bytes_total", "Bytes of messages acknowledged.").With(),
		batch:         r.Histogram("vigil_journal_batch_entries", "Entries that shared one fsync.", []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512}).With(),
		retries:       r.Counter("vigil_journal_retries_total", "Times an entry was given to another shard because the first failed or was slow.").With(),
		used:          r.Gauge("vigil_journal_used_bytes", "Bytes kept in a shard.", "shard"),
		limit:         r.Gauge("vigil_journal_limit_bytes", "Bytes that a shard may keep.", "shard"),
	}
}

func (m *metrics) appended(took time.Duration, err error) {
	m.appendSeconds.With(result(err)).Observe(took.Seconds())
}

func (m *metrics) published(entries, size int, err error) {
	m.messages.With(result(err)).Inc()
	if err == nil {
		m.bytes.Add(float64(size))
		m.batch.Observe(float64(entries))
	}
}

func (m *metrics) usage(shard string, state bus.StreamState) {
	m.used.With(shard).Set(float64(state.Bytes))
	m.limit.With(shard).Set(float64(state.MaxBytes))
}

// result is the label of an outcome; few and fixed.
func result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrFull), errors.Is(err, bus.ErrFull):
		return "full"
	case errors.Is(err, ErrTooLarge), errors.Is(err, bus.ErrTooLarge):
		return "too_large"
	case errors.Is(err, ErrClosed), errors.Is(err, bus.ErrClosed):
		return "closed"
	}
	return "unavailable"
}
