// Command vigil-agent watches the media servers beside it and brings what they say to
// the service. Package agent is what it runs; here are only the commands.
package main

import (
	"context"
	"os"

	"vigil/command"
	"vigil/config"
)

func main() {
	os.Exit(program().Main(context.Background(), os.Args[1:], command.OSEnv()))
}

// program is the table of commands.
func program() *command.Program {
	return &command.Program{
		Name:    "vigil-agent",
		Summary: "watches media servers and sends what they say to vigil.",
		Commands: []command.Command{
			{Name: "run", Run: runAgent},
			{Name: "check", Run: check},
			{Name: "spool stats", Run: spoolStats},
			{Name: "spool check", Run: spoolCheck},
			{Name: "spool repair", Run: spoolRepair},
			{Name: "config example", Run: command.ConfigExample(config.ExampleAgent())},
			{Name: "config check", Run: command.ConfigCheck(values, checkHelp)},
			{Name: "config show", Run: command.ConfigShow(values)},
			{Name: "version", Run: command.PrintVersion},
		},
	}
}
