package duckdb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"vigil/fleet"
	"vigil/store"
)

// An applying is one transaction of the writer.
type applying struct {
	db         *DB
	batch      int64
	generation int
	fresh      newNames
	appenders  map[string]*appender
	edges      []int64
	pieces     int            // into which a snapshot of the packet at hand may be cut at most
	entries    []*streamEntry // of the samples, in their order: names are looked up once
	samples    int64
	rows       int64

	streams, servers, packets, events, sessions *appender
}

// Apply stores a batch in one transaction. See store.Writer.
func (db *DB) Apply(ctx context.Context, b *store.Batch) error {
	if err := db.enter(); err != nil {
		return err
	}
	defer db.leave()
	if err := ctx.Err(); err != nil {
		return err
	}
	db.applyMu.Lock()
	defer db.applyMu.Unlock()
	if db.broken != nil {
		return fmt.Errorf("%w: %w", ErrBroken, db.broken)
	}
	if len(b.Received) != len(b.Packets) {
		return fmt.Errorf("apply batch: %d packets but %d times", len(b.Packets), len(b.Received))
	}
	started := time.Now()
	a := &applying{db: db, entries: db.entries[:0], batch: db.batch + 1, generation: db.generation, appenders: map[string]*appender{}}
	err := a.run(ctx, b)
	if err != nil {
		// What memory knows about ids may not be on disk now; a reopened store knows.
		db.broken = err
		db.metrics.applyErrors.Inc()
		return fmt.Errorf("apply batch: %w", err)
	}
	db.batch = a.batch
	db.hotRows[a.generation].Add(a.rows)
	db.metrics.applied(a, len(b.Packets), time.Since(started))
	return nil
}

func (a *applying) run(ctx context.Context, b *store.Batch) (err error) {
	if err := a.identify(ctx, b); err != nil {
		return err
	}
	if err := a.db.fault("begin"); err != nil {
		return err
	}
	w := a.db.writer
	if err := w.exec("BEGIN TRANSACTION"); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer a.closeAll()
	if err := a.fill(b); err != nil {
		return errors.Join(err, w.exec("ROLLBACK"))
	}
	for _, app := range a.appenders {
		if err := app.finish(); err != nil {
			return errors.Join(err, w.exec("ROLLBACK"))
		}
	}
	if err := a.db.fault("commit"); err != nil {
		return errors.Join(err, w.exec("ROLLBACK"))
	}
	// The engine syncs its write-ahead log before COMMIT returns.
	if err := w.exec("COMMIT"); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if err := a.db.syncNewLog(); err != nil {
		return err
	}
	return a.db.fault("committed")
}

// syncNewLog makes the name of the write-ahead log durable. The engine makes a new file
// after every checkpoint and syncs the file, but not the directory.
func (db *DB) syncNewLog() error {
	info, err := os.Stat(filepath.Join(db.opts.Dir, databaseFile+".wal"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		db.wal = nil // the commit ended with a checkpoint
	case err != nil:
		return err
	case db.wal == nil || !os.SameFile(db.wal, info):
		db.wal = info
		return syncDir(db.opts.Dir)
	}
	return nil
}

// identify finds or makes the id of every server and stream of the batch.
func (a *applying) identify(ctx context.Context, b *store.Batch) error {
	ids, q := a.db.ids, a.db.lookup
	var missing []nameRequest
	need := func(e *serverEntry, k *fleet.StreamKey) *streamEntry {
		n := nameOf(k)
		stream, there := e.streams[n]
		if !there {
			missing = append(missing, nameRequest{server: k.Server, entry: e, name: n})
		}
		return stream
	}
	for _, p := range b.Packets {
		for i := range p.Snapshots {
			s := &p.Snapshots[i]
			e, err := ids.server(ctx, q, s.Server.Key, &a.fresh)
			if err != nil {
				return err
			}
			adopt(s)
			for j := range s.Streams {
				a.entries = append(a.entries, need(e, &s.Streams[j].Key))
			}
			for j := range s.Events {
				need(e, &s.Events[j].Key)
			}
			for j := range s.Sessions {
				need(e, &s.Sessions[j].Key)
			}
		}
	}
	a.db.entries = a.entries // before fill takes from the front
	return ids.resolve(ctx, q, missing, &a.fresh)
}

// adopt makes every key of a snapshot name the snapshot's server: a stream of another server
// has no place in it.
func adopt(s *fleet.Snapshot) {
	for j := range s.Streams {
		s.Streams[j].Key.Server = s.Server.Key
	}
	for j := range s.Events {
		s.Events[j].Key.Server = s.Server.Key
	}
	for j := range s.Sessions {
		s.Sessions[j].Key.Server = s.Server.Key
	}
}

// to returns the appender of a table, made when it is first needed.
func (a *applying) to(table string, columns []column) (*appender, error) {
	if app, ok := a.appenders[table]; ok {
		return app, nil
	}
	app, err := newAppender(a.db.writer, table, columns)
	if err != nil {
		return nil, err
	}
	a.appenders[table] = app
	return app, nil
}

func (a *applying) hot(k *kind) (*appender, error) { return a.to(k.hotTable(a.generation), k.columns) }

func (a *applying) closeAll() {
	for _, app := range a.appenders {
		app.close()
	}
}

func (a *applying) fill(b *store.Batch) error {
	var err error
	for _, h := range [...]struct {
		to   **appender
		kind *kind
	}{{&a.streams, &streamKind}, {&a.servers, &serverKind}, {&a.packets, &packetKind}, {&a.events, &eventKind}, {&a.sessions, &sessionKind}} {
		if *h.to, err = a.hot(h.kind); err != nil {
			return err
		}
	}
	for i, p := range b.Packets {
		if err := a.packet(p, b.Received[i].UnixMilli()); err != nil {
			return err
		}
	}
	if err := a.gaps(b); err != nil {
		return err
	}
	if err := a.names(b); err != nil {
		return err
	}
	return a.state(b)
}

// state writes where the journal stands and which packets are counted.
func (a *applying) state(b *store.Batch) error {
	app, err := a.to("journal_position", positionColumns)
	if err != nil {
		return err
	}
	for _, p := range b.Positions {
		app.i64(0, a.batch)
		app.text(1, p.Shard)
		app.u64(2, p.Seq)
		if err := app.next(); err != nil {
			return err
		}
	}
	if app, err = a.to("ledger", ledgerColumns); err != nil {
		return err
	}
	for key, ledger := range b.Ledger {
		app.i64(0, a.batch)
		app.text(1, key.Agent)
		app.u64(2, key.Epoch)
		settled, givenUp := ledger.Settled(), ledger.GivenUp()
		app.u64(3, settled.High())
		app.blob(4, encodeRanges(settled.High(), settled.Ahead()))
		app.blob(5, encodeRanges(0, givenUp.Ranges()))
		if err := app.next(); err != nil {
			return err
		}
	}
	return nil
}

func (a *applying) names(b *store.Batch) error {
	if len(a.fresh.servers) > 0 {
		app, err := a.to("server_dim", serverDimColumns)
		if err != nil {
			return err
		}
		first := firstHeard(b)
		for _, s := range a.fresh.servers {
			app.u64(0, s.id)
			app.text(1, s.server)
			app.i64(2, first[s.server])
			if err := app.next(); err != nil {
				return err
			}
		}
	}
	if len(a.fresh.streams) == 0 {
		return nil
	}
	app, err := a.to("stream_dim", streamDimColumns)
	if err != nil {
		return err
	}
	for _, s := range a.fresh.streams {
		app.u64(0, s.id)
		app.u64(1, s.serverID)
		app.text(2, s.name.vhost)
		app.text(3, s.name.app)
		app.text(4, s.name.instance)
		app.text(5, s.name.name)
		if err := app.next(); err != nil {
			return err
		}
	}
	return nil
}

// firstHeard is the beginning of the oldest interval of every server in a batch.
func firstHeard(b *store.Batch) map[string]int64 {
	first := map[string]int64{}
	for _, p := range b.Packets {
		for i := range p.Snapshots {
			s := &p.Snapshots[i]
			began := timeOf(s) - intervalOf(s)
			if at, there := first[s.Server.Key]; !there || began < at {
				first[s.Server.Key] = began
			}
		}
	}
	return first
}

func (a *applying) packet(p *fleet.Packet, receivedMs int64) error {
	newest := int64(minTimeMs)
	var in, out fleet.Int
	a.pieces = mostPieces(p)
	for i := range p.Snapshots {
		s := &p.Snapshots[i]
		newest = max(newest, timeOf(s))
		ignored := false
		in = in.Plus(within(s.Totals.BytesIn, maxBytes, &ignored))
		out = out.Plus(within(s.Totals.BytesOut, maxBytes, &ignored))
		if err := a.snapshot(p.ID.Agent, s, receivedMs); err != nil {
			return err
		}
	}
	if len(p.Snapshots) == 0 {
		newest = receivedMs
	}
	app := a.packets
	app.i64(0, newest)
	app.text(1, p.ID.Agent)
	app.u64(2, p.ID.Epoch)
	app.u64(3, p.FirstSeq)
	app.u64(4, p.ID.Seq)
	app.i64(5, receivedMs)
	app.int(6, in)
	app.int(7, out)
	return app.next()
}

// gaps writes what was given up, and what arrived after it had been given up.
func (a *applying) gaps(b *store.Batch) error {
	for _, g := range b.Gaps {
		if err := a.gap(g.AgentGap, g.Received.UnixMilli(), false); err != nil {
			return err
		}
	}
	for _, r := range b.Arrived {
		gap := fleet.Gap{FirstSeq: r.First, LastSeq: r.Last}
		if err := a.gap(store.AgentGap{Agent: r.Agent, Epoch: r.Epoch, Gap: gap}, r.Received.UnixMilli(), true); err != nil {
			return err
		}
	}
	return nil
}

func (a *applying) gap(g store.AgentGap, receivedMs int64, withdrawn bool) error {
	app, err := a.to("agent_gap", gapColumns)
	if err != nil {
		return err
	}
	app.text(0, g.Agent)
	app.u64(1, g.Epoch)
	app.u64(2, g.FirstSeq)
	app.u64(3, g.LastSeq)
	app.int(4, g.FromMs)
	app.int(5, g.ToMs)
	app.text(6, g.Reason)
	app.i64(7, receivedMs)
	app.bool(8, withdrawn)
	return app.next()
}

// encodeRanges packs sorted ranges: for each one the distance of its first number from
// the last one before it, and its length.
func encodeRanges(last uint64, ranges []fleet.SeqRange) []byte {
	var buf []byte
	for _, r := range ranges {
		buf = binary.AppendUvarint(buf, r.First-last)
		buf = binary.AppendUvarint(buf, r.Last-r.First+1)
		last = r.Last
	}
	return buf
}

// decodeRanges is the set of 1 to high and the packed ranges behind it.
func decodeRanges(high uint64, buf []byte) (*fleet.SeqSet, error) {
	var ahead []fleet.SeqRange
	last := high
	for len(buf) > 0 {
		distance, n := binary.Uvarint(buf)
		if n <= 0 {
			return nil, fmt.Errorf("%w: ledger row is not readable", ErrDamaged)
		}
		length, m := binary.Uvarint(buf[n:])
		if m <= 0 || length == 0 {
			return nil, fmt.Errorf("%w: ledger row is not readable", ErrDamaged)
		}
		r := fleet.SeqRange{First: last + distance, Last: last + distance + length - 1}
		ahead = append(ahead, r)
		last = r.Last
		buf = buf[n+m:]
	}
	return fleet.SeqSetFrom(high, ahead)
}
