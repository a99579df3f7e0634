package duckdb

import "strings"

// A kind is a family of rows that goes through the same life: hot table, raw Parquet
// files and, for streams and servers, minutes, quarters of an hour and days.
type kind struct {
	name    string
	id      string      // column that rows are sorted and sliced by, before the time; empty: time only
	columns []column    // of the hot tables and of raw files
	rollup  []rollupCol // of rolled-up files, after id and ts_ms; nil: this kind has raw rows only
	groupBy []string    // further columns that rollups keep apart
}

type column struct {
	name string
	typ  columnType
}

// A rollupCol is one column of a rolled-up row and how it is made from raw rows and
// from finer rollups. Both are sums, maxima or "newest of", so partial rows of one
// bucket can be added in any order.
type rollupCol struct {
	name    string
	typ     columnType
	fromRaw string // aggregate over raw rows
	again   string // aggregate over rolled-up rows
}

type columnType uint8

const (
	typeBool columnType = iota
	typeU8
	typeU16
	typeI32
	typeI64
	typeU64
	typeBlob
	typeText
)

var columnTypeNames = [...]string{"BOOLEAN", "UTINYINT", "USMALLINT", "INTEGER", "BIGINT", "UBIGINT", "BLOB", "VARCHAR"}

// sumOf adds up in 128 bits; a sum that fits no BIGINT is a lie of an agent and
// becomes unknown instead of stopping the store.
func sumOf(name string) rollupCol {
	return rollupCol{name, typeI64, "TRY_CAST(sum(" + name + ") AS BIGINT)", "TRY_CAST(sum(" + name + ") AS BIGINT)"}
}

func maxOf(name string) rollupCol {
	return rollupCol{name, typeI64, "max(" + name + ")", "max(" + name + ")"}
}

func newestOf(name string) rollupCol {
	return rollupCol{name, typeU8, "arg_max(" + name + ", ts_ms)", "arg_max(" + name + ", ts_ms + last_ms)"}
}

var samplesCol = rollupCol{"samples", typeI64, "count(*)", "TRY_CAST(sum(samples) AS BIGINT)"}

// The row of a stream over one interval. A part row (part = true) carries only the viewers
// of one technology of a stream that has several: sums leave part rows out, except
// those by technology.
var streamKind = kind{
	name: "stream",
	id:   "stream_id",
	columns: []column{
		{"stream_id", typeU64},
		{"ts_ms", typeI64}, // end of the interval
		{"part", typeBool},
		{"tech", typeU8},
		{"state", typeU8},
		{"flags", typeU16},
		{"covered_ms", typeI32},
		{"viewers", typeI64},
		{"viewers_max", typeI64}, // NULL: viewers
		{"viewer_ms", typeI64},   // NULL: viewers * covered_ms
		{"bytes_in", typeI64},
		{"bytes_out", typeI64},
		{"frames_dropped", typeI64},
	},
	groupBy: []string{"part", "tech"},
	rollup: []rollupCol{
		newestOf("state"), samplesCol, sumOf("covered_ms"), sumOf("viewer_ms"), maxOf("viewers_max"),
		sumOf("bytes_in"), sumOf("bytes_out"), sumOf("frames_dropped"),
	},
}

// The row of a server over one interval. The numbers that begin with stream_ are sums over its
// streams, so that they can be compared with the server's own without
// touching hundreds of thousands of rows.
var serverKind = kind{
	name: "server",
	id:   "server_id",
	columns: []column{
		{"server_id", typeU64},
		{"ts_ms", typeI64},
		{"interval_ms", typeI64}, // of the whole snapshot, also when it was cut
		{"received_ms", typeI64},
		{"status", typeU8},
		{"flags", typeU16},
		{"covered_ms", typeI32},
		{"viewers", typeI64},
		{"viewers_max", typeI64},
		{"viewer_ms", typeI64},
		{"bytes_in", typeI64},
		{"bytes_out", typeI64},
		{"conns_accepted", typeI64},
		{"conns_rejected", typeI64},
		{"conns_now", typeI64},
		{"streams_now", typeI64},
		{"publishers_now", typeI64},
		{"cpu_milli_pct", typeI64},
		{"mem_rss_bytes", typeI64},
		{"latency_ms", typeI64},
		{"unknown_fields", typeI64},
		{"stream_covered_ms", typeI64},
		{"stream_viewer_ms", typeI64},
		{"stream_bytes_in", typeI64},
		{"stream_bytes_out", typeI64},
	},
	rollup: []rollupCol{
		newestOf("status"), samplesCol, sumOf("covered_ms"), sumOf("viewer_ms"), maxOf("viewers_max"),
		sumOf("bytes_in"), sumOf("bytes_out"), sumOf("conns_accepted"), sumOf("conns_rejected"),
		sumOf("stream_covered_ms"), sumOf("stream_viewer_ms"), sumOf("stream_bytes_in"), sumOf("stream_bytes_out"),
	},
}

// One row per stored packet: the proof that it is counted.
var packetKind = kind{
	name: "packet",
	columns: []column{
		{"ts_ms", typeI64}, // of its newest snapshot; when it was received, if it has none
		{"agent", typeBlob},
		{"epoch", typeU64},
		{"first_seq", typeU64},
		{"seq", typeU64},
		{"received_ms", typeI64},
		{"bytes_in", typeI64},
		{"bytes_out", typeI64},
	},
}

var eventKind = kind{
	name: "event",
	id:   "stream_id",
	columns: []column{
		{"stream_id", typeU64},
		{"ts_ms", typeI64},
		{"state", typeU8},
		{"reason", typeBlob},
	},
}

// A session is reported when it starts and when it ends, so it may have two rows; the
// one that was seen last is true.
var sessionKind = kind{
	name: "session",
	id:   "stream_id",
	columns: []column{
		{"stream_id", typeU64},
		{"ts_ms", typeI64}, // when it was last seen
		{"id", typeBlob},
		{"role", typeU8},
		{"tech", typeU8},
		{"remote_ip", typeBlob},
		{"user_agent", typeBlob},
		{"started_ms", typeI64},
		{"ended_ms", typeI64},
		{"end_reason", typeBlob},
		{"bytes_in", typeI64},
		{"bytes_out", typeI64},
		{"method", typeBlob},
		{"unobserved", typeBool},
	},
}

// The tables that are not hot, as far as rows are appended to them in bulk.
var (
	serverDimColumns = []column{{"server_id", typeU64}, {"server", typeBlob}, {"first_ms", typeI64}}
	streamDimColumns = []column{
		{"stream_id", typeU64}, {"server_id", typeU64}, {"vhost", typeBlob}, {"app", typeBlob}, {"instance", typeBlob}, {"name", typeBlob},
	}
	streamInfoColumns = []column{
		{"stream_id", typeU64}, {"ts_ms", typeI64}, {"online_since_ms", typeI64}, {"incarnation", typeBlob},
		{"publishers", typeI64}, {"publisher_ip", typeBlob}, {"video_codec", typeBlob}, {"video_profile", typeBlob},
		{"width_px", typeI64}, {"height_px", typeI64}, {"fps_milli", typeI64}, {"audio_codec", typeBlob},
		{"audio_profile", typeBlob}, {"channels", typeI64}, {"sample_rate_hz", typeI64}, {"declared_bps", typeI64},
	}
	serverInfoColumns = []column{
		{"server_id", typeU64}, {"ts_ms", typeI64}, {"agent", typeBlob}, {"product", typeBlob}, {"version", typeBlob},
		{"collector", typeBlob}, {"verified", typeBlob}, {"boot_id", typeBlob}, {"started_ms", typeI64}, {"workers", typeI64},
		{"conn_limit", typeI64}, {"detail", typeBlob},
	}
	positionColumns = []column{{"batch", typeI64}, {"shard", typeText}, {"seq", typeU64}}
	ledgerColumns   = []column{{"batch", typeI64}, {"agent", typeBlob}, {"epoch", typeU64}, {"high", typeU64}, {"ahead", typeBlob}, {"given_up", typeBlob}}
	gapColumns      = []column{
		{"agent", typeBlob}, {"epoch", typeU64}, {"first_seq", typeU64}, {"last_seq", typeU64},
		{"from_ms", typeI64}, {"to_ms", typeI64}, {"reason", typeBlob}, {"received_ms", typeI64}, {"withdrawn", typeBool},
	}
)

// kindsInOrder is the order in which rows are sealed.
func kindsInOrder() []*kind {
	return []*kind{&streamKind, &serverKind, &packetKind, &eventKind, &sessionKind}
}

// hotTable names one of the two generations of a kind's hot table.
func (k *kind) hotTable(generation int) string {
	return k.name + "_hot_" + [...]string{"a", "b"}[generation]
}

// createHot is the statement that makes a hot table.
func (k *kind) createHot(generation int) string {
	cols := make([]string, len(k.columns))
	for i, c := range k.columns {
		cols[i] = c.name + " " + columnTypeNames[c.typ]
	}
	return "CREATE TABLE " + k.hotTable(generation) + " (" + strings.Join(cols, ", ") + ")"
}

func (k *kind) orderBy() string {
	if k.id == "" {
		return "ts_ms"
	}
	return k.id + ", ts_ms"
}

// rolls reports whether the kind has rollups.
func (k *kind) rolls() bool { return k.rollup != nil }

// A tier is one resolution.
type tier struct {
	name    string
	widthMs int64 // of a bucket; 0: raw
	coarser string
}

const (
	tierRaw     = "raw"
	tierMinute  = "minute"
	tierQuarter = "quarter"
	tierDay     = "day"

	minuteMs  = 60_000
	quarterMs = 15 * minuteMs
	hourMs    = 60 * minuteMs
	dayMs     = 24 * hourMs
)

// tiers are ordered from fine to coarse.
var tiers = [...]tier{
	{tierRaw, 0, tierMinute},
	{tierMinute, minuteMs, tierQuarter},
	{tierQuarter, quarterMs, tierDay},
	{tierDay, dayMs, ""},
}

func tierNamed(name string) tier {
	for _, t := range tiers {
		if t.name == name {
			return t
		}
	}
	return tiers[0]
}

// rollRaw is the statement that makes rollup rows of the given width from raw rows.
// The bucket of a sample is the one that holds the last millisecond of its interval.
func (k *kind) rollRaw(source, where string, widthMs int64) string {
	return k.rollFrom("(SELECT * REPLACE (coalesce(viewer_ms, viewers * covered_ms) AS viewer_ms, "+
		"coalesce(viewers_max, viewers) AS viewers_max) FROM "+source+" WHERE "+where+")",
		"(ts_ms - 1)", "max(ts_ms)", widthMs, func(c rollupCol) string { return c.fromRaw })
}

// rollAgain is the statement that makes rollup rows of the given width from finer ones.
func (k *kind) rollAgain(source, where string, widthMs int64) string {
	return k.rollFrom("(SELECT * FROM "+source+" WHERE "+where+")",
		"ts_ms", "max(ts_ms + last_ms)", widthMs, func(c rollupCol) string { return c.again })
}

func (k *kind) rollFrom(source, at, last string, widthMs int64, aggregate func(rollupCol) string) string {
	// The inner query names its aggregates apart, so that no alias hides a column.
	groups := ""
	for _, g := range k.groupBy {
		groups += ", " + g
	}
	var inner, outer strings.Builder
	inner.WriteString("SELECT " + k.id + ", " + at + " - " + at + " % " + itoa(widthMs) + " AS bucket_ms" + groups + ", " + last + " AS newest_ms")
	outer.WriteString("SELECT " + k.id + ", bucket_ms AS ts_ms" + groups + ", (newest_ms - bucket_ms)::INTEGER AS last_ms")
	for _, c := range k.rollup {
		inner.WriteString(", " + aggregate(c) + " AS new_" + c.name)
		outer.WriteString(", new_" + c.name + "::" + columnTypeNames[c.typ] + " AS " + c.name)
	}
	inner.WriteString(" FROM " + source + " GROUP BY " + k.id + ", bucket_ms" + groups)
	return outer.String() + " FROM (" + inner.String() + ")"
}
