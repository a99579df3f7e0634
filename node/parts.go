package node

import (
	"context"
	"errors"
	"path/filepath"

	"vigil/bus"
	"vigil/catalog"
	"vigil/journal"
	"vigil/live"
	"vigil/storage"
	"vigil/store/duckdb"
)

// hold calls ready, waits until the part should stop, and closes what it holds.
func hold(ctx context.Context, ready func(), closer func() error) error {
	ready()
	<-ctx.Done()
	return closer()
}

// runDirectory takes the data directory and notes that it is in use.
func (n *Node) runDirectory(ctx context.Context, ready func()) error {
	dir := n.self.DataDir
	if err := checkMarker(dir, n.self.Name); err != nil {
		return err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	run := runMarker(dir)
	unclean, since, err := run.Begin(n.deps.Now())
	if err != nil {
		return errors.Join(err, lock.Close())
	}
	if unclean {
		n.deps.Log.Warn("last run did not end well", "started_at", since)
		n.deps.Health.Set(uncleanEnd(since))
	}
	return hold(ctx, ready, func() error { return errors.Join(run.End(), lock.Close()) })
}

func (n *Node) runBus(ctx context.Context, ready func()) error {
	b, err := bus.Open(ctx, bus.Options{
		Name: n.self.Name, Dir: filepath.Join(n.self.DataDir, busDir),
		Log: n.deps.Log, Health: n.deps.Health, Metrics: n.deps.Metrics,
	})
	if err != nil {
		return err
	}
	n.bus = b
	return hold(ctx, ready, b.Close)
}

func (n *Node) runJournal(ctx context.Context, ready func()) error {
	j, err := journal.Open(ctx, n.bus, journal.Options{
		Config: n.cfg.Journal, Log: n.deps.Log, Health: n.deps.Health, Metrics: n.deps.Metrics, Now: n.deps.Now,
	})
	if err != nil {
		return err
	}
	n.journal = j
	return hold(ctx, ready, j.Close)
}

func (n *Node) runCatalog(ctx context.Context, ready func()) error {
	c, err := catalog.Open(ctx, n.bus, catalog.Options{Log: n.deps.Log, Now: n.deps.Now})
	if err != nil {
		return err
	}
	n.catalog = c
	return hold(ctx, ready, c.Close)
}

func (n *Node) runStore(ctx context.Context, ready func()) error {
	db, err := duckdb.Open(ctx, duckdb.Options{
		Dir: filepath.Join(n.self.DataDir, storeDir), Config: n.cfg.Storage,
		Log: n.deps.Log, Metrics: n.deps.Metrics, Now: n.deps.Now,
	})
	if err != nil {
		return err
	}
	n.store, n.view = db, live.New()
	return hold(ctx, ready, db.Close)
}

// runStorage is ready at once: packets may be taken and pages shown while storage
// catches up with the journal, which a condition says.
func (n *Node) runStorage(ctx context.Context, ready func()) error {
	s, err := storage.New(n.cfg.Storage, storage.Deps{
		Journal: n.journal, Store: n.store, Live: n.view, Dir: filepath.Join(n.self.DataDir, storageDir),
		Log: n.deps.Log, Metrics: n.deps.Metrics, Health: n.deps.Health, Now: n.deps.Now,
	})
	if err != nil {
		return err
	}
	n.storage = s
	ready()
	return s.Run(ctx)
}

// runAnnounce comes last: the node serves.
func (n *Node) runAnnounce(ctx context.Context, ready func()) error {
	n.deps.Health.Clear(starting.Code)
	close(n.started)
	n.deps.Log.Info("node serves", "ingest", text(n.Address("ingest")), "panel", text(n.Address("panel")),
		"observe", text(n.Address("observe")))
	ready()
	<-ctx.Done()
	n.deps.Health.Set(stopping)
	return nil
}
