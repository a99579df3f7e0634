package mediatest

import (
	"fmt"
	"net/http"
	"strings"
	"sync"

	"vigil/fleetsim"
)

// Farm is a whole fleet of emulators behind one port: the first element of the path
// is the key of the server.
type Farm struct {
	emulators []*Emulator
	byKey     map[string]*Emulator

	mu     sync.Mutex
	server *http.Server
	url    string
}

// NewFarm returns an emulator for each server of the fleet. opts apply to all of them;
// its Truth is ignored.
func NewFarm(fleet *fleetsim.Fleet, opts Options) *Farm {
	farm := &Farm{byKey: make(map[string]*Emulator, fleet.Servers())}
	for i := range fleet.Servers() {
		opts.Truth = fleet.Server(i)
		e := New(opts)
		farm.emulators = append(farm.emulators, e)
		farm.byKey[opts.Truth.Key()] = e
	}
	return farm
}

// Emulators returns the emulators in the order of the fleet's servers. The caller
// must not change the slice.
func (f *Farm) Emulators() []*Emulator { return f.emulators }

// ServeHTTP passes /KEY/... to the emulator of that key.
func (f *Farm) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	e, ok := f.byKey[key]
	if !ok {
		http.NotFound(w, r)
		return
	}
	http.StripPrefix("/"+key, e).ServeHTTP(w, r)
}

// Start listens on a free port of 127.0.0.1 and serves until Close.
func (f *Farm) Start() error {
	server, url, err := serve(f)
	if err != nil {
		return fmt.Errorf("start farm: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.server, f.url = server, url
	return nil
}

// URL is where a collector polls the i-th server: see Emulator.URL. Empty before Start.
func (f *Farm) URL(i int) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.url == "" {
		return ""
	}
	return pollURL(f.url+"/"+f.emulators[i].truth.Key(), f.emulators[i].Product())
}

// Close ends stalls and stops listening.
func (f *Farm) Close() error {
	for _, e := range f.emulators {
		_ = e.Close() // they do not listen, so nothing can fail
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return stop(f.server)
}
