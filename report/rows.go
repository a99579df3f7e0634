package report

import (
	"net/url"
	"strings"

	"vigil/fleet"
	"vigil/live"
)

// Totals is the fleet now.
type Totals struct {
	AsOfMs        int64     `json:"as_of_ms"` // newest snapshot; 0 when there is none
	AgeMs         fleet.Int `json:"age_ms"`   // of the newest snapshot; null when there is none
	OldestAgeMs   fleet.Int `json:"oldest_age_ms"`
	Servers       int64     `json:"servers"`
	ServersOK     int64     `json:"servers_ok"`
	ServersSilent int64     `json:"servers_silent"`
	ServersFailed int64     `json:"servers_failed"`
	Streams       int64     `json:"streams"`
	StreamsIdle   int64     `json:"streams_idle"`
	Viewers       fleet.Int `json:"viewers"`
	Publishers    fleet.Int `json:"publishers"`
	InBps         fleet.Int `json:"in_bps"`
	OutBps        fleet.Int `json:"out_bps"`
}

// Server states. A silent server's agent sends nothing; a failed one is watched by
// an agent that cannot read it; the numbers of a partial one are true of a part.
const (
	ServerOK      = "ok"
	ServerPartial = "partial"
	ServerFailed  = "failed"
	ServerSilent  = "silent"
	ServerUnknown = "unknown"
)

// Server is one media server now.
type Server struct {
	Key         string    `json:"key"`
	Agent       string    `json:"agent"`
	Product     string    `json:"product"`
	Version     string    `json:"version"`
	Verified    string    `json:"verified"`
	State       string    `json:"state"`  // ok, partial, failed, silent, unknown
	Status      string    `json:"status"` // what the last poll said
	Detail      string    `json:"detail"`
	AtMs        int64     `json:"at_ms"`
	AgeMs       int64     `json:"age_ms"` // since the last packet was received
	IntervalMs  int64     `json:"interval_ms"`
	UptimeMs    fleet.Int `json:"uptime_ms"`
	Streams     fleet.Int `json:"streams"`
	Viewers     fleet.Int `json:"viewers"`
	Publishers  fleet.Int `json:"publishers"`
	InBps       fleet.Int `json:"in_bps"`
	OutBps      fleet.Int `json:"out_bps"`
	LatencyMs   int64     `json:"latency_ms"`
	CPUPct      Num       `json:"cpu_pct"`
	MemRSSBytes fleet.Int `json:"mem_rss_bytes"`
	Conns       fleet.Int `json:"conns"`
	Workers     fleet.Int `json:"workers"`
}

// Stream is one stream now.
type Stream struct {
	Key         fleet.StreamKey     `json:"key"`
	Query       string              `json:"query"` // the key as a URL query: names may hold any bytes, and JSON may not
	State       string              `json:"state"`
	Silent      bool                `json:"silent"` // its server is silent: these are the last known numbers
	AtMs        int64               `json:"at_ms"`
	AgeMs       int64               `json:"age_ms"`
	OnlineMs    fleet.Int           `json:"online_ms"` // how long it is on air
	Tech        string              `json:"tech"`
	ByTech      []fleet.TechViewers `json:"by_tech,omitempty"`
	Viewers     fleet.Int           `json:"viewers"`
	InBps       fleet.Int           `json:"in_bps"`
	OutBps      fleet.Int           `json:"out_bps"`
	Media       fleet.Media         `json:"media"`
	PublisherIP string              `json:"publisher_ip,omitempty"`
	Notes       []string            `json:"notes,omitempty"` // what happened to the last numbers: counter_reset, merged, ...
}

func totalsOf(t live.Totals, nowMs int64) Totals {
	out := Totals{
		AsOfMs: t.AsOfMs, Servers: t.Servers, ServersOK: t.ServersOK, ServersSilent: t.ServersSilent,
		ServersFailed: t.ServersFailed, Streams: t.Streams, StreamsIdle: t.StreamsIdle, Viewers: t.Viewers,
		Publishers: t.Publishers, InBps: t.InBps, OutBps: t.OutBps,
	}
	if t.AsOfMs > 0 {
		out.AgeMs = fleet.Of(max(0, nowMs-t.AsOfMs))
	}
	if t.OldestMs > 0 {
		out.OldestAgeMs = fleet.Of(max(0, nowMs-t.OldestMs))
	}
	return out
}

func serverOf(s live.ServerRow, nowMs int64) Server {
	out := Server{
		Key: s.Key, Agent: s.Agent, Product: s.Product, Version: s.Version, Verified: s.Verified,
		State: serverState(s), Status: s.Status.String(), Detail: s.Detail, AtMs: s.AtMs,
		AgeMs: max(0, nowMs-s.ReceivedMs), IntervalMs: s.IntervalMs, Streams: s.Streams, Viewers: s.Viewers,
		Publishers: s.Publishers, InBps: s.InBps, OutBps: s.OutBps, LatencyMs: s.LatencyMs,
		MemRSSBytes: s.MemRSSBytes, Conns: s.ConnsNow, Workers: s.Workers,
	}
	if started, ok := s.StartedMs.Get(); ok && started > 0 {
		out.UptimeMs = fleet.Of(max(0, s.AtMs-started))
	}
	if cpu, ok := s.CPUMilliPct.Get(); ok {
		out.CPUPct = NumOf(float64(cpu) / 1000)
	}
	return out
}

func serverState(s live.ServerRow) string {
	switch {
	case s.Silent:
		return ServerSilent
	case s.Status == fleet.StatusOK:
		return ServerOK
	case s.Status == fleet.StatusPartial:
		return ServerPartial
	case s.Status == fleet.StatusUnknown:
		return ServerUnknown
	}
	return ServerFailed
}

func streamOf(s live.StreamRow, nowMs int64) Stream {
	out := Stream{
		Key: s.Key, Query: KeyQuery(s.Key), State: s.State.String(), Silent: s.Silent, AtMs: s.AtMs,
		AgeMs: max(0, nowMs-s.AtMs), Tech: s.Tech.String(), ByTech: s.ByTech, Viewers: s.Viewers,
		InBps: s.InBps, OutBps: s.OutBps, Media: s.Media, PublisherIP: s.PublisherIP, Notes: notesOf(s.Flags),
	}
	if since, ok := s.OnlineSinceMs.Get(); ok && since > 0 {
		out.OnlineMs = fleet.Of(max(0, s.AtMs-since))
	}
	return out
}

var flagNames = [...]struct {
	flag fleet.SampleFlags
	name string
}{
	{fleet.FlagCounterReset, "counter_reset"},
	{fleet.FlagNewIncarnation, "new_incarnation"},
	{fleet.FlagBaseline, "baseline"},
	{fleet.FlagClamped, "clamped"},
	{fleet.FlagNameCollision, "name_collision"},
	{fleet.FlagTailUnobserved, "tail_unobserved"},
	{fleet.FlagMerged, "merged"},
}

func notesOf(flags fleet.SampleFlags) []string {
	var notes []string
	for _, f := range flagNames {
		if flags&f.flag != 0 {
			notes = append(notes, f.name)
		}
	}
	return notes
}

// KeyQuery writes a stream's key as a URL query, without the parts it does not have.
func KeyQuery(key fleet.StreamKey) string {
	var b strings.Builder
	add := func(name, value string) {
		if value == "" && name != "name" {
			return
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(name + "=" + url.QueryEscape(value))
	}
	add("server", key.Server)
	add("vhost", key.VHost)
	add("app", key.App)
	add("instance", key.Instance)
	add("name", key.Name)
	return b.String()
}

// KeyFrom reads a stream's key from URL values.
func KeyFrom(v url.Values) fleet.StreamKey {
	return fleet.StreamKey{
		Server: v.Get("server"), VHost: v.Get("vhost"), App: v.Get("app"),
		Instance: v.Get("instance"), Name: v.Get("name"),
	}
}
