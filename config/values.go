package config

import (
	"fmt"
	"io"
	"strings"
)

// Values is every value of a configuration with its origin, in the order of the
// reference.
type Values struct {
	list  []Value
	byKey map[string]int
}

// Value is one value and where it came from.
type Value struct {
	Key    string // "ingest.listen", "server[0].url"
	TOML   string // as it is typed in the file
	Origin string // "vigil.toml:12", "VIGIL_INGEST_LISTEN", "-set", "default"
}

func (vs *Values) set(key, text, origin string) {
	if i, ok := vs.byKey[key]; ok {
		vs.list[i].TOML, vs.list[i].Origin = text, origin
		return
	}
	vs.byKey[key] = len(vs.list)
	vs.list = append(vs.list, Value{key, text, origin})
}

func (vs *Values) get(key string) (text, origin string) {
	if i, ok := vs.byKey[key]; ok {
		return vs.list[i].TOML, vs.list[i].Origin
	}
	return "", ""
}

// Show writes the values as a TOML file, each with its origin as a comment. Reading
// the result back gives the same configuration.
func (vs *Values) Show(w io.Writer) error {
	sections := []string{""}
	byName := map[string][]Value{}
	for _, v := range vs.list {
		name, key := "", v.Key
		if i := strings.LastIndexByte(v.Key, '.'); i >= 0 {
			name, key = v.Key[:i], v.Key[i+1:]
		}
		if _, there := byName[name]; !there && name != "" {
			sections = append(sections, name)
		}
		byName[name] = append(byName[name], Value{key, v.TOML, v.Origin})
	}
	var b strings.Builder
	for i, name := range sections {
		if i > 0 {
			b.WriteByte('\n')
		}
		if list, _, ok := strings.Cut(name, "["); ok {
			fmt.Fprintf(&b, "[[%s]]\n", list)
		} else if name != "" {
			fmt.Fprintf(&b, "[%s]\n", name)
		}
		for _, v := range byName[name] {
			fmt.Fprintf(&b, "%-40s # %s\n", v.Key+" = "+v.TOML, v.Origin)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
