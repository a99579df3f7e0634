package main

import (
	"context"
	"time"

	"vigil/agent"
	"vigil/command"
	"vigil/fleet"
)

func check(c *command.Call) error {
	c.Params = "[flags]"
	c.Help = `read every media server once and ask the service whether it would take packets

It prints what it sees, sends nothing and stores nothing. A running agent is not
disturbed. The exit code is 0 when all of it works.`
	s := settingsOf(c)
	asJSON := c.Flags.Bool("json", false, "print everything that was found, as JSON")
	if err := c.ParseNone(); err != nil {
		return err
	}
	cfg, _, err := s.load()
	if err != nil {
		return err
	}
	a, err := agent.New(*cfg, agent.Deps{Version: command.Version()})
	if err != nil {
		return err
	}
	report := a.Check(c.Context)
	if *asJSON {
		err = printJSON(c, report)
	} else {
		err = report.WriteText(c.Stdout)
	}
	if err == nil && !report.OK() {
		err = &fleet.Error{
			Kind: fleet.KindUnavailable, Message: "not everything works", Hint: "begin with the first line above that says FAIL",
		}
	}
	return err
}

// readyEvery is how often a starting agent is asked whether it has its spool.
const readyEvery = 10 * time.Millisecond

// whenReady calls ready when the agent has opened its spool, which gives it its epoch.
func whenReady(ctx context.Context, a *agent.Agent, ready func()) {
	ticker := time.NewTicker(readyEvery)
	defer ticker.Stop()
	for a.Stats().Epoch == 0 {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
	ready()
}
