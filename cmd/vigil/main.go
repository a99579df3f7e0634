// Command vigil is the service: it takes packets of statistics from agents, keeps them
// and shows them. Package node is what it runs; here are only the commands.
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
		Name:    "vigil",
		Summary: "statistics of fleets of streaming media servers: takes packets from agents, keeps them, shows them.",
		Commands: []command.Command{
			{Name: "run", Run: runService},
			{Name: "demo", Run: runDemo},
			{Name: "init", Run: initDataDir},
			{Name: "doctor", Run: doctor},
			{Name: "config example", Run: command.ConfigExample(config.ExampleService())},
			{Name: "config check", Run: command.ConfigCheck(values, checkHelp)},
			{Name: "config show", Run: command.ConfigShow(values)},
			{Name: "password", Run: password},
			{Name: "token add", Run: tokenAdd},
			{Name: "token list", Run: tokenList},
			{Name: "token remove", Run: tokenRemove},
			{Name: "version", Run: command.PrintVersion},
		},
	}
}
