package wire

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// cpu is the processor time that this process has taken: on a busy machine the only
// honest clock.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// The goal is 0.3 us per stream for Decode, everything included.
func BenchmarkDecode(b *testing.B) {
	for _, streams := range []int{1, 450, 5_000} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			c := newTestCodec(b)
			data, err := c.Encode(nginxPacket(streams, 1))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			began := cpu(b)
			for b.Loop() {
				if _, err := c.Decode(data); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/float64(b.N*streams), "cpu-ns/stream")
			b.ReportMetric(float64(len(data))/float64(streams), "wire-B/stream")
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, streams := range []int{450, 5_000} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			c := newTestCodec(b)
			p := nginxPacket(streams, 1)
			b.ReportAllocs()
			began := cpu(b)
			for b.Loop() {
				if _, err := c.Encode(p); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/float64(b.N*streams), "cpu-ns/stream")
		})
	}
}

// BenchmarkDecodeMessage leaves decompression out.
func BenchmarkDecodeMessage(b *testing.B) {
	const streams = 450
	message, err := newEncoding().packet(nginxPacket(streams, 1), DefaultLimits())
	if err != nil {
		b.Fatal(err)
	}
	d := new(decoding)
	b.ReportAllocs()
	began := cpu(b)
	for b.Loop() {
		if _, err := d.packet(message, DefaultLimits()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpu(b)-began).Nanoseconds())/float64(b.N*streams), "cpu-ns/stream")
	b.ReportMetric(float64(len(message))/streams, "message-B/stream")
}
