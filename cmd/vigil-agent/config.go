package main

import (
	"fmt"
	"io"
	"os"

	"vigil/command"
	"vigil/config"
)

// usualConfig is read when -config is not given.
const usualConfig = "/etc/vigil-agent/agent.toml"

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

func configExample(c *command.Call) error {
	c.Help = `print a configuration file with every key

The file shows the default of every key and says what it means.`
	if err := c.ParseNone(); err != nil {
		return err
	}
	_, err := io.WriteString(c.Stdout, config.ExampleAgent())
	return err
}

func configCheck(c *command.Call) error {
	c.Params = "[flags]"
	c.Help = `say everything that is wrong with the configuration

It reads the file, the environment and the flags as run does, and asks nobody. To ask
the media servers and the service, too, use check.`
	s := settingsOf(c)
	if err := c.ParseNone(); err != nil {
		return err
	}
	if _, _, err := s.load(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(c.Stdout, "the configuration is good")
	return err
}

func configShow(c *command.Call) error {
	c.Params = "[flags]"
	c.Help = `print every value and where it came from

The output is a configuration file itself. It holds no secrets, only the names of files
that hold them.`
	s := settingsOf(c)
	if err := c.ParseNone(); err != nil {
		return err
	}
	_, values, err := s.load()
	if err != nil {
		return err
	}
	return values.Show(c.Stdout)
}

func version(c *command.Call) error {
	c.Help = "print the version and the commit it was built from"
	if err := c.ParseNone(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(c.Stdout, "vigil-agent", command.Version())
	return err
}
