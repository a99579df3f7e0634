package live

import (
	"slices"
	"time"
)

// maxStreams bounds the streams in memory, at some 500 bytes each. Beyond it servers that
// are silent are forgotten, those first that are silent longest.
const maxStreams = 2_000_000

// makeRoom forgets silent servers while there are too many streams.
func (v *View) makeRoom(now time.Time) {
	if v.count > v.most {
		silent := slices.DeleteFunc(slices.Clone(v.sorted), func(srv *server) bool { return !srv.silent(now) })
		slices.SortStableFunc(silent, func(a, b *server) int { return a.received.Compare(b.received) })
		for _, srv := range silent {
			if v.count <= v.most {
				break
			}
			v.dropped += uint64(len(srv.streams))
			v.removeServer(srv)
		}
	}
	v.added = slices.DeleteFunc(v.added, func(st *stream) bool { return st.gone })
	v.sweepAbove = max(v.most, v.count+v.count/4)
}

// Dropped counts the streams that were forgotten because there were too many.
func (v *View) Dropped() uint64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.dropped
}
