package live

import (
	"encoding/binary"
	"strings"
	"time"

	"vigil/fleet"
)

// pack writes a stream's name without its server as one string: the lengths of the first three
// parts, then the parts. Two names never pack to the same bytes.
func pack(buf []byte, k *fleet.StreamKey) []byte {
	buf = binary.AppendUvarint(buf, uint64(len(k.VHost)))
	buf = binary.AppendUvarint(buf, uint64(len(k.App)))
	buf = binary.AppendUvarint(buf, uint64(len(k.Instance)))
	buf = append(buf, k.VHost...)
	buf = append(buf, k.App...)
	buf = append(buf, k.Instance...)
	return append(buf, k.Name...)
}

func newStream(srv *server, k *fleet.StreamKey, packed string) *stream {
	st := &stream{server: srv, packed: packed, viewers: unknown, inBps: unknown, outBps: unknown, onlineMs: unknown}
	begin := len(packed) - len(k.VHost) - len(k.App) - len(k.Instance) - len(k.Name)
	for i, n := range [...]int{0, len(k.VHost), len(k.App), len(k.Instance)} {
		begin += n
		st.offsets[i] = uint32(begin)
	}
	app, name := st.app(), st.name()
	lowerApp, lowerName := strings.ToLower(app), strings.ToLower(name)
	switch {
	case lowerApp == app && lowerName == name && len(k.Instance) == 0:
		st.lower = packed[st.offsets[1]:]
	default:
		st.lower = lowerApp + lowerName
	}
	st.appEnd = uint32(len(lowerApp))
	return st
}

func (st *stream) vhost() string    { return st.packed[st.offsets[0]:st.offsets[1]] }
func (st *stream) app() string      { return st.packed[st.offsets[1]:st.offsets[2]] }
func (st *stream) instance() string { return st.packed[st.offsets[2]:st.offsets[3]] }
func (st *stream) name() string     { return st.packed[st.offsets[3]:] }

func (st *stream) key() fleet.StreamKey {
	return fleet.StreamKey{Server: st.server.key, VHost: st.vhost(), App: st.app(), Instance: st.instance(), Name: st.name()}
}

// contains reports whether a lower-case word is part of the app or the name.
func (st *stream) contains(word string) bool {
	return strings.Contains(st.lower[st.appEnd:], word) || strings.Contains(st.lower[:st.appEnd], word)
}

func known(n int64) fleet.Int {
	if n == unknown {
		return fleet.Int{}
	}
	return fleet.Of(n)
}

// numberOr keeps a number that may be unknown in one word. Negative ones do not exist.
func numberOr(n fleet.Int) int64 {
	if v := n.Or(unknown); v >= 0 {
		return v
	}
	return unknown
}

// rowOf is a stream as it is now. ByTech is never changed in place, so it may be shared.
func (st *stream) rowOf(silent bool) StreamRow {
	return StreamRow{
		Key: st.key(), State: st.state, Silent: silent, AtMs: st.atMs, OnlineSinceMs: known(st.onlineMs),
		Tech: st.tech, ByTech: st.byTech, Viewers: known(st.viewers), InBps: known(st.inBps), OutBps: known(st.outBps),
		Media: st.media.Value(), PublisherIP: st.ip, Flags: st.flags,
	}
}

// Stream returns one stream.
func (v *View) Stream(now time.Time, key fleet.StreamKey) (StreamRow, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	srv, found := v.servers[key.Server]
	if !found {
		return StreamRow{}, false
	}
	st, found := srv.streams[string(pack(nil, &key))]
	if !found {
		return StreamRow{}, false
	}
	return st.rowOf(srv.silent(now)), true
}
