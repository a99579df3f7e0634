package mediatest

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"vigil/fleetsim"
)

// BenchmarkRound renders the page of every server of a large fleet once per iteration.
func BenchmarkRound(b *testing.B) {
	fleet := fleetsim.New(fleetsim.Config{Servers: 500, Streams: 600, Churn: true})
	c := &clock{}
	c.ms.Store(fleet.StartMs())
	farm := NewFarm(fleet, Options{Now: c.now, Record: RecordNothing})
	round := func() (bytes int) {
		for _, e := range farm.Emulators() {
			path := "/stat"
			if e.Product() == fleetsim.ProductIcecast {
				path = "/admin/stats"
			}
			r := httptest.NewRequest(http.MethodGet, "/"+e.Truth().Key()+path, nil)
			r.SetBasicAuth(e.Credentials())
			w := httptest.NewRecorder()
			farm.ServeHTTP(w, r)
			bytes += w.Body.Len()
		}
		return bytes
	}
	size := round() // makes the servers
	for b.Loop() {
		c.ms.Add(10_000)
		size = round()
	}
	b.ReportMetric(float64(size)/1e6, "MB/round")
	b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N)/500, "ms/server")
}
