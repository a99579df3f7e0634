package command

import (
	"fmt"
	"io"
)

// Values are all values of a configuration, with where each came from.
type Values interface {
	Show(w io.Writer) error
}

// Loader defines the flags that say where the configuration is, and returns what reads
// it once the flags are parsed.
type Loader func(c *Call) func() (Values, error)

// ConfigExample returns the command that prints an example file.
func ConfigExample(text string) func(*Call) error {
	return func(c *Call) error {
		c.Help = `print a configuration file with every key

The file shows the default of every key and says what it means.`
		if err := c.ParseNone(); err != nil {
			return err
		}
		_, err := io.WriteString(c.Stdout, text)
		return err
	}
}

// ConfigCheck returns the command that reads the configuration and says what is wrong
// with it. what tells how far it goes.
func ConfigCheck(loader Loader, what string) func(*Call) error {
	return func(c *Call) error {
		c.Params = "[flags]"
		c.Help = "say everything that is wrong with the configuration\n\n" + what
		load := loader(c)
		if err := c.ParseNone(); err != nil {
			return err
		}
		if _, err := load(); err != nil {
			return err
		}
		_, err := fmt.Fprintln(c.Stdout, "the configuration is good")
		return err
	}
}

// ConfigShow returns the command that prints every value.
func ConfigShow(loader Loader) func(*Call) error {
	return func(c *Call) error {
		c.Params = "[flags]"
		c.Help = `print every value and where it came from

The output is a configuration file itself. It holds no secrets, only the names of files
that hold them.`
		load := loader(c)
		if err := c.ParseNone(); err != nil {
			return err
		}
		values, err := load()
		if err != nil {
			return err
		}
		return values.Show(c.Stdout)
	}
}
