package wire

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"vigil/fleet"
)

// nginxPacket is what one agent sends about one server with many streams: the
// usual mix of online, idle and offline, made by a seed.
func nginxPacket(streams int, seed uint64) *fleet.Packet {
	r := rand.New(rand.NewPCG(seed, 1))
	const atMs = 1_790_000_000_000
	s := fleet.Snapshot{
		Server: fleet.ServerInfo{
			Key: "edge-17", Product: "nginx-rtmp", Version: "1.22.1", Collector: "nginx-rtmp/1", Verified: "real",
			BootID: "4711-1789990000", StartedMs: fleet.Of(1_789_990_000_000), ConnsNow: fleet.Of(812),
			StreamsNow: fleet.Of(int64(streams)), ViewersNow: fleet.Of(9_000),
		},
		Totals: fleet.Totals{BytesIn: fleet.Of(1 << 28), BytesOut: fleet.Of(1 << 33), ConnsAccepted: fleet.Of(120)},
		AtMs:   atMs, IntervalMs: 10_003, CoveredMs: 10_003, Status: fleet.StatusOK, LatencyMs: 12,
	}
	media := [3]fleet.Media{
		{VideoCodec: "H264", VideoProfile: "High 4.1", AudioCodec: "AAC", AudioProfile: "LC", WidthPx: fleet.Of(1920), HeightPx: fleet.Of(1080), FpsMilli: fleet.Of(25_000), Channels: fleet.Of(2), SampleRateHz: fleet.Of(48_000)},
		{VideoCodec: "H264", VideoProfile: "Main 3.1", AudioCodec: "AAC", WidthPx: fleet.Of(1280), HeightPx: fleet.Of(720), FpsMilli: fleet.Of(30_000)},
		{AudioCodec: "MP3", SampleRateHz: fleet.Of(44_100)},
	}
	for i := range streams {
		viewers := r.Int64N(40)
		row := fleet.StreamSample{
			StreamInfo: fleet.StreamInfo{
				Key:         fleet.StreamKey{Server: "edge-17", App: "live", Name: fmt.Sprintf("channel-%05d", i)},
				Incarnation: fmt.Sprintf("%x", r.Uint32()), State: fleet.StateOnline,
				OnlineSinceMs: fleet.Of(atMs - r.Int64N(1e9)), Tech: fleet.TechRTMP,
				Viewers: fleet.Of(viewers), Publishers: fleet.Of(1),
				Media: media[i%3], PublisherIP: fmt.Sprintf("203.0.113.%d", r.IntN(250)),
			},
			BytesIn: fleet.Of(3_000_000 + r.Int64N(200_000)), FramesDropped: fleet.Of(0),
		}
		row.BytesOut = fleet.Of(viewers * row.BytesIn.Or(0))
		s.Streams = append(s.Streams, row)
	}
	return &fleet.Packet{
		ID:       fleet.PacketID{Agent: "edge-17", Epoch: 0xfeed, Seq: 4711},
		FirstSeq: 4711, Boot: 99, AgentVersion: "0.1.0", Host: "edge-17.example.net",
		Snapshots: []fleet.Snapshot{s},
	}
}

// anyPacket draws a packet that keeps every rule, with every field in use.
func anyPacket() *rapid.Generator[*fleet.Packet] {
	return rapid.Custom(func(t *rapid.T) *fleet.Packet {
		last := rapid.Uint64Range(1, MaxSeq).Draw(t, "seq")
		p := &fleet.Packet{
			ID:       fleet.PacketID{Agent: rapid.StringMatching(`[a-z][a-z0-9.-]{0,20}`).Draw(t, "agent"), Epoch: rapid.Uint64Min(1).Draw(t, "epoch"), Seq: last},
			FirstSeq: rapid.Uint64Range(1, last).Draw(t, "first"),
			Boot:     rapid.Uint64().Draw(t, "boot"), AgentVersion: anyText(t, "version"), Host: anyText(t, "host"),
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "snapshots") {
			p.Snapshots = append(p.Snapshots, anySnapshot(t, fmt.Sprintf("server-%d", i)))
		}
		for range rapid.IntRange(0, 3).Draw(t, "gaps") {
			first := rapid.Uint64Range(1, 1<<40).Draw(t, "gap")
			p.Gaps = append(p.Gaps, fleet.Gap{
				FirstSeq: first, LastSeq: first + rapid.Uint64Range(0, 1<<20).Draw(t, "gap length"),
				FromMs: anyTimeInt(t), ToMs: anyTimeInt(t), Reason: anyText(t, "reason"),
			})
		}
		return p
	})
}

func anyText(t *rapid.T, label string) string {
	return rapid.OneOf(rapid.Just(""), rapid.SampledFrom([]string{"live", "a", "канал", "H264"}), rapid.String()).Draw(t, label)
}

func anyInt(t *rapid.T) fleet.Int {
	return rapid.OneOf(rapid.Just(fleet.Int{}), rapid.Map(rapid.Int64Range(0, 300), fleet.Of), rapid.Map(rapid.Int64Range(0, maxNumber), fleet.Of)).Draw(t, "int")
}

// anyAt and anyTimeInt stay inside a range in which every distance is allowed.
func anyAt(t *rapid.T, label string) int64 {
	return rapid.Int64Range(1_700_000_000_000, 1_800_000_000_000).Draw(t, label)
}

func anyTimeInt(t *rapid.T) fleet.Int {
	if rapid.Bool().Draw(t, "known") {
		return fleet.Of(anyAt(t, "time"))
	}
	return fleet.Int{}
}

func anyAgo(t *rapid.T, atMs int64) fleet.Int {
	if rapid.Bool().Draw(t, "known") {
		return fleet.Of(atMs - rapid.Int64Range(0, 1<<40).Draw(t, "ago"))
	}
	return fleet.Int{}
}

func anyKey(t *rapid.T, server string) fleet.StreamKey {
	return fleet.StreamKey{Server: server, VHost: anyText(t, "vhost"), App: anyText(t, "app"), Instance: anyText(t, "instance"), Name: anyText(t, "name")}
}

func anySnapshot(t *rapid.T, server string) fleet.Snapshot {
	number := rapid.Int64Range(0, maxNumber)
	s := fleet.Snapshot{
		Server: fleet.ServerInfo{
			Key: server, Product: anyText(t, "product"), Version: anyText(t, "version"), Collector: anyText(t, "collector"),
			Verified: anyText(t, "verified"), BootID: anyText(t, "boot"), StartedMs: anyTimeInt(t), Workers: anyInt(t),
			ConnLimit: anyInt(t), ConnsNow: anyInt(t), StreamsNow: anyInt(t), PublishersNow: anyInt(t), ViewersNow: anyInt(t),
			CPUMilliPct: anyInt(t), MemRSSBytes: anyInt(t),
		},
		Totals:     fleet.Totals{BytesIn: anyInt(t), BytesOut: anyInt(t), ConnsAccepted: anyInt(t), ConnsRejected: anyInt(t)},
		AtMs:       anyAt(t, "at"),
		IntervalMs: number.Draw(t, "interval"), CoveredMs: number.Draw(t, "covered"),
		ViewerMs: anyInt(t), ViewersMax: anyInt(t),
		Status: fleet.PollStatus(rapid.Uint8().Draw(t, "status")), Detail: anyText(t, "detail"),
		LatencyMs: number.Draw(t, "latency"), UnknownFields: number.Draw(t, "unknown"),
		Flags: fleet.SampleFlags(rapid.Uint16().Draw(t, "flags")),
	}
	for range rapid.IntRange(0, 4).Draw(t, "streams") {
		s.Streams = append(s.Streams, anyStream(t, server, s.AtMs))
	}
	for range rapid.IntRange(0, 3).Draw(t, "events") {
		s.Events = append(s.Events, fleet.StreamEvent{
			Key: anyKey(t, server), AtMs: anyAt(t, "event"), State: fleet.StreamState(rapid.Uint8().Draw(t, "state")), Reason: anyText(t, "reason"),
		})
	}
	for range rapid.IntRange(0, 3).Draw(t, "sessions") {
		s.Sessions = append(s.Sessions, fleet.Session{
			ID: anyText(t, "id"), Key: anyKey(t, server), Role: fleet.Role(rapid.Uint8().Draw(t, "role")),
			Tech: fleet.Tech(rapid.Uint8().Draw(t, "tech")), RemoteIP: anyText(t, "ip"), UserAgent: anyText(t, "ua"),
			StartedMs: anyAt(t, "started"), LastSeenMs: anyAt(t, "seen"), EndedMs: anyAgo(t, s.AtMs), EndReason: anyText(t, "end"),
			BytesIn: anyInt(t), BytesOut: anyInt(t), Method: anyText(t, "method"), Unobserved: rapid.Bool().Draw(t, "unobserved"),
		})
	}
	return s
}

func anyStream(t *rapid.T, server string, atMs int64) fleet.StreamSample {
	row := fleet.StreamSample{
		StreamInfo: fleet.StreamInfo{
			Key: anyKey(t, server), Incarnation: anyText(t, "incarnation"), State: fleet.StreamState(rapid.Uint8().Draw(t, "state")),
			OnlineSinceMs: anyAgo(t, atMs), Tech: fleet.Tech(rapid.Uint8().Draw(t, "tech")),
			Viewers: anyInt(t), Publishers: anyInt(t), PublisherIP: anyText(t, "ip"),
		},
		CoveredMs: anyInt(t), ViewerMs: anyInt(t), ViewersMax: anyInt(t), BytesIn: anyInt(t), BytesOut: anyInt(t), FramesDropped: anyInt(t),
		Flags: fleet.SampleFlags(rapid.Uint16().Draw(t, "flags")),
	}
	row.NameCollision = row.Flags&fleet.FlagNameCollision != 0
	if rapid.Bool().Draw(t, "media") {
		row.Media = fleet.Media{
			VideoCodec: anyText(t, "vcodec"), VideoProfile: anyText(t, "vprofile"), AudioCodec: anyText(t, "acodec"), AudioProfile: anyText(t, "aprofile"),
			WidthPx: anyInt(t), HeightPx: anyInt(t), FpsMilli: anyInt(t), Channels: anyInt(t), SampleRateHz: anyInt(t), DeclaredBps: anyInt(t),
		}
	}
	for range rapid.IntRange(0, 3).Draw(t, "techs") {
		row.ByTech = append(row.ByTech, fleet.TechViewers{Tech: fleet.Tech(rapid.Uint8().Draw(t, "tech")), Viewers: rapid.Int64Range(0, maxNumber).Draw(t, "viewers")})
	}
	return row
}

func newTestCodec(t testing.TB) *Codec {
	t.Helper()
	c, err := NewCodec(DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return c
}
