package ingest

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"vigil/bus"
	"vigil/config"
	"vigil/fleet"
	"vigil/journal"
	"vigil/wire"
)

const benchStreams = 450

// benchPacket is one media server with many streams, as agents send it.
func benchPacket(agent string, seq uint64) *fleet.Packet {
	p := packet(agent, seq)
	for i := range benchStreams {
		p.Snapshots[0].Streams = append(p.Snapshots[0].Streams, fleet.StreamSample{
			StreamInfo: fleet.StreamInfo{
				Key:   fleet.StreamKey{Server: "media-1", App: "live", Name: fmt.Sprintf("channel-%03d", i)},
				State: fleet.StateOnline, Tech: fleet.TechRTMP, Viewers: fleet.Of(int64(i * 7 % 900)), Publishers: fleet.Of(1),
			},
			BytesIn: fleet.Of(int64(3_000_000 + i*977)), BytesOut: fleet.Of(int64(40_000_000 + i*i*31)),
		})
	}
	return p
}

// BenchmarkPackets takes packets through the handler into a real journal: checked,
// decoded, fsynced. It reports the processor time of all threads.
func BenchmarkPackets(b *testing.B) {
	bs, err := bus.Open(b.Context(), bus.Options{Name: "bench", Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer bs.Close()
	j, err := journal.Open(b.Context(), bs, journal.Options{Config: config.Journal{Shards: 4, MaxBytes: 8 << 30}})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	s := newSite(b, config.Ingest{})
	s.ingest.deps.Journal = j
	const agents = 64
	codec, err := wire.NewCodec(wire.DefaultLimits())
	if err != nil {
		b.Fatal(err)
	}
	// Encoding is the agent's work: it is done before.
	requests := make([]*http.Request, b.N)
	bytes := int64(0)
	for i := range requests {
		p := benchPacket(fmt.Sprint("edge-", i%agents), uint64(i/agents+1))
		body, err := codec.Encode(p)
		if err != nil {
			b.Fatal(err)
		}
		bytes += int64(len(body))
		requests[i] = s.requestOf(p, body)
	}
	var next atomic.Int64
	var sending sync.WaitGroup
	b.ResetTimer()
	before := processorTime(b)
	for range agents {
		sending.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if w := s.serve(requests[i-1]); w.Code != http.StatusOK {
					b.Errorf("%d %s", w.Code, w.Body)
					return
				}
			}
		})
	}
	sending.Wait()
	b.ReportMetric(float64(bytes)/float64(b.N), "bytes/packet")
	b.ReportMetric(float64(b.N)*benchStreams/(processorTime(b)-before).Seconds(), "samples/cpu-s")
	b.ReportMetric(float64(b.N)*benchStreams/b.Elapsed().Seconds(), "samples/s")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
