package media

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"vigil/config"
	"vigil/fleet"
)

// nginxPage is a statistics page with that many streams, each with a publisher and
// viewers, in the form of the recorded ones.
func nginxPage(streams, viewers int, in int64) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<?xml version=\"1.0\" encoding=\"utf-8\" ?>\r\n<rtmp>\r\n<nginx_version>1.22.1</nginx_version>\r\n<nginx_rtmp_version>1.1.4</nginx_rtmp_version>\r\n<pid>7</pid>\r\n<uptime>5000</uptime>\r\n<naccepted>9</naccepted>\r\n<bytes_in>%d</bytes_in>\r\n<bytes_out>%d</bytes_out>\r\n<server>\r\n<application>\r\n<name>live</name>\r\n<live>\r\n", in*int64(streams), in*int64(streams*viewers))
	id := 1
	client := func(flash, flags string) {
		fmt.Fprintf(&b, "<client><id>%d</id><address>127.0.%d.%d</address><time>4000000</time><flashver>%s</flashver><dropped>0</dropped><avsync>-4</avsync><timestamp>14423</timestamp>%s<active/></client>\r\n", id, id/250, id%250, flash, flags)
		id++
	}
	for i := range streams {
		fmt.Fprintf(&b, "<stream>\r\n<name>channel_%04d</name>\r\n<time>4500000</time><bw_in>2000000</bw_in>\r\n<bytes_in>%d</bytes_in>\r\n<bw_out>4000000</bw_out>\r\n<bytes_out>%d</bytes_out>\r\n<bw_audio>31104</bw_audio>\r\n<bw_video>137920</bw_video>\r\n", i, in, in*int64(viewers))
		for range viewers {
			client("LNX 9,0,124,2", "")
		}
		client("FMLE/3.0 (compatible; Lavf59.27", "<publishing/>")
		fmt.Fprintf(&b, "<meta><video><width>1280</width><height>720</height><frame_rate>25</frame_rate><codec>H264</codec><profile>High</profile><compat>0</compat><level>3.1</level></video><audio><codec>AAC</codec><profile>LC</profile><channels>2</channels><sample_rate>48000</sample_rate></audio></meta>\r\n<nclients>%d</nclients>\r\n<publishing/>\r\n<active/>\r\n</stream>\r\n", viewers+1)
	}
	b.WriteString("<nclients>1</nclients>\r\n</live>\r\n</application>\r\n</server>\r\n</rtmp>\r\n")
	return b.Bytes()
}

func BenchmarkNginxParse450(b *testing.B) {
	page := nginxPage(450, 4, 1_000_000_000)
	b.SetBytes(int64(len(page)))
	b.ReportAllocs()
	var p nginxParser
	for b.Loop() {
		if _, err := p.parse(bytes.NewReader(page)); err != nil {
			b.Fatal(err)
		}
	}
}

// The standard decoder on the same page, tokens only: the ratio justifies our own.
func BenchmarkStandardDecoder450(b *testing.B) {
	page := nginxPage(450, 4, 1_000_000_000)
	b.SetBytes(int64(len(page)))
	for b.Loop() {
		d := xml.NewDecoder(bytes.NewReader(page))
		for {
			if _, err := d.RawToken(); err == io.EOF {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
	}
}

// A whole poll as the agent does it: request over loopback, parse, deltas, sessions.
// The time includes the test server's side of the connection.
func BenchmarkNginxPoll450(b *testing.B) {
	page := nginxPage(450, 4, 1_000_000_000)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(page) }))
	defer srv.Close()
	mono := int64(1_000_000) // stands almost still: the ages on the page do
	c, err := New(config.MediaServer{Name: "srv", Product: ProductNginxRTMP, URL: srv.URL}, Deps{
		Mono: func() int64 { mono++; return mono }, Now: func() time.Time { return recordedAt },
	})
	if err != nil {
		b.Fatal(err)
	}
	tracker := NewTracker(TrackerOptions{})
	b.ReportAllocs()
	before := cpuTime(b)
	defer func() { b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op") }()
	for b.Loop() {
		r := c.Collect(b.Context())
		if r.Status != fleet.StatusOK {
			b.Fatal(r.Detail)
		}
		if snap := tracker.Step(r); len(snap.Streams) != 450 {
			b.Fatal(len(snap.Streams))
		}
	}
}

// cpuTime is what this process has used of the processors, in ns: wall time means
// little on a machine that does other things.
func cpuTime(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

func BenchmarkTracker450(b *testing.B) {
	var p nginxParser
	stat, err := p.parse(bytes.NewReader(nginxPage(450, 4, 1_000_000_000)))
	if err != nil {
		b.Fatal(err)
	}
	tracker := NewTracker(TrackerOptions{})
	r := freshReading()
	r.Server.Product = ProductNginxRTMP
	b.ReportAllocs()
	for b.Loop() {
		r.MonoMs++ // stands almost still: the ages on the page do
		stat.fill(r)
		if snap := tracker.Step(r); len(snap.Streams) != 450 || snap.Status != fleet.StatusOK {
			b.Fatal(snap.Detail)
		}
	}
}
