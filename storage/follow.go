package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"vigil/fleet"
	"vigil/journal"
)

// A decoded message is ready to be counted.
type decoded struct {
	shard   string
	seq     uint64 // position after it
	packets []arrived
}

// An arrived packet is one entry of the journal. packet is nil when it cannot be
// counted, and why says so.
type arrived struct {
	entry    journal.Entry
	received time.Time
	packet   *fleet.Packet
	why      error
}

// follow applies all shards until something fails.
func (s *Storage) follow(ctx context.Context) error {
	positions, err := s.load(ctx)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	shards := s.deps.Journal.Shards()
	a := &applier{s: s, positions: positions, goals: map[string]uint64{}, queue: make(chan decoded, queuedMessages*max(len(shards), 1))}
	for _, shard := range shards {
		if a.goals[shard], err = s.deps.Journal.Last(ctx, shard); err != nil {
			return fmt.Errorf("read end of shard %s: %w", shard, err)
		}
		after := positions[shard]
		if after > 0 {
			if err := s.deps.Journal.Applied(shard, after); err != nil {
				s.log.Warn("journal did not take the applied position", "shard", shard, "error", err)
			}
		}
		group.Go(func() error { return s.read(ctx, shard, after, a.queue) })
	}
	a.checkReady()
	group.Go(func() error { return a.run(ctx) })
	group.Go(func() error { return s.maintain(ctx) })
	return group.Wait()
}

// read decodes one shard. What is missing in it is told, and left behind.
func (s *Storage) read(ctx context.Context, shard string, after uint64, queue chan<- decoded) error {
	for {
		err := s.deps.Journal.Read(ctx, shard, after, func(m journal.Message) error {
			after = m.Seq
			return send(ctx, queue, s.decode(shard, m))
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if gap, ok := errors.AsType[*journal.GapError](err); ok && gap.Missing.Last > after {
			s.metrics.messagesMissing.Add(float64(gap.Missing.Last - gap.Missing.First + 1))
			s.log.Error("journal has lost messages that were not applied here", "shard", shard, "first", gap.Missing.First, "last", gap.Missing.Last)
			s.deps.Health.Set(journalGap(gap))
			if after, err = skipTo(ctx, queue, shard, gap.Missing.Last); err != nil {
				return err
			}
			continue
		}
		if damaged, ok := errors.AsType[*journal.DamagedError](err); ok && damaged.Seq > after {
			s.metrics.messagesDamaged.Inc()
			s.log.Error("journal has a damaged message, its packets are not applied here", "shard", shard, "message", damaged.Seq, "error", damaged.Err)
			s.deps.Health.Set(journalDamaged(damaged))
			if after, err = skipTo(ctx, queue, shard, damaged.Seq); err != nil {
				return err
			}
			continue
		}
		if ahead, ok := errors.AsType[*journal.AheadError](err); ok && ahead.Last < after {
			s.log.Error("journal shard lost its end, going on behind what is left", "shard", shard, "position", ahead.After, "last", ahead.Last)
			s.deps.Health.Set(journalCut(ahead))
			if after, err = skipTo(ctx, queue, shard, ahead.Last); err != nil {
				return err
			}
			continue
		}
		if err == nil {
			err = errors.New("journal ended")
		}
		return fmt.Errorf("read shard %s: %w", shard, err)
	}
}

// skipTo makes storage go on behind a position, after the next start too. Without that,
// what was left behind would be told again, and messages with numbers that went back
// would be skipped.
func skipTo(ctx context.Context, queue chan<- decoded, shard string, seq uint64) (uint64, error) {
	return seq, send(ctx, queue, decoded{shard: shard, seq: seq})
}

func send(ctx context.Context, queue chan<- decoded, d decoded) error {
	select {
	case queue <- d:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Storage) decode(shard string, m journal.Message) decoded {
	d := decoded{shard: shard, seq: m.Seq, packets: make([]arrived, len(m.Entries))}
	for i, e := range m.Entries {
		d.packets[i] = s.decodeEntry(e)
	}
	return d
}

// decodeEntry survives whatever is in an entry: a packet that cannot be applied must
// not stop those behind it.
func (s *Storage) decodeEntry(e journal.Entry) (out arrived) {
	out = arrived{entry: e, received: time.UnixMilli(e.ReceivedMs).UTC()}
	defer func() {
		if r := recover(); r != nil {
			s.metrics.panics.Inc()
			out.packet, out.why = nil, fmt.Errorf("decoding panicked: %v", r)
		}
	}()
	p, err := s.codec.Decode(e.Payload)
	switch {
	case err != nil:
		out.why = fmt.Errorf("decode: %w", err)
	case p.ID != e.ID || p.FirstSeq != e.FirstSeq:
		out.why = fmt.Errorf("packet says that it is %v from %d, journal that it is %v from %d", p.ID, p.FirstSeq, e.ID, e.FirstSeq)
	default:
		if out.why = checkTimes(p, out.received); out.why == nil {
			out.packet = p
		}
	}
	return out
}

// checkTimes refuses packets from far in the future: they would be newest for ever.
// Ingest does not acknowledge them; this is for journals that something else filled.
func checkTimes(p *fleet.Packet, received time.Time) error {
	if s := p.Untimely(received.UnixMilli()); s != nil {
		return fmt.Errorf("snapshot of %q is from %s, received %s", s.Server.Key,
			time.UnixMilli(s.AtMs).UTC().Format(time.RFC3339), received.Format(time.RFC3339))
	}
	return nil
}

// maintain asks the store regularly whether anything is due.
func (s *Storage) maintain(ctx context.Context) error {
	tick := time.NewTicker(maintainEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if err := s.deps.Store.Maintain(ctx, s.deps.Now()); err != nil {
				return fmt.Errorf("maintain store: %w", err)
			}
		}
	}
}
