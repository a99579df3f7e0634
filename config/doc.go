// Package config reads the files of the two programs: Service for `vigil`, Agent for
// `vigil-agent`.
//
// The structs are the manual. The doc comment of a field is its text in the example
// file and in the reference, and its tags say the rest:
//
//	toml      the key in the file
//	default   the value when nobody gives one, as it would be typed
//	limit     the smallest and largest value, "1s..5m"
//	one_of    the allowed words, "auto|text|json"
//	kind      what a text must be: size, listen, file, url, name, node, ip, level
//	required  "true" when there is no sensible default
//	example   what the example file shows for a required key
//
// A value comes from the first of these that has it: the flag -set section.key=value,
// the environment variable VIGIL_SECTION_KEY (VIGIL_AGENT_SECTION_KEY for the agent),
// the file, the default. Every mistake in all of them is reported at once.
//
// Secrets are never in the file, only the names of files that hold them. So every
// value here can be shown.
package config
