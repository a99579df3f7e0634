package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"vigil/auth"
	"vigil/bus"
	"vigil/catalog"
	"vigil/config"
	"vigil/fleet"
	"vigil/health"
	"vigil/journal"
	"vigil/lifecycle"
	"vigil/live"
	"vigil/observe"
	"vigil/report"
	"vigil/storage"
	"vigil/store/duckdb"
)

// How long each part may take to stop. A service manager should allow their sum.
const (
	stopServer  = 15 * time.Second
	stopStorage = 30 * time.Second
	stopStore   = 30 * time.Second
	stopBus     = 20 * time.Second
)

// Deps are what a node needs besides its configuration. All may be left out.
type Deps struct {
	Log     *slog.Logger
	Metrics *observe.Registry
	Health  *health.Registry
	Version string // shown in the panel
	Now     func() time.Time
}

// Node is one node. Make it with New, run it once with Run.
type Node struct {
	cfg  *config.Service
	self config.Node
	deps Deps

	started chan struct{} // closed when every part is ready

	mu    sync.Mutex
	addrs map[string]net.Addr // guarded by mu; by role, and "observe"

	// Each of these is set by the part that opens it before the parts after it start.
	bus     *bus.Bus
	journal *journal.Journal
	catalog *catalog.Catalog
	store   *duckdb.DB
	view    *live.View
	storage *storage.Storage
	auth    *auth.Auth
	reports *report.Reports
}

// New checks that the file has the named node. It opens nothing. The empty name means
// the only node.
func New(cfg *config.Service, name string, deps Deps) (*Node, error) {
	self, ok := cfg.Node(name)
	if !ok {
		return nil, &fleet.Error{
			Kind:    fleet.KindInvalid,
			Message: fmt.Sprintf("the configuration has no node %q", name),
			Hint:    "name one of its [[node]] sections with -node, or none when there is only one",
		}
	}
	if deps.Log == nil {
		deps.Log = observe.Discard()
	}
	if deps.Metrics == nil {
		deps.Metrics = observe.NewRegistry()
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Health == nil {
		deps.Health = health.New(deps.Now)
	}
	deps.Log = deps.Log.With("node", self.Name)
	return &Node{
		cfg: cfg, self: self, deps: deps, started: make(chan struct{}), addrs: map[string]net.Addr{},
	}, nil
}

// Run starts the node and blocks until ctx ends or a part fails. It returns nil after
// an orderly stop.
func (n *Node) Run(ctx context.Context) error {
	n.deps.Health.Set(starting)
	return lifecycle.Run(ctx, n.deps.Log, n.parts()...)
}

// Started is closed when every part of the node is ready.
func (n *Node) Started() <-chan struct{} { return n.started }

// Health returns the node's conditions.
func (n *Node) Health() *health.Registry { return n.deps.Health }

// Address returns where a role listens: "ingest", "panel" or "observe". Nil when it
// does not, or not yet. Safe for concurrent use.
func (n *Node) Address(role string) net.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addrs[role]
}

// Storage returns the storage role, for its counters. Use it after Started; nil when
// the node has no such role.
func (n *Node) Storage() *storage.Storage { return n.storage }

// Store returns the store, to read from. Use it after Started; nil when the node has
// no storage role.
func (n *Node) Store() *duckdb.DB { return n.store }

// Live returns the view of what is on air. Use it after Started; nil when the node has
// no storage role.
func (n *Node) Live() *live.View { return n.view }

// Catalog returns accounts and tokens. Use it after Started.
func (n *Node) Catalog() *catalog.Catalog { return n.catalog }

// parts is the node from first to last. This list is the order of starting; stopping
// is the reverse.
func (n *Node) parts() []lifecycle.Part {
	parts := []lifecycle.Part{
		{Name: "directory", Run: n.runDirectory},
		{Name: "watch", Run: n.runWatch},
	}
	if n.cfg.Observe.Listen != "" {
		parts = append(parts, lifecycle.Part{Name: "observe", Run: n.runObserve, StopTimeout: time.Second})
	}
	parts = append(parts,
		lifecycle.Part{Name: "bus", Run: n.runBus, StopTimeout: stopBus},
		lifecycle.Part{Name: "journal", Run: n.runJournal, StopTimeout: stopBus},
		lifecycle.Part{Name: "catalog", Run: n.runCatalog},
	)
	if n.self.Has(config.RoleStorage) {
		parts = append(parts,
			lifecycle.Part{Name: "store", Run: n.runStore, StopTimeout: stopStore},
			lifecycle.Part{Name: "storage", Run: n.runStorage, StopTimeout: stopStorage},
		)
	}
	if n.self.Has(config.RoleIngest) {
		parts = append(parts, lifecycle.Part{Name: "ingest", Run: n.runIngest, StopTimeout: stopServer})
	}
	if n.self.Has(config.RolePanel) {
		parts = append(parts, lifecycle.Part{Name: "panel", Run: n.runPanel, StopTimeout: stopServer})
	}
	return append(parts, lifecycle.Part{Name: "announce", Run: n.runAnnounce})
}
