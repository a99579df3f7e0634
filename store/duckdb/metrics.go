package duckdb

import (
	"time"

	"vigil/observe"
)

// metrics are those of one store.
type metrics struct {
	applySeconds observe.Histogram
	applyErrors  observe.Counter
	packets      observe.Counter
	samples      observe.Counter
	sealSeconds  observe.Histogram
	rowsSealed   observe.Counter
	rowsMerged   observe.Counter
	mergeSeconds observe.Histogram
	filesExpired observe.Counter
	querySeconds *observe.HistogramVec
}

func newMetrics(r *observe.Registry, db *DB) *metrics {
	r.GaugeFunc("vigil_store_hot_rows", "Rows that are not in Parquet files yet.", func() float64 {
		return float64(db.hotRows[0].Load() + db.hotRows[1].Load())
	})
	return &metrics{
		applySeconds: r.Histogram("vigil_store_apply_seconds", "Duration of one transaction.", observe.DurationBuckets()).With(),
		applyErrors:  r.Counter("vigil_store_apply_errors_total", "Transactions that failed; each makes storage open the store anew.").With(),
		packets:      r.Counter("vigil_store_packets_total", "Packets stored.").With(),
		samples:      r.Counter("vigil_store_samples_total", "Stream samples stored.").With(),
		sealSeconds:  r.Histogram("vigil_store_seal_seconds", "Duration of moving hot rows into files.", observe.DurationBuckets()).With(),
		rowsSealed:   r.Counter("vigil_store_sealed_rows_total", "Rows moved into files.").With(),
		rowsMerged:   r.Counter("vigil_store_merged_rows_total", "Rows read to merge files.").With(),
		mergeSeconds: r.Histogram("vigil_store_merge_seconds", "Duration of one merge of files.", observe.DurationBuckets()).With(),
		filesExpired: r.Counter("vigil_store_expired_files_total", "Files deleted because they were over their retention.").With(),
		querySeconds: r.Histogram("vigil_store_query_seconds", "Duration of one question.", observe.DurationBuckets(), "question"),
	}
}

func (m *metrics) applied(a *applying, packets int, took time.Duration) {
	m.applySeconds.Observe(took.Seconds())
	m.packets.Add(float64(packets))
	m.samples.Add(float64(a.samples))
}

func (m *metrics) sealed(rows int64, took time.Duration) {
	m.sealSeconds.Observe(took.Seconds())
	m.rowsSealed.Add(float64(rows))
}

func (m *metrics) merged(rows int64, took time.Duration) {
	m.mergeSeconds.Observe(took.Seconds())
	m.rowsMerged.Add(float64(rows))
}
