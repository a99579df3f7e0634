package duckdb

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"strings"

	"vigil/fleet"
)

const (
	// serverBits of a stream's id come from its server, so that sorting by id keeps the
	// streams of a server together: their time columns then repeat each other, which
	// is what makes them compress to almost nothing.
	serverBits = 16
	// forgetAfterMs is how long a stream that sends nothing stays in memory. It is
	// found in the database again when it comes back.
	forgetAfterMs = 6 * hourMs
	// maxRehashes bounds the search for a free id. The chance that even one is needed
	// is below one in a million for a server with ten thousand streams.
	maxRehashes = 16
	// lookupAtOnce bounds one question for ids that are not in memory.
	lookupAtOnce = 5000
)

// A streamName is a fleet.StreamKey without its server.
type streamName struct{ vhost, app, instance, name string }

func nameOf(k *fleet.StreamKey) streamName {
	return streamName{k.VHost, k.App, k.Instance, k.Name}
}

func (n streamName) clone() streamName {
	return streamName{strings.Clone(n.vhost), strings.Clone(n.app), strings.Clone(n.instance), strings.Clone(n.name)}
}

// A serverEntry is what the writer remembers of a server.
type serverEntry struct {
	id      uint64
	info    uint64 // fingerprint of the newest server_info row; 0: none written yet
	streams map[streamName]*streamEntry
}

type streamEntry struct {
	id            uint64
	info          uint64 // fingerprint of the newest stream_info row; 0: none written yet
	onlineSinceMs int64  // in that row; 0: unknown
	seenMs        int64
}

// Idents turns names into ids. It belongs to the goroutine of the writer.
type idents struct {
	seed    maphash.Seed
	servers map[string]*serverEntry
	taken   map[uint64]struct{} // ids given out since the last transaction began
	swept   int64
}

func newIdents() *idents {
	return &idents{seed: maphash.MakeSeed(), servers: map[string]*serverEntry{}, taken: map[uint64]struct{}{}}
}

// hashID is the first eight bytes of the SHA-256 over the parts, each with its length
// before it. salt is 0 unless that id was taken by another name.
func hashID(salt int, parts ...string) uint64 {
	buf := make([]byte, 0, 256)
	for _, part := range parts {
		buf = binary.AppendUvarint(buf, uint64(len(part)))
		buf = append(buf, part...)
	}
	if salt > 0 {
		buf = binary.AppendUvarint(buf, uint64(salt))
	}
	sum := sha256.Sum256(buf)
	return binary.BigEndian.Uint64(sum[:8])
}

func serverID(server string, salt int) uint64 { return hashID(salt, server) }

func streamID(server string, n streamName, salt int) uint64 {
	rest := hashID(salt, server, n.vhost, n.app, n.instance, n.name)
	return serverID(server, 0)>>(64-serverBits)<<(64-serverBits) | rest>>serverBits
}

// newNames are the dimension rows that a transaction has to add.
type newNames struct {
	servers   []newServer
	serverIDs map[uint64]string // of servers
	streams   []newStream
}

type newServer struct {
	id     uint64
	server string
}

type newStream struct {
	id, serverID uint64
	name         streamName
}

// A nameRequest is one stream whose id is not in memory.
type nameRequest struct {
	server string
	entry  *serverEntry
	name   streamName
}

// server returns the entry of a server, asking the database when it is new in memory.
func (ids *idents) server(ctx context.Context, q *sql.Conn, name string, fresh *newNames) (*serverEntry, error) {
	if e, ok := ids.servers[name]; ok {
		return e, nil
	}
	name = strings.Clone(name)
	for salt := range maxRehashes {
		id := serverID(name, salt)
		owner, found, err := ownerOfServerID(ctx, q, id, fresh)
		if err != nil {
			return nil, err
		}
		if found && owner != name {
			continue
		}
		e := &serverEntry{id: id, streams: map[streamName]*streamEntry{}}
		ids.servers[name] = e
		if !found {
			fresh.servers = append(fresh.servers, newServer{id: id, server: name})
			if fresh.serverIDs == nil {
				fresh.serverIDs = map[uint64]string{}
			}
			fresh.serverIDs[id] = name
		}
		return e, nil
	}
	return nil, fmt.Errorf("%w: no free id for server %q", ErrDamaged, name)
}

func ownerOfServerID(ctx context.Context, q *sql.Conn, id uint64, fresh *newNames) (string, bool, error) {
	if owner, given := fresh.serverIDs[id]; given {
		return owner, true, nil
	}
	var owner []byte
	err := q.QueryRowContext(ctx, "SELECT server FROM server_dim WHERE server_id = "+utoa(id)).Scan(&owner)
	if err == sql.ErrNoRows {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("look up server: %w", err)
	}
	return string(owner), true, nil
}

// resolve gives every requested stream its id and puts it into memory.
func (ids *idents) resolve(ctx context.Context, q *sql.Conn, requests []nameRequest, fresh *newNames) error {
	clear(ids.taken)
	for len(requests) > 0 {
		n := min(len(requests), lookupAtOnce)
		if err := ids.resolveSome(ctx, q, requests[:n], fresh); err != nil {
			return err
		}
		requests = requests[n:]
	}
	return nil
}

func (ids *idents) resolveSome(ctx context.Context, q *sql.Conn, requests []nameRequest, fresh *newNames) error {
	for salt := range maxRehashes {
		wanted := make([]uint64, len(requests))
		for i, r := range requests {
			wanted[i] = streamID(r.server, r.name, salt)
		}
		owners, err := ownersOfStreamIDs(ctx, q, wanted)
		if err != nil {
			return err
		}
		var again []nameRequest
		for i, r := range requests {
			if _, there := r.entry.streams[r.name]; there {
				continue // asked for twice
			}
			id := wanted[i]
			owner, stored := owners[id]
			_, given := ids.taken[id]
			switch {
			case stored && owner.serverID == r.entry.id && owner.name == r.name:
			case stored || given:
				again = append(again, r)
				continue
			default:
				ids.taken[id] = struct{}{}
				fresh.streams = append(fresh.streams, newStream{id: id, serverID: r.entry.id, name: r.name.clone()})
			}
			r.entry.streams[r.name.clone()] = &streamEntry{id: id}
		}
		if requests = again; len(requests) == 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: no free id for stream %q", ErrDamaged, requests[0].name.name)
}

func ownersOfStreamIDs(ctx context.Context, q *sql.Conn, wanted []uint64) (map[uint64]newStream, error) {
	var list strings.Builder
	for i, id := range wanted {
		if i > 0 {
			list.WriteByte(',')
		}
		list.WriteString(utoa(id))
	}
	rows, err := q.QueryContext(ctx, "SELECT stream_id, server_id, vhost, app, instance, name FROM stream_dim "+
		"WHERE stream_id IN (SELECT unnest(["+list.String()+"]::UBIGINT[]))")
	if err != nil {
		return nil, fmt.Errorf("look up streams: %w", err)
	}
	defer rows.Close()
	owners := map[uint64]newStream{}
	for rows.Next() {
		var s newStream
		var vhost, app, instance, name []byte
		if err := rows.Scan(&s.id, &s.serverID, &vhost, &app, &instance, &name); err != nil {
			return nil, fmt.Errorf("look up streams: %w", err)
		}
		s.name = streamName{string(vhost), string(app), string(instance), string(name)}
		owners[s.id] = s
	}
	return owners, rows.Err()
}

// sweep forgets streams that sent nothing for a while.
func (ids *idents) sweep(nowMs int64) {
	if nowMs-ids.swept < hourMs {
		return
	}
	ids.swept = nowMs
	for _, server := range ids.servers {
		for name, stream := range server.streams {
			if nowMs-stream.seenMs > forgetAfterMs {
				delete(server.streams, name)
			}
		}
	}
}

// infoOfStream is a fingerprint of what a stream_info row says, without the start
// of the publication, which some servers compute anew in every answer.
func (ids *idents) infoOfStream(s *fleet.StreamSample) uint64 {
	var h maphash.Hash
	h.SetSeed(ids.seed)
	m := &s.Media
	for _, text := range [...]string{s.Incarnation, s.PublisherIP, m.VideoCodec, m.VideoProfile, m.AudioCodec, m.AudioProfile} {
		_, _ = h.WriteString(text)
		_ = h.WriteByte(0)
	}
	var buf [8]byte
	for _, n := range [...]fleet.Int{s.Publishers, m.WidthPx, m.HeightPx, m.FpsMilli, m.Channels, m.SampleRateHz, m.DeclaredBps} {
		binary.LittleEndian.PutUint64(buf[:], uint64(n.Or(-1)))
		_, _ = h.Write(buf[:])
	}
	return h.Sum64() | 1
}

// infoOfServer is a fingerprint of what a server_info row says.
func (ids *idents) infoOfServer(agent string, s *fleet.Snapshot) uint64 {
	var h maphash.Hash
	h.SetSeed(ids.seed)
	i := &s.Server
	for _, text := range [...]string{agent, i.Product, i.Version, i.Collector, i.Verified, i.BootID, s.Detail} {
		_, _ = h.WriteString(text)
		_ = h.WriteByte(0)
	}
	var buf [8]byte
	for _, n := range [...]fleet.Int{i.StartedMs, i.Workers, i.ConnLimit} {
		binary.LittleEndian.PutUint64(buf[:], uint64(n.Or(-1)))
		_, _ = h.Write(buf[:])
	}
	return h.Sum64() | 1
}
