package agent

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"vigil/fleet"
)

// Limits of what goes into a packet. They are well below those of wire, so that one
// strange name never spoils a packet.
const (
	maxNameBytes   = 1 << 10
	maxDetailBytes = 512
	maxAgentBytes  = 512 // of a user agent
	maxNumber      = 1 << 53
	maxTimeMs      = 253402300799999 // year 9999
)

// What must not leave the customer's network: passwords in addresses and whatever
// stands in a query, which is where players and encoders carry their tokens.
var (
	credentials = regexp.MustCompile(`//[^/@\s"']*@`)
	query       = regexp.MustCompile(`\?[^\s"']*`)
)

func redact(s string) string {
	if strings.Contains(s, "@") {
		s = credentials.ReplaceAllString(s, "//***@")
	}
	if strings.Contains(s, "?") {
		s = query.ReplaceAllString(s, "?***")
	}
	return s
}

// clip shortens a string without cutting through a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const mark = "..."
	s = s[:n-len(mark)]
	for len(s) > 0 {
		if r, size := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || size > 1 {
			break
		}
		s = s[:len(s)-1]
	}
	return s + mark
}

// cleanSnapshot removes secrets, and numbers that no server can have, from a snapshot.
func cleanSnapshot(s *fleet.Snapshot) {
	i := &s.Server
	for _, text := range []*string{&i.Product, &i.Version, &i.Collector, &i.Verified, &i.BootID} {
		*text = clip(redact(*text), maxNameBytes)
	}
	s.Detail = clip(redact(s.Detail), maxDetailBytes)
	s.AtMs = min(max(0, s.AtMs), maxTimeMs)
	for _, n := range []*int64{&s.IntervalMs, &s.CoveredMs, &s.LatencyMs, &s.UnknownFields} {
		*n = min(max(0, *n), maxNumber)
	}
	i.StartedMs = cleanTime(i.StartedMs)
	t := &s.Totals
	for _, n := range []*fleet.Int{
		&i.Workers, &i.ConnLimit, &i.ConnsNow, &i.StreamsNow, &i.PublishersNow, &i.ViewersNow, &i.CPUMilliPct, &i.MemRSSBytes,
		&t.BytesIn, &t.BytesOut, &t.ConnsAccepted, &t.ConnsRejected, &s.ViewerMs, &s.ViewersMax,
	} {
		cleanInt(n, &s.Flags)
	}
	s.Streams = cleanStreams(i.Key, s.Streams)
	for n := range s.Events {
		e := &s.Events[n]
		cleanKey(i.Key, &e.Key)
		e.AtMs = min(max(0, e.AtMs), maxTimeMs)
		e.Reason = clip(e.Reason, maxNameBytes)
	}
	for n := range s.Sessions {
		cleanSession(i.Key, &s.Sessions[n])
	}
}

func cleanSession(server string, e *fleet.Session) {
	cleanKey(server, &e.Key)
	e.ID, e.RemoteIP = clip(e.ID, maxNameBytes), clip(e.RemoteIP, maxNameBytes)
	e.UserAgent = clip(redact(e.UserAgent), maxAgentBytes)
	e.EndReason, e.Method = clip(e.EndReason, maxNameBytes), clip(e.Method, maxNameBytes)
	e.StartedMs = min(max(0, e.StartedMs), maxTimeMs)
	e.LastSeenMs = min(max(0, e.LastSeenMs), maxTimeMs)
	e.EndedMs = cleanTime(e.EndedMs)
	var flags fleet.SampleFlags
	cleanInt(&e.BytesIn, &flags)
	cleanInt(&e.BytesOut, &flags)
}

// cleanKey cuts the query off a name: it is never part of what a stream is.
func cleanKey(server string, k *fleet.StreamKey) (cut bool) {
	k.Server = server
	for _, text := range []*string{&k.VHost, &k.App, &k.Instance, &k.Name} {
		if at := strings.IndexByte(*text, '?'); at >= 0 {
			*text, cut = (*text)[:at], true
		}
		if strings.Contains(*text, "@") {
			*text = credentials.ReplaceAllString(*text, "//***@")
		}
		*text = clip(*text, maxNameBytes)
	}
	return cut
}

func cleanStreams(server string, rows []fleet.StreamSample) []fleet.StreamSample {
	anyCut := false
	for n := range rows {
		r := &rows[n]
		anyCut = cleanKey(server, &r.Key) || anyCut
		r.Incarnation, r.PublisherIP = clip(r.Incarnation, maxNameBytes), clip(r.PublisherIP, maxNameBytes)
		r.OnlineSinceMs = cleanTime(r.OnlineSinceMs)
		m := &r.Media
		for _, text := range []*string{&m.VideoCodec, &m.VideoProfile, &m.AudioCodec, &m.AudioProfile} {
			*text = clip(redact(*text), maxNameBytes)
		}
		for _, n := range []*fleet.Int{
			&r.Viewers, &r.Publishers, &r.CoveredMs, &r.ViewerMs, &r.ViewersMax, &r.BytesIn, &r.BytesOut, &r.FramesDropped,
			&m.WidthPx, &m.HeightPx, &m.FpsMilli, &m.Channels, &m.SampleRateHz, &m.DeclaredBps,
		} {
			cleanInt(n, &r.Flags)
		}
		for t := range r.ByTech {
			r.ByTech[t].Viewers = min(max(0, r.ByTech[t].Viewers), maxNumber)
		}
	}
	if !anyCut {
		return rows
	}
	return joinSameNames(rows)
}

// joinSameNames adds up the rows that have become one stream by losing their queries.
func joinSameNames(rows []fleet.StreamSample) []fleet.StreamSample {
	index := make(map[fleet.StreamKey]int, len(rows))
	out := rows[:0]
	for _, r := range rows {
		at, seen := index[r.Key]
		if !seen {
			index[r.Key] = len(out)
			out = append(out, r)
			continue
		}
		o := &out[at]
		o.Viewers, o.Publishers = o.Viewers.Plus(r.Viewers), o.Publishers.Plus(r.Publishers)
		o.ViewerMs, o.ViewersMax = o.ViewerMs.Plus(r.ViewerMs), o.ViewersMax.Plus(r.ViewersMax)
		o.BytesIn, o.BytesOut = o.BytesIn.Plus(r.BytesIn), o.BytesOut.Plus(r.BytesOut)
		o.FramesDropped = o.FramesDropped.Plus(r.FramesDropped)
		o.Flags |= r.Flags | fleet.FlagNameCollision
		o.NameCollision = true
		if r.State == fleet.StateOnline {
			o.State = r.State
		}
		if o.Tech != r.Tech {
			o.Tech, o.ByTech = fleet.TechUnknown, nil
		}
	}
	return out
}

func cleanInt(n *fleet.Int, flags *fleet.SampleFlags) {
	if v, known := n.Get(); known && (v < 0 || v > maxNumber) {
		*n = fleet.Int{}
		*flags |= fleet.FlagClamped
	}
}

func cleanTime(n fleet.Int) fleet.Int {
	if v, known := n.Get(); known && (v < 0 || v > maxTimeMs) {
		return fleet.Int{}
	}
	return n
}
