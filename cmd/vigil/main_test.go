package main

import (
	"flag"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"vigil/command/commandtest"
)

var update = flag.Bool("update", false, "write the reference page and the scripts' expectations anew")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"vigil": main})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	commandtest.Scripts(t, *update)
}

func TestReference(t *testing.T) {
	t.Parallel()
	commandtest.Reference(t, program(), "../../docs/reference/commands.md", *update)
}
