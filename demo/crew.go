package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"vigil/agent"
	"vigil/config"
	"vigil/wire"
)

// mostPollTime is how long a poll may take at most, however long the interval.
const mostPollTime = 5 * time.Second

// clientListEvery is how often the demo's agents read lists of listeners.
const clientListEvery = 30 * time.Second

// watched is a media server that an agent of the demo watches.
type watched struct {
	name, product, url, user, password string
}

// crew is the agents of a demo, one for each media server. They are the agents that
// vigil-agent runs, in this process.
type crew struct {
	codec  *wire.Codec
	agents []*agent.Agent
	stop   context.CancelFunc // of all agents
	wg     sync.WaitGroup

	mu  sync.Mutex
	err error // first failure of an agent; guarded by mu
}

// hire makes the agent of a media server.
func (c *crew) hire(to destination, w watched) error {
	if c.codec == nil {
		codec, err := wire.NewCodec(wire.DefaultLimits())
		if err != nil {
			return err
		}
		c.codec = codec
	}
	dir := filepath.Join(to.dir, w.name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of agent %s: %w", w.name, err)
	}
	passwordFile := ""
	if w.password != "" {
		passwordFile = filepath.Join(dir, "password")
		if err := os.WriteFile(passwordFile, []byte(w.password+"\n"), 0o600); err != nil {
			return fmt.Errorf("write the password of %s: %w", w.name, err)
		}
	}
	text := fmt.Sprintf(`name = %q
spool_dir = %q
interval = %q
[service]
url = %q
token_file = %q
[[server]]
name = %q
product = %q
url = %q
username = %q
password_file = %q
timeout = %q
client_list_every = %q
`, w.name, filepath.Join(dir, "spool"), to.interval, to.url, to.tokenFile,
		w.name, w.product, w.url, w.user, passwordFile, min(to.interval*9/10, mostPollTime), clientListEvery)
	cfg, _, err := config.LoadAgent(config.Source{Name: w.name, Data: []byte(text), Host: w.name})
	if err != nil {
		return err
	}
	a, err := agent.New(*cfg, agent.Deps{Log: to.log.With("part", "agent"), Codec: c.codec, Host: "demo"})
	if err != nil {
		return err
	}
	c.agents = append(c.agents, a)
	return nil
}

// start lets all agents work until ctx ends or the crew is stopped.
func (c *crew) start(ctx context.Context) {
	// Agents outlive an interrupt, so that the account can be settled.
	ctx, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, a := range c.agents {
		c.wg.Go(func() {
			if err := a.Run(ctx); err != nil {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.err = errors.Join(c.err, err)
			}
		})
	}
}

// rest stops all agents. What they could not send stays in their spools.
func (c *crew) rest() error {
	if c.stop != nil {
		c.stop()
	}
	c.wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// stats returns what each agent counted.
func (c *crew) stats() []agent.Stats {
	all := make([]agent.Stats, 0, len(c.agents))
	for _, a := range c.agents {
		all = append(all, a.Stats())
	}
	return all
}
