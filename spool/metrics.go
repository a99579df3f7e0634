package spool

import "vigil/observe"

// metrics are the numbers of one spool. Their meaning is in the help texts.
type metrics struct {
	appended, acked, merged, dropped, rejected, damaged observe.Counter
	damages, writeErrors                                observe.Counter
	syncSeconds                                         observe.Histogram

	records, held, inFlight, bytes, maxBytes, segments, gapSeqs, oldestMs observe.Gauge
}

func newMetrics(r *observe.Registry) *metrics {
	counter := func(name, help string) observe.Counter { return r.Counter(name, help).Counter }
	gauge := func(name, help string) observe.Gauge { return r.Gauge(name, help).Gauge }
	return &metrics{
		appended:    counter("vigil_spool_appended_packets_total", "Packets stored in the spool."),
		acked:       counter("vigil_spool_acknowledged_records_total", "Records that left the spool because the service has them."),
		merged:      counter("vigil_spool_merged_records_total", "Records that became part of a record of coarser time, because the spool was full."),
		dropped:     counter("vigil_spool_dropped_packets_total", "Packets given up because the spool was full. Each is in a gap that is reported to the service."),
		rejected:    counter("vigil_spool_rejected_packets_total", "Packets that the service will never take. They are in the dead-letter file."),
		damaged:     counter("vigil_spool_damaged_packets_total", "Packets lost because their bytes on disk are damaged. Each is in a gap that is reported to the service."),
		damages:     counter("vigil_spool_damaged_places_total", "Damaged places found when the spool was opened, torn writes included."),
		writeErrors: counter("vigil_spool_write_errors_total", "Writes or syncs that failed."),
		syncSeconds: r.Histogram("vigil_spool_sync_seconds", "Time that one fsync took.", nil).Histogram,
		records:     gauge("vigil_spool_records", "Records that wait."),
		held:        gauge("vigil_spool_held_records", "Records that wait and may be merged, because the service did not answer when they were stored."),
		inFlight:    gauge("vigil_spool_in_flight_records", "Records that are on their way."),
		bytes:       gauge("vigil_spool_disk_bytes", "Size of all segment files."),
		maxBytes:    gauge("vigil_spool_disk_limit_bytes", "What the spool may use on disk."),
		segments:    gauge("vigil_spool_segments", "Number of segment files."),
		gapSeqs:     gauge("vigil_spool_gap_packets", "Packets given up of which the service does not know yet."),
		oldestMs:    gauge("vigil_spool_oldest_record_timestamp_seconds", "Unix time of the oldest record that waits; 0 when none does."),
	}
}

// show brings the gauges up to date.
func (c *core) show() {
	s := c.stats()
	c.met.records.Set(float64(s.Records))
	c.met.held.Set(float64(s.Held))
	c.met.inFlight.Set(float64(s.InFlight))
	c.met.bytes.Set(float64(s.Bytes))
	c.met.maxBytes.Set(float64(s.MaxBytes))
	c.met.segments.Set(float64(s.Segments))
	c.met.gapSeqs.Set(float64(s.GapSeqs))
	c.met.oldestMs.Set(float64(s.OldestMs) / 1000)
}
