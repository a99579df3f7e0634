package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"vigil/fleet"
)

// Limits of a file.
const (
	maxFileBytes = 1 << 20
	maxSections  = 10_000 // in one list of sections
)

// The environment variables of the two programs begin with these.
const (
	servicePrefix = "VIGIL_"
	agentPrefix   = "VIGIL_AGENT_"
)

// Source is where a configuration comes from.
type Source struct {
	Name    string   // of the file, for messages; empty when there is none
	Data    []byte   // of the file
	Environ []string // "KEY=value"; others than ours are ignored
	Set     []string // "section.key=value", from flags
	Host    string   // name of this machine, used where a name may be left out
}

// ReadFile reads a file into a Source. A file that is not there is an error when
// must is true; otherwise the source has no file and defaults apply.
func ReadFile(path string, must bool) (Source, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && !must {
		return Source{}, nil
	}
	if err != nil {
		return Source{}, &fleet.Error{
			Kind:    fleet.KindMissing,
			Message: "the configuration file " + path + " cannot be read",
			Hint:    "name the right file with -config FILE; `config example` prints one to start from",
			Err:     err,
		}
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return Source{}, fmt.Errorf("read configuration: %w", err)
	}
	if len(data) > maxFileBytes {
		return Source{}, &fleet.Error{
			Kind:    fleet.KindTooLarge,
			Message: fmt.Sprintf("the configuration file %s is larger than %s", path, formatSize(maxFileBytes)),
			Hint:    "check that it is the right file",
		}
	}
	return Source{Name: filepath.Base(path), Data: data}, nil
}

// LoadService reads the configuration of `vigil`. The second result tells where each
// value came from. The error is a *fleet.Error that lists every problem.
func LoadService(src Source) (*Service, *Values, error) {
	c := &Service{}
	l := newLoader(src, servicePrefix)
	l.load(reflect.ValueOf(c).Elem())
	c.complete()
	checkService(c, l)
	return c, l.values, l.result("vigil")
}

// LoadAgent reads the configuration of `vigil-agent`. The second result tells where
// each value came from. The error is a *fleet.Error that lists every problem.
func LoadAgent(src Source) (*Agent, *Values, error) {
	c := &Agent{}
	l := newLoader(src, agentPrefix)
	l.load(reflect.ValueOf(c).Elem())
	if c.Name == "" {
		c.Name = src.Host
		l.values.set("name", quote(c.Name), "name of this machine")
		if err := checkName(c.Name, "._-"); err != nil || c.Name == "" {
			l.add("name", "", "is not given, and the name of this machine cannot stand in; write name = \"...\"")
		}
	}
	for i := range c.Servers {
		// A short interval is enough to shorten a time-out that nobody asked for.
		key := fmt.Sprintf("server[%d].timeout", i)
		if _, origin := l.values.get(key); origin == "default" && c.Servers[i].Timeout > c.Interval {
			c.Servers[i].Timeout = c.Interval
			l.values.set(key, quote(formatDuration(c.Interval)), "default, not longer than interval")
		}
	}
	checkAgent(c, l)
	return c, l.values, l.result("vigil-agent")
}

// loader fills one struct.
type loader struct {
	src      Source
	prefix   string
	lines    map[string]int
	values   *Values
	problems Problems
	leaves   map[string]leaf // keys that flags and variables may set
}

type leaf struct {
	field field
	value reflect.Value
}

func newLoader(src Source, prefix string) *loader {
	return &loader{
		src: src, prefix: prefix, lines: linesOf(string(src.Data)),
		values: &Values{byKey: map[string]int{}}, leaves: map[string]leaf{},
	}
}

// load reads the file, then lets variables and flags override it.
func (l *loader) load(v reflect.Value) {
	var tree map[string]any
	if _, err := toml.NewDecoder(bytes.NewReader(l.src.Data)).Decode(&tree); err != nil {
		p := Problem{Origin: l.src.Name, Text: err.Error()}
		if pe, ok := errors.AsType[toml.ParseError](err); ok {
			p.Origin = fmt.Sprintf("%s:%d", l.src.Name, pe.Position.Line)
			p.Text = "this is not TOML: " + pe.Message
		}
		l.problems = append(l.problems, p)
		tree = nil
	}
	l.section(v, tree, "", "", true)
	l.environment()
	l.flags()
}

// section fills one section from its table; tree is nil when the file has none.
// override is false inside lists, where variables and flags cannot reach.
func (l *loader) section(v reflect.Value, tree map[string]any, path, defaults string, override bool) {
	fields := fieldsOf(v.Type(), defaults)
	l.unknown(tree, fields, path)
	for _, f := range fields {
		key := join(path, f.key)
		value, there := tree[f.key]
		fv := v.Field(f.index)
		switch {
		case f.section:
			table, ok := value.(map[string]any)
			if there && !ok {
				l.add(key, "", fmt.Sprintf("is a section; write [%s] on a line of its own", key))
			}
			l.section(fv, table, key, v.Type().Field(f.index).Tag.Get("defaults"), override)
		case f.list:
			l.list(fv, f, value, there, key)
		default:
			l.leaf(fv, f, value, there, key)
			if override {
				l.leaves[key] = leaf{f, fv}
			}
		}
	}
}

func (l *loader) list(v reflect.Value, f field, value any, there bool, key string) {
	tables, ok := value.([]map[string]any)
	if there && !ok || len(tables) > maxSections {
		l.add(key, "", fmt.Sprintf("is a list of sections; write [[%s]] on a line of its own", key))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(tables), len(tables)))
	for i, table := range tables {
		l.section(v.Index(i), table, fmt.Sprintf("%s[%d]", key, i), "", false)
	}
	if len(tables) == 0 {
		v.SetZero()
	}
}

func (l *loader) leaf(v reflect.Value, f field, value any, there bool, key string) {
	if !f.required {
		if f.fallback != "" {
			if err := f.parse(f.fallback, v); err != nil {
				panic("config: default of " + f.goName + ": " + err.Error())
			}
		}
		l.values.set(key, f.format(v), "default")
	}
	if !there {
		return
	}
	text, err := f.textOf(value)
	if err == nil {
		err = f.parse(text, v)
	}
	if err != nil {
		l.add(key, f.safe(typed(value)), err.Error())
		return
	}
	l.values.set(key, f.format(v), l.where(key))
}

// safe hides a refused address that may carry a password, which people do write.
func (f *field) safe(typed string) string {
	if f.kind == "url" && strings.ContainsRune(typed, '@') {
		return ""
	}
	return typed
}

// typed writes a value as it was typed, near enough for a message.
func typed(value any) string {
	switch v := value.(type) {
	case string:
		if len(v) > 100 {
			v = v[:100] + "..."
		}
		return quote(strings.ToValidUTF8(v, "?"))
	case int64, float64, bool:
		return fmt.Sprint(v)
	}
	return ""
}

func (l *loader) unknown(tree map[string]any, fields []field, path string) {
	known := make([]string, len(fields))
	for i, f := range fields {
		known[i] = f.key
	}
	for key := range tree {
		if !slices.Contains(known, key) {
			l.add(join(path, key), "", "unknown key"+didYouMean(key, known))
		}
	}
}

// environment applies variables. One that begins with the prefix and names no key is
// a problem, because it would silently do nothing.
func (l *loader) environment() {
	keys := map[string]string{}
	var names []string
	for key := range l.leaves {
		name := l.prefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
		keys[name] = key
		names = append(names, name)
	}
	slices.Sort(names)
	for _, pair := range l.src.Environ {
		name, text, ok := strings.Cut(pair, "=")
		if !ok || !strings.HasPrefix(name, l.prefix) || l.prefix == servicePrefix && strings.HasPrefix(name, agentPrefix) {
			continue
		}
		key, known := keys[name]
		if !known {
			l.problems = append(l.problems, Problem{Origin: name, Text: "no key has this variable" + didYouMean(name, names)})
			continue
		}
		l.override(key, text, name)
	}
}

func (l *loader) flags() {
	var known []string
	for key := range l.leaves {
		known = append(known, key)
	}
	slices.Sort(known)
	for _, pair := range l.src.Set {
		key, text, ok := strings.Cut(pair, "=")
		if !ok {
			l.problems = append(l.problems, Problem{Origin: "-set " + pair, Text: "write -set section.key=value"})
			continue
		}
		if _, there := l.leaves[key]; !there {
			l.problems = append(l.problems, Problem{Origin: "-set", Key: key, Text: "unknown key" + didYouMean(key, known)})
			continue
		}
		l.override(key, text, "-set")
	}
}

// override puts text over what the file said. A problem of the file with the same key
// stays: the file is wrong even where it is not used.
func (l *loader) override(key, text, origin string) {
	lf := l.leaves[key]
	if err := lf.field.parse(text, lf.value); err != nil {
		l.problems = append(l.problems, Problem{Origin: origin, Key: key, Value: lf.field.safe(typed(text)), Text: err.Error()})
		return
	}
	l.values.set(key, lf.field.format(lf.value), origin)
}

// where names the line of a key, or of the section around it, or the file.
func (l *loader) where(key string) string {
	for k := key; k != ""; {
		if line, ok := l.lines[k]; ok {
			return fmt.Sprintf("%s:%d", l.src.Name, line)
		}
		i := strings.LastIndexByte(k, '.')
		if i < 0 {
			break
		}
		k = k[:i]
	}
	return l.src.Name
}

// add notes a problem with a key of the file, or with one that no one gave.
func (l *loader) add(key, value, text string) {
	l.problems = append(l.problems, Problem{Origin: l.where(key), Key: key, Value: value, Text: text})
}

// rule notes a problem between keys, unless the key has one already.
func (l *loader) rule(key, text string) {
	for _, p := range l.problems {
		if p.Key == key {
			return
		}
	}
	value, origin := l.values.get(key)
	if origin == "" || origin == "default" {
		origin = l.where(key)
	}
	l.problems = append(l.problems, Problem{Origin: origin, Key: key, Value: value, Text: text})
}

// result orders the problems by where they are and makes them one error.
func (l *loader) result(program string) error {
	slices.SortStableFunc(l.problems, func(a, b Problem) int {
		return compareOrigins(a, b)
	})
	return l.problems.failure(program)
}
