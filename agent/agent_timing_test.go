package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"testing"
	"time"

	"vigil/config"
	"vigil/durable/durabletest"
	"vigil/fleet"
	"vigil/media"
	"vigil/wire"
)

// quietService says yes to everything and keeps nothing.
type quietService struct{ receipt []byte }

func (q quietService) RoundTrip(req *http.Request) (*http.Response, error) {
	return answer(200, wire.ContentTypeReceipt, q.receipt), nil
}

// manyStreams is a server with streams whose counters move.
type manyStreams struct {
	reading fleet.Reading
	rng     *rand.Rand
}

func newManyStreams(n int) *manyStreams {
	m := &manyStreams{rng: rand.New(rand.NewPCG(1, 2))}
	m.reading.Status = fleet.StatusOK
	m.reading.Server = fleet.ServerInfo{Product: "nginx-rtmp", BootID: "1", StartedMs: fleet.Of(946684800000)}
	for i := range n {
		m.reading.Streams = append(m.reading.Streams, fleet.StreamReading{StreamInfo: fleet.StreamInfo{
			Key: fleet.StreamKey{App: "live", Name: fmt.Sprintf("channel-%05d", i)}, Incarnation: fmt.Sprint(i), State: fleet.StateOnline,
			OnlineSinceMs: fleet.Of(946684800000), Viewers: fleet.Of(5), Tech: fleet.TechRTMP,
		}, BytesIn: fleet.Of(0), BytesOut: fleet.Of(0)})
	}
	return m
}

func (m *manyStreams) Collect(context.Context) *fleet.Reading {
	r := m.reading
	r.Streams = append([]fleet.StreamReading(nil), m.reading.Streams...)
	for i := range r.Streams {
		s := &r.Streams[i]
		s.BytesIn = fleet.Of(s.BytesIn.Or(0) + 3_000_000 + m.rng.Int64N(100_000))
		s.BytesOut = fleet.Of(s.BytesOut.Or(0) + 15_000_000 + m.rng.Int64N(100_000))
		s.Viewers = fleet.Of(m.rng.Int64N(40))
	}
	m.reading.Streams = append([]fleet.StreamReading(nil), r.Streams...)
	m.reading.AtMs += 10_000
	m.reading.MonoMs += 10_000
	r.AtMs, r.MonoMs = m.reading.AtMs+1_790_000_000_000, m.reading.MonoMs
	return &r
}

// BenchmarkRecordAndSend is everything that an agent does in one interval, except the
// collector's own parsing: tracker, packet, spool and request. The goal is 0.5 % of a
// core at one interval per 10 s, which is 50 ms.
func BenchmarkRecordAndSend(b *testing.B) {
	for _, streams := range []int{450, 5_000} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			a, err := New(config.Agent{
				Name: "edge-1", SpoolDir: "/spool", SpoolMaxBytes: 64 << 20, Interval: 10 * time.Second,
				Service: config.AgentService{URL: "http://stats.example.net"},
				Servers: []config.MediaServer{{Name: "s1", Product: "nginx-rtmp", URL: "http://127.0.0.1/stat"}},
			}, Deps{
				FS: durabletest.New(1), Service: quietService{wire.EncodeReceipt(&fleet.Receipt{})}, Token: func() (string, error) { return "t", nil },
				Collector: func(config.MediaServer, media.Deps) (media.Collector, error) { return newManyStreams(streams), nil },
			})
			if err != nil {
				b.Fatal(err)
			}
			if a.spool, err = a.openSpool(); err != nil {
				b.Fatal(err)
			}
			defer a.spool.Close()
			b.ReportAllocs()
			for b.Loop() {
				a.record([]reading{{a.servers[0], a.servers[0].collector.Collect(b.Context())}})
				record, ok, err := a.spool.Take(true)
				if err != nil || !ok {
					b.Fatalf("take: %v, %v", ok, err)
				}
				r := a.send(b.Context(), record)
				if r.verdict != verdictDurable {
					b.Fatal(r.err)
				}
				a.landed(sent{laneLive, record, r})
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1e10*100, "%core@10s")
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			b.ReportMetric(float64(m.HeapInuse+m.StackInuse)/(1<<20), "MiB-in-use")
		})
	}
}
