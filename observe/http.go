package observe

import (
	"net/http"
	"net/http/pprof"
)

// Routes puts the metrics and the profiles on mux: /metrics and /debug/pprof/. They
// show what a process does in detail, so the mux belongs on a listener that only
// operators reach. (The pprof package also registers itself on the default mux of
// net/http when it is imported; nothing in Vigil serves that one.)
func Routes(mux *http.ServeMux, r *Registry) {
	mux.Handle("GET /metrics", r.Handler())
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}
