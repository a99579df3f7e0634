package main

import (
	"os"

	"vigil/command"
	"vigil/config"
)

// usualConfig is read when -config is not given.
const usualConfig = "/etc/vigil-agent/agent.toml"

// checkHelp says how far config check goes.
const checkHelp = `It reads the file, the environment and the flags as run does, and asks nobody. To ask
the media servers and the service, too, use check.`

// settings are the flags of every command that reads the configuration.
type settings struct {
	call *command.Call
	file string
	set  command.List
}

func settingsOf(c *command.Call) *settings {
	s := &settings{call: c}
	c.Flags.StringVar(&s.file, "config", usualConfig, "read this `FILE`")
	c.Flags.Var(&s.set, "set", "set one `KEY=VALUE` over file and environment, such as interval=30s; may be repeated")
	return s
}

func (s *settings) load() (*config.Agent, *config.Values, error) {
	src, err := config.ReadFile(s.file, true)
	if err != nil {
		return nil, nil, err
	}
	src.Environ, src.Set = s.call.Environ, s.set
	if src.Host, err = os.Hostname(); err != nil {
		src.Host = "" // the file must have a name, then
	}
	return config.LoadAgent(src)
}

// values reads the configuration for the commands that only show it.
func values(c *command.Call) func() (command.Values, error) {
	s := settingsOf(c)
	return func() (command.Values, error) {
		_, values, err := s.load()
		return values, err
	}
}
