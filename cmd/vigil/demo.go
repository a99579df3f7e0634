package main

import (
	"time"

	"vigil/command"
	"vigil/config"
	"vigil/demo"
	"vigil/lifecycle"
)

func runDemo(c *command.Call) error {
	c.Params = "[flags]"
	c.Help = `run the whole service on this machine with a simulated fleet

One node, a fleet of media servers, and an agent beside each, all on 127.0.0.1. It prints
where to look and how to log in. When it ends it settles the account: what agents had
acknowledged against what is stored. No configuration is read, and nothing is left
behind unless -dir is given.`
	o := demo.Options{Out: c.Stdout, Version: command.Version()}
	c.Flags.StringVar(&o.Dir, "dir", "", "keep the data in this `DIR`; a temporary one is removed at the end")
	c.Flags.IntVar(&o.Servers, "servers", 20, "simulate this `NUMBER` of media servers, 1 to 500")
	c.Flags.IntVar(&o.Streams, "streams", 0, "simulate this `NUMBER` of streams in the whole fleet; 0: 100 for each server")
	c.Flags.Uint64Var(&o.Seed, "seed", 1, "a `NUMBER` that decides everything about the simulated fleet")
	c.Flags.DurationVar(&o.Interval, "interval", 2*time.Second, "`TIME` between two polls of a server")
	c.Flags.DurationVar(&o.Past, "past", 0, "make this `TIME` of history first, with gaps to look at; an hour takes some seconds")
	c.Flags.DurationVar(&o.For, "for", 0, "stop after this `TIME`; 0: run until interrupted")
	c.Flags.BoolVar(&o.JSON, "json", false, "print one JSON object at the end and nothing else")
	c.Flags.BoolVar(&o.Real, "real", false, "start real nginx-rtmp, Icecast and ffmpeg instead of the simulated fleet")
	c.Flags.StringVar(&o.Listen, "listen", "", "`ADDRESS` of the panel; otherwise 127.0.0.1:8480, or a free port when it is taken")
	level := c.Flags.String("log", "error", "log at this `LEVEL` and above to standard error: debug, info, warn or error")
	if err := c.ParseNone(); err != nil {
		return err
	}
	log, err := newLogger(config.Log{Level: *level}, c)
	if err != nil {
		return err
	}
	o.Log = log
	ctx, release := lifecycle.SignalContext(c.Context, log)
	defer release()
	return demo.Run(ctx, o)
}
