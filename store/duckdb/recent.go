package duckdb

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vigil/fleet"
	"vigil/store"
)

// newestServers picks the newest row of every server, whatever its status.
const newestServers = `WITH newest AS MATERIALIZED (
	SELECT * FROM %s QUALIFY row_number() OVER (PARTITION BY server_id ORDER BY ts_ms DESC, received_ms DESC) = 1)
`

// recent reads the newest snapshot of every server and the streams in it.
func (r *reading) recent(sinceMs int64) ([]store.RecentSnapshot, error) {
	servers, err := r.rawSource(&serverKind, sinceMs, maxTimeMs, 0, false)
	if err != nil {
		return nil, err
	}
	var list []store.RecentSnapshot
	byID := map[uint64]int{}
	times := map[int64]bool{}
	err = r.query(fmt.Sprintf(newestServers, servers)+`
		SELECT n.server_id, d.server, n.ts_ms, n.interval_ms, n.received_ms, n.status, n.flags, n.covered_ms, n.viewers, n.viewers_max, n.viewer_ms,
			n.bytes_in, n.bytes_out, n.conns_accepted, n.conns_rejected, n.conns_now, n.streams_now, n.publishers_now, n.cpu_milli_pct, n.mem_rss_bytes,
			n.latency_ms, n.unknown_fields, i.agent, i.product, i.version, i.collector, i.verified, i.boot_id, i.started_ms, i.workers, i.conn_limit, i.detail
		FROM newest AS n JOIN server_dim AS d USING (server_id)
		JOIN (SELECT * FROM server_info QUALIFY row_number() OVER (PARTITION BY server_id ORDER BY ts_ms DESC) = 1) AS i USING (server_id)
		ORDER BY d.server`, func(rows *sql.Rows) error {
		id, snapshot, err := scanServer(rows)
		byID[id] = len(list)
		times[snapshot.Snapshot.AtMs] = true
		list = append(list, snapshot)
		return err
	})
	if err != nil || len(list) == 0 {
		return list, err
	}
	return list, r.recentStreams(servers, slices.Sorted(maps.Keys(times)), func(serverID uint64) *fleet.Snapshot {
		i, found := byID[serverID]
		if !found {
			return nil
		}
		return &list[i].Snapshot
	})
}

func scanServer(rows *sql.Rows) (uint64, store.RecentSnapshot, error) {
	var id uint64
	var out store.RecentSnapshot
	s := &out.Snapshot
	var server, agent, product, version, collector, verified, bootID, detail []byte
	var receivedMs int64
	var status uint8
	var flags uint16
	var n [16]sql.NullInt64
	err := rows.Scan(&id, &server, &s.AtMs, &s.IntervalMs, &receivedMs, &status, &flags, &s.CoveredMs, &n[0], &n[1], &n[2],
		&n[3], &n[4], &n[5], &n[6], &n[7], &n[8], &n[9], &n[10], &n[11],
		&s.LatencyMs, &s.UnknownFields, &agent, &product, &version, &collector, &verified, &bootID, &n[12], &n[13], &n[14], &detail)
	out.Agent, out.Received = string(agent), time.UnixMilli(receivedMs).UTC()
	s.Status, s.Flags, s.Detail = fleet.PollStatus(status), fleet.SampleFlags(flags), string(detail)
	s.ViewersMax, s.ViewerMs = nullable(n[1]), nullable(n[2])
	if !s.ViewerMs.Known() && n[0].Valid {
		s.ViewerMs = fleet.Of(n[0].Int64 * s.CoveredMs)
	}
	s.Totals = fleet.Totals{BytesIn: nullable(n[3]), BytesOut: nullable(n[4]), ConnsAccepted: nullable(n[5]), ConnsRejected: nullable(n[6])}
	s.Server = fleet.ServerInfo{
		Key: string(server), Product: string(product), Version: string(version), Collector: string(collector), Verified: string(verified), BootID: string(bootID),
		StartedMs: nullable(n[12]), Workers: nullable(n[13]), ConnLimit: nullable(n[14]),
		ConnsNow: nullable(n[7]), StreamsNow: nullable(n[8]), PublishersNow: nullable(n[9]), ViewersNow: nullable(n[0]),
		CPUMilliPct: nullable(n[10]), MemRSSBytes: nullable(n[11]),
	}
	return id, out, err
}

// recentStreams adds the streams of the newest snapshots. Part rows come behind the
// row of their stream.
func (r *reading) recentStreams(servers string, times []int64, snapshotOf func(serverID uint64) *fleet.Snapshot) error {
	streams, err := r.streamsAt(times)
	if err != nil {
		return err
	}
	var last uint64
	return r.query(fmt.Sprintf(newestServers, servers)+fmt.Sprintf(`
		SELECT d.server_id, s.stream_id, s.part, s.tech, s.state, s.flags, s.covered_ms, s.viewers, s.viewers_max, s.viewer_ms, s.bytes_in, s.bytes_out, s.frames_dropped,
			d.vhost, d.app, d.instance, d.name,
			i.online_since_ms, i.incarnation, i.publishers, i.publisher_ip, i.video_codec, i.video_profile, i.width_px, i.height_px, i.fps_milli,
			i.audio_codec, i.audio_profile, i.channels, i.sample_rate_hz, i.declared_bps
		FROM %s AS s JOIN stream_dim AS d USING (stream_id)
		JOIN (SELECT server_id, ts_ms FROM newest) AS n ON n.server_id = d.server_id AND n.ts_ms = s.ts_ms
		LEFT JOIN (SELECT * FROM stream_info QUALIFY row_number() OVER (PARTITION BY stream_id ORDER BY ts_ms DESC) = 1) AS i ON i.stream_id = s.stream_id
		ORDER BY d.server_id, s.stream_id, s.part`, streams), func(rows *sql.Rows) error {
		serverID, streamID, part, sample, err := scanStream(rows)
		if err != nil {
			return err
		}
		snapshot := snapshotOf(serverID)
		if snapshot == nil {
			return nil
		}
		if n := len(snapshot.Streams); part {
			if n > 0 && last == streamID {
				owner := &snapshot.Streams[n-1]
				owner.ByTech = append(owner.ByTech, fleet.TechViewers{Tech: sample.Tech, Viewers: sample.Viewers.Or(0)})
			}
			return nil
		}
		last = streamID
		sample.Key.Server = snapshot.Server.Key
		snapshot.Streams = append(snapshot.Streams, sample)
		return nil
	})
}

// streamsAt is the table of the raw rows of streams from the files that can have rows of
// one of the given times, which are sorted. A server that has long been silent must not
// make all files between then and now be read.
func (r *reading) streamsAt(times []int64) (string, error) {
	files, err := r.present("kind = 'stream' AND tier = 'raw'")
	if err != nil {
		return "", err
	}
	files = slices.DeleteFunc(files, func(f parquetFile) bool {
		i, _ := slices.BinarySearch(times, f.minMs)
		return i == len(times) || times[i] > f.maxMs
	})
	branches := []string{"SELECT * FROM " + streamKind.hotTable(0), "SELECT * FROM " + streamKind.hotTable(1)}
	if len(files) > 0 {
		branches = append(branches, "SELECT * FROM "+r.db.readParquet(files))
	}
	return "(" + strings.Join(branches, " UNION ALL ") + ")", nil
}

func scanStream(rows *sql.Rows) (serverID, streamID uint64, part bool, s fleet.StreamSample, err error) {
	var tech, state uint8
	var flags uint16
	var covered int64
	var vhost, app, instance, name, incarnation, ip, vcodec, vprofile, acodec, aprofile []byte
	var n [14]sql.NullInt64
	err = rows.Scan(&serverID, &streamID, &part, &tech, &state, &flags, &covered, &n[0], &n[1], &n[2], &n[3], &n[4], &n[5],
		&vhost, &app, &instance, &name,
		&n[6], &incarnation, &n[7], &ip, &vcodec, &vprofile, &n[8], &n[9], &n[10],
		&acodec, &aprofile, &n[11], &n[12], &n[13])
	s.Key = fleet.StreamKey{VHost: string(vhost), App: string(app), Instance: string(instance), Name: string(name)}
	s.Tech, s.State, s.Flags = fleet.Tech(tech), fleet.StreamState(state), fleet.SampleFlags(flags)
	s.NameCollision = s.Flags&fleet.FlagNameCollision != 0
	s.CoveredMs = fleet.Of(covered)
	s.Viewers, s.ViewersMax, s.ViewerMs = nullable(n[0]), nullable(n[1]), nullable(n[2])
	if v, known := s.Viewers.Get(); known && !s.ViewerMs.Known() {
		s.ViewerMs = fleet.Of(v * covered)
	}
	s.BytesIn, s.BytesOut, s.FramesDropped = nullable(n[3]), nullable(n[4]), nullable(n[5])
	s.OnlineSinceMs, s.Incarnation, s.Publishers, s.PublisherIP = nullable(n[6]), string(incarnation), nullable(n[7]), string(ip)
	s.Media = fleet.Media{
		VideoCodec: string(vcodec), VideoProfile: string(vprofile), WidthPx: nullable(n[8]), HeightPx: nullable(n[9]), FpsMilli: nullable(n[10]),
		AudioCodec: string(acodec), AudioProfile: string(aprofile), Channels: nullable(n[11]), SampleRateHz: nullable(n[12]), DeclaredBps: nullable(n[13]),
	}
	return serverID, streamID, part, s, err
}

// databaseBytes is the size of the database file and its write-ahead log.
func (db *DB) databaseBytes() (int64, error) {
	var total int64
	for _, name := range []string{databaseFile, databaseFile + ".wal"} {
		info, err := os.Stat(filepath.Join(db.opts.Dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		total += info.Size()
	}
	return total, nil
}
