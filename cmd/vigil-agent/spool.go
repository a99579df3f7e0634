package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"vigil/command"
	"vigil/durable"
	"vigil/fleet"
	"vigil/spool"
)

func spoolStats(c *command.Call) error {
	c.Params = "[flags]"
	c.Help = `print the state of the spool as JSON

It only reads, so the agent may run meanwhile; the numbers are then those of a moment.
Records are those on disk: one that was acknowledged stays until its whole file is
done, and only the running agent knows about it. What waits while an agent runs is its
metric vigil_spool_records. Held records are those of an outage.`
	dir, err := spoolDir(c)
	if err != nil {
		return err
	}
	stats, err := spool.ReadStats(durable.OS(), dir)
	if err != nil {
		return explain(err, dir)
	}
	return printJSON(c, stats)
}

func spoolCheck(c *command.Call) error {
	c.Params = "[flags]"
	c.Help = `read every byte of the spool and report all damage as JSON

It changes nothing. The agent must be stopped. The exit code is not 0 when something is
damaged; the agent starts all the same and turns damage into a gap.`
	dir, err := spoolDir(c)
	if err != nil {
		return err
	}
	report, err := spool.Check(durable.OS(), dir)
	if err != nil {
		return explain(err, dir)
	}
	if err := printJSON(c, report); err != nil {
		return err
	}
	if !report.OK() {
		return &fleet.Error{
			Kind:    fleet.KindInvalid,
			Message: fmt.Sprintf("the spool has %d damaged places and misses %d packets", len(report.Damage), report.Missing),
			Hint:    "vigil-agent spool repair, which turns damage into gaps; or just start the agent",
		}
	}
	return nil
}

func spoolRepair(c *command.Call) error {
	c.Params = "[flags]"
	c.Help = `turn all damage of the spool into gaps and rewrite what is left

The agent must be stopped. It prints as JSON what was found. Nothing that can be read is
given up.`
	dir, err := spoolDir(c)
	if err != nil {
		return err
	}
	report, err := spool.Repair(durable.OS(), dir)
	if err != nil {
		return explain(err, dir)
	}
	return printJSON(c, report)
}

// spoolDir reads the flags of a command that has no others, and says where the spool is.
func spoolDir(c *command.Call) (string, error) {
	s := settingsOf(c)
	if err := c.ParseNone(); err != nil {
		return "", err
	}
	cfg, _, err := s.load()
	if err != nil {
		return "", err
	}
	return cfg.SpoolDir, nil
}

// explain says what to do about an error of the spool.
func explain(err error, dir string) error {
	if errors.Is(err, durable.ErrLocked) {
		return &fleet.Error{
			Kind: fleet.KindConflict, Message: "an agent uses the spool " + dir, Hint: "stop it first", Err: err,
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return &fleet.Error{
			Kind: fleet.KindMissing, Message: "there is no spool at " + dir + ": no agent has run with it yet",
			Hint: "check spool_dir; the agent makes it when it runs for the first time",
		}
	}
	if e, ok := errors.AsType[*fleet.Error](err); ok {
		return e
	}
	return &fleet.Error{
		Kind: fleet.KindMissing, Message: "the spool " + dir + " cannot be read",
		Hint: "check spool_dir, and run as the user who runs the agent", Err: err,
	}
}

func printJSON(c *command.Call, v any) error {
	enc := json.NewEncoder(c.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
