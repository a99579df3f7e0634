package journal

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"vigil/config"
)

// The payload of a server with about 450 streams is of this size.
const benchPayloadBytes = 16 << 10

func BenchmarkAppend(b *testing.B) {
	for _, shards := range []int{1, 4} {
		for _, writers := range []int{1, 32, 200} {
			b.Run(fmt.Sprintf("shards=%d/writers=%d", shards, writers), func(b *testing.B) {
				j := openJournal(b, openBus(b, b.TempDir()), config.Journal{Shards: shards, MaxBytes: 8 << 30})
				var next atomic.Int64
				var writing sync.WaitGroup
				b.SetBytes(benchPayloadBytes)
				b.ResetTimer()
				for w := range writers {
					writing.Go(func() {
						e := entry(fmt.Sprint("edge-", w), 0)
						e.Payload = make([]byte, benchPayloadBytes)
						for next.Add(1) <= int64(b.N) {
							e.ID.Seq++
							if err := j.Append(b.Context(), e); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				writing.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
				stats := j.Stats()
				b.ReportMetric(float64(stats.EntriesAppended)/float64(stats.MessagesAppended), "entries/sync")
			})
		}
	}
}
