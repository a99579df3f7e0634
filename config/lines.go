package config

import (
	"fmt"
	"strings"
)

// linesOf finds the line of every key of a TOML text that was read without an error.
// The TOML reader does not tell lines, so this looks at the text itself. It knows what
// people write in this file: sections, lists of sections, and keys at the beginning of
// a line. A key that it does not find has no line, which costs a line number in a
// message and nothing else.
//
// Keys are written as in problems: "ingest.listen", "server[0].url".
func linesOf(text string) map[string]int {
	lines := map[string]int{}
	count := map[string]int{}
	section := ""
	open := "" // the end mark of a text that runs over several lines
	for i, line := range strings.Split(text, "\n") {
		if open != "" {
			if strings.Contains(line, open) {
				open = ""
			}
			continue
		}
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "[["):
			name, _, _ := strings.Cut(line[2:], "]]")
			name = cleanKey(name)
			section = fmt.Sprintf("%s[%d]", name, count[name])
			count[name]++
			note(lines, section, i+1)
		case strings.HasPrefix(line, "["):
			name, _, _ := strings.Cut(line[1:], "]")
			section = cleanKey(name)
			note(lines, section, i+1)
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok || strings.HasPrefix(line, "#") {
				continue
			}
			note(lines, join(section, cleanKey(key)), i+1)
			for _, mark := range []string{`"""`, "'''"} {
				if strings.Count(value, mark) == 1 {
					open = mark
				}
			}
		}
	}
	return lines
}

func note(lines map[string]int, key string, line int) {
	if _, there := lines[key]; !there {
		lines[key] = line
	}
}

func cleanKey(key string) string {
	parts := strings.Split(key, ".")
	for i, part := range parts {
		parts[i] = strings.Trim(strings.TrimSpace(part), `"'`)
	}
	return strings.Join(parts, ".")
}

func join(section, key string) string {
	if section == "" {
		return key
	}
	return section + "." + key
}
