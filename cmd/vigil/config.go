package main

import (
	"fmt"
	"io"
	"os"

	"vigil/command"
	"vigil/config"
	"vigil/fleet"
)

// usualConfig is read when -config is not given.
const usualConfig = "/etc/vigil/vigil.toml"

// checkHelp says how far config check goes.
const checkHelp = `It reads the file, the environment and the flags as run does, and starts nothing.`

// settings are the flags of every command that reads the configuration.
type settings struct {
	call *command.Call
	file string
	node string
	set  command.List
}

func settingsOf(c *command.Call) *settings {
	s := &settings{call: c}
	c.Flags.StringVar(&s.file, "config", usualConfig, "read this `FILE`; at its usual place it may be missing")
	c.Flags.StringVar(&s.node, "node", "", "be the node with this `NAME`; may be left out when there is only one")
	c.Flags.Var(&s.set, "set", "set one `KEY=VALUE` over file and environment, such as panel.listen=:8480; may be repeated")
	return s
}

func (s *settings) load() (*config.Service, *config.Values, error) {
	src, err := config.ReadFile(s.file, s.file != usualConfig)
	if err != nil {
		return nil, nil, err
	}
	src.Environ, src.Set = s.call.Environ, s.set
	return config.LoadService(src)
}

// self loads the configuration and finds the node that this is.
func (s *settings) self() (*config.Service, config.Node, error) {
	cfg, _, err := s.load()
	if err != nil {
		return nil, config.Node{}, err
	}
	self, ok := cfg.Node(s.node)
	if !ok {
		return nil, config.Node{}, &fleet.Error{
			Kind:    fleet.KindInvalid,
			Message: fmt.Sprintf("the configuration has no node %q", s.node),
			Hint:    "name one of its [[node]] sections with -node",
		}
	}
	return cfg, self, nil
}

// values reads the configuration for the commands that only show it.
func values(c *command.Call) func() (command.Values, error) {
	s := settingsOf(c)
	return func() (command.Values, error) {
		_, values, err := s.load()
		return values, err
	}
}

// readSecret reads a secret from a file; "-" means standard input.
func readSecret(c *command.Call, name string) (string, error) {
	var data []byte
	var err error
	if name == "-" {
		data, err = io.ReadAll(io.LimitReader(c.Stdin, maxSecretBytes))
	} else {
		data, err = os.ReadFile(name)
	}
	if err != nil {
		return "", &fleet.Error{
			Kind: fleet.KindMissing, Message: "the file " + name + " cannot be read",
			Hint: "check its name and who may read it", Err: err,
		}
	}
	return firstLine(data), nil
}
