package main

import (
	"time"

	"vigil/command"
	"vigil/demo"
	"vigil/lifecycle"
	"vigil/observe"
)

func runDemo(c *command.Call) error {
	c.Params = "[flags]"
	c.Help = `run everything on loopback, with a fleet to look at

One node with every role, 20 media servers with 2,000 streams, and an agent beside each
server. The servers are simulated, so the truth about them is known to the byte; all
else is what runs in earnest. The address, the login and what to try are printed.

At the end the account is settled: what agents had acknowledged against what is stored,
and the traffic that is reported against what truly flowed. Anything lost, counted
twice, or more than 0.1 % off makes the command fail.`
	o := demo.Options{Out: c.Stdout, Version: command.Version()}
	c.Flags.StringVar(&o.Dir, "dir", "", "keep the data in this `directory`; a temporary one by default")
	c.Flags.IntVar(&o.Servers, "servers", 20, "number of simulated media servers")
	c.Flags.IntVar(&o.Streams, "streams", 0, "number of streams in the whole fleet (default 100 for each server)")
	c.Flags.Uint64Var(&o.Seed, "seed", 1, "of the simulated fleet")
	c.Flags.DurationVar(&o.Interval, "interval", 2*time.Second, "between two polls of a media server")
	c.Flags.DurationVar(&o.For, "for", 0, "stop after this time; 0 runs until Ctrl-C")
	c.Flags.BoolVar(&o.JSON, "json", false, "print nothing but one JSON object at the end")
	c.Flags.BoolVar(&o.Real, "real", false, "use real nginx-rtmp and Icecast, with ffmpeg publishing")
	c.Flags.StringVar(&o.Listen, "listen", "", "`address` of the panel (default 127.0.0.1:8480, or a free port)")
	level := c.Flags.String("log", "warn", "log level: debug, info, warn, error")
	if err := c.ParseNone(); err != nil {
		return err
	}
	log, err := observe.NewLogger(*level, "auto", c.Stderr)
	if err != nil {
		return c.Usage(err.Error())
	}
	o.Log = log
	ctx, release := lifecycle.SignalContext(c.Context, log)
	defer release()
	return demo.Run(ctx, o)
}
