package config

import _ "embed" // the example files

//go:embed example_service.toml
var exampleService string

//go:embed example_agent.toml
var exampleAgent string

// ExampleService returns a file for `vigil` that shows every key.
func ExampleService() string { return exampleService }

// ExampleAgent returns a file for `vigil-agent` that shows every key.
func ExampleAgent() string { return exampleAgent }
