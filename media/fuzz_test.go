package media

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"vigil/fleet"
)

func seed(f *testing.F, pattern string) {
	f.Helper()
	names, err := filepath.Glob("testdata/" + pattern)
	if err != nil || len(names) == 0 {
		f.Fatalf("no seeds match %s: %v", pattern, err)
	}
	for _, name := range names {
		f.Add(fixture(f, filepath.Base(name)))
	}
}

// checkReading holds for every document that a parser accepts.
func checkReading(t *testing.T, r *fleet.Reading) {
	t.Helper()
	notNegative := func(what string, n fleet.Int) {
		if n.Or(0) < 0 {
			t.Errorf("%s = %s", what, n)
		}
	}
	notNegative("ViewersNow", r.Server.ViewersNow)
	notNegative("ConnsNow", r.Server.ConnsNow)
	notNegative("Totals.BytesIn", r.Totals.BytesIn)
	for _, s := range r.Streams {
		notNegative("Viewers", s.Viewers)
		notNegative("BytesIn", s.BytesIn)
		notNegative("BytesOut", s.BytesOut)
		notNegative("FpsMilli", s.Media.FpsMilli)
		if len(s.Key.Name) > maxStringBytes {
			t.Errorf("a name of %d bytes", len(s.Key.Name))
		}
	}
	tracker := NewTracker(TrackerOptions{})
	tracker.Step(r)
	later := *r
	later.MonoMs, later.AtMs = r.MonoMs+10_000, r.AtMs+10_000
	snap := tracker.Step(&later)
	for _, s := range snap.Streams {
		notNegative("delta", s.BytesIn)
		notNegative("delta", s.BytesOut)
	}
}

func FuzzNginxStat(f *testing.F) {
	seed(f, "nginx-*.xml")
	f.Add([]byte("<rtmp><pid>1</pid><server><application><live><stream><name><![CDATA[a]]>&#x41;&bad;</name></stream></live></application></server></rtmp>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var p nginxParser
		stat, err := p.parse(bytes.NewReader(data))
		if err != nil {
			return
		}
		r := freshReading()
		r.Server.Product = ProductNginxRTMP
		stat.fill(r)
		checkReading(t, r)
	})
}

func FuzzIcecastXML(f *testing.F) {
	seed(f, "icecast-*.xml")
	f.Fuzz(func(t *testing.T, data []byte) {
		var p iceParser
		if list, err := p.parseListeners(bytes.NewReader(data)); err == nil && len(list) > len(data) {
			t.Errorf("%d listeners in %d bytes", len(list), len(data))
		}
		stats, err := p.parseStats(bytes.NewReader(data))
		if err != nil {
			return
		}
		r := freshReading()
		r.Server.Product = ProductIcecast
		stats.fill(r, time.Time{})
		checkReading(t, r)
	})
}

func FuzzIcecastJSON(f *testing.F) {
	seed(f, "icecast-*.json")
	f.Add([]byte(`{"icestats":{"source":[{"listenurl":"http://h/%2","title":-},{},{"listeners":1e9}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		stats, err := parseIceJSON(bytes.NewReader(data), new(interner))
		if err != nil {
			return
		}
		r := freshReading()
		r.Server.Product = ProductIcecast
		stats.fill(r, recordedAt)
		checkReading(t, r)
	})
}
