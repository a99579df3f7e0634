package config

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"
	"testing"
)

// The example files and the reference are made from the doc comments here. The
// comments are read from the source only now; the results are committed.

func TestGeneratedPages(t *testing.T) {
	t.Parallel()
	docs := readDocs(t)
	golden(t, "example_service.toml", []byte(docs.example(reflect.TypeFor[Service]())))
	golden(t, "example_agent.toml", []byte(docs.example(reflect.TypeFor[Agent]())))
	golden(t, "../docs/reference/config.md", []byte(docs.reference()))
}

func TestEveryKeyIsDocumented(t *testing.T) {
	t.Parallel()
	docs := readDocs(t)
	var visit func(typ reflect.Type)
	visit = func(typ reflect.Type) {
		for _, f := range fieldsOf(typ, "") {
			if f.section || f.list {
				visit(f.typ)
				continue
			}
			if docs[typ.Name()+"."+f.goName] == "" {
				t.Errorf("%s.%s has no doc comment, and the comment is the manual", typ.Name(), f.goName)
			}
			if f.required == (f.example == "") {
				t.Errorf("%s.%s: a required key needs an example, and only such a key", typ.Name(), f.goName)
			}
		}
	}
	visit(reflect.TypeFor[Service]())
	visit(reflect.TypeFor[Agent]())
}

func TestExampleFilesAreValid(t *testing.T) {
	t.Parallel()
	src, err := ReadFile("example_service.toml", true)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadService(src); err != nil {
		t.Errorf("example_service.toml: %v", err)
	}
	if src, err = ReadFile("example_agent.toml", true); err != nil {
		t.Fatal(err)
	}
	src.Host = "h"
	if _, _, err := LoadAgent(src); err != nil {
		t.Errorf("example_agent.toml: %v", err)
	}
}

// fieldDocs holds the doc comment of every type ("Ingest") and field ("Ingest.Listen").
type fieldDocs map[string]string

func readDocs(t *testing.T) fieldDocs {
	t.Helper()
	docs := fieldDocs{}
	for _, file := range []string{"service.go", "agent.go"} {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range parsed.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.TYPE {
				continue
			}
			spec := gen.Specs[0].(*ast.TypeSpec)
			docs[spec.Name.Name] = gen.Doc.Text()
			for _, f := range spec.Type.(*ast.StructType).Fields.List {
				docs[spec.Name.Name+"."+f.Names[0].Name] = f.Doc.Text()
			}
		}
	}
	return docs
}

// text returns the comment of a field as one paragraph that does not begin with the
// name of the field: "Listen is the address" becomes "The address".
func (d fieldDocs) text(typ reflect.Type, f field) string {
	text := strings.Join(strings.Fields(d[typ.Name()+"."+f.goName]), " ")
	rest, ok := strings.CutPrefix(text, f.goName+" ")
	if !ok {
		return text
	}
	for _, verb := range []string{"is ", "are "} {
		if after, ok := strings.CutPrefix(rest, verb); ok {
			rest = after
			break
		}
	}
	return strings.ToUpper(rest[:1]) + rest[1:]
}

func (d fieldDocs) sectionText(name string) string {
	text := strings.Join(strings.Fields(d[name]), " ")
	rest, ok := strings.CutPrefix(text, name+" ")
	if !ok {
		return text
	}
	rest = strings.TrimPrefix(rest, "is ")
	return strings.ToUpper(rest[:1]) + rest[1:]
}

func (d fieldDocs) example(typ reflect.Type) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n#\n# Lines that begin with # show the defaults. Remove the # to change one.\n",
		map[string]string{"Service": "The configuration of `vigil run`.", "Agent": "The configuration of `vigil-agent run`."}[typ.Name()])
	d.exampleSection(&b, typ, "", "")
	return b.String()
}

func (d fieldDocs) exampleSection(b *strings.Builder, typ reflect.Type, path, defaults string) {
	fields := fieldsOf(typ, defaults)
	for _, f := range fields {
		if f.section || f.list {
			continue
		}
		b.WriteByte('\n')
		wrap(b, "# ", d.text(typ, f)+" "+f.facts(false))
		v := reflect.New(f.typ).Elem()
		switch {
		case f.required:
			fmt.Fprintf(b, "%s = %s\n", f.key, quote(f.example))
		default:
			if f.fallback != "" {
				if err := f.parse(f.fallback, v); err != nil {
					panic(err)
				}
			}
			fmt.Fprintf(b, "#%s = %s\n", f.key, f.format(v))
		}
	}
	for _, f := range fields {
		key := join(path, f.key)
		switch {
		case f.section:
			b.WriteByte('\n')
			wrap(b, "# ", d.sectionText(f.typ.Name()))
			fmt.Fprintf(b, "[%s]\n", key)
			d.exampleSection(b, f.typ, key, typ.Field(f.index).Tag.Get("defaults"))
		case f.list:
			b.WriteByte('\n')
			wrap(b, "# ", d.text(typ, f))
			fmt.Fprintf(b, "[[%s]]\n", key)
			d.exampleSection(b, f.typ, key, "")
		}
	}
}

// facts says what a value must be.
func (f *field) facts(markdown bool) string {
	code := ""
	if markdown {
		code = "`"
	}
	var out []string
	if low, high, ok := strings.Cut(f.limit, ".."); ok {
		out = append(out, fmt.Sprintf("From %s%s%s to %s%s%s.", code, low, code, code, high, code))
	}
	if len(f.oneOf) > 0 {
		out = append(out, fmt.Sprintf("Allowed: %s%s%s.", code, strings.Join(f.oneOf, code+", "+code), code))
	}
	return strings.Join(out, " ")
}

func wrap(b *strings.Builder, prefix, text string) {
	line := prefix
	for i, word := range strings.Fields(text) {
		if i > 0 && len(line)+len(word) >= 84 {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = prefix
		}
		line += word + " "
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}

func (d fieldDocs) reference() string {
	var b strings.Builder
	b.WriteString(`# Configuration

<!-- Made from the doc comments in config/ by: make docs. Do not edit. -->

Both programs read one TOML file each. Unknown keys and bad values are errors, and all of
them are reported at once, with the line, what is allowed, and a guess at what was meant.
` + "`vigil config check`" + ` reads a file and says what is wrong. ` + "`vigil config show`" + ` prints every value
and where it came from.

A value comes from the first of these that has it:

1. the flag ` + "`-set section.key=value`" + `, which may be repeated;
2. the environment variable ` + "`VIGIL_SECTION_KEY`" + `, for the agent ` + "`VIGIL_AGENT_SECTION_KEY`" + `;
3. the file;
4. the default.

Keys in lists of sections, ` + "`[[node]]`" + ` and ` + "`[[server]]`" + `, can only be set in the file.
Durations are written as ` + "`200ms`, `10s`, `5m`, `2h`, `30d`" + `; sizes as ` + "`64KiB`, `512MiB`, `2GiB`" + `, or as
a number of bytes. Paths are absolute. Secrets are never in the file: a key that ends in ` + "`_file`" + `
names a file that holds one. A change needs a restart.
`)
	b.WriteString("\n## The service: vigil.toml\n\n`vigil run` reads `/etc/vigil/vigil.toml`, or the file given with `-config`. When the file at the\nusual place does not exist, all defaults apply. `vigil config example` prints a file with every key.\n")
	d.referenceSection(&b, reflect.TypeFor[Service](), "", "", servicePrefix)
	b.WriteString("\n## The agent: agent.toml\n\n`vigil-agent run` reads `/etc/vigil-agent/agent.toml`, or the file given with `-config`.\n`vigil-agent config example` prints a file with every key.\n")
	d.referenceSection(&b, reflect.TypeFor[Agent](), "", "", agentPrefix)
	return b.String()
}

func (d fieldDocs) referenceSection(b *strings.Builder, typ reflect.Type, path, defaults, prefix string) {
	b.WriteString("\n| Key | Default | Meaning |\n| --- | --- | --- |\n")
	fields := fieldsOf(typ, defaults)
	for _, f := range fields {
		if f.section || f.list {
			continue
		}
		value := "required"
		if !f.required {
			v := reflect.New(f.typ).Elem()
			if f.fallback != "" {
				if err := f.parse(f.fallback, v); err != nil {
					panic(err)
				}
			}
			value = "`" + f.format(v) + "`"
		}
		meaning := strings.TrimSpace(d.text(typ, f) + " " + f.facts(true))
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", f.key, value, strings.ReplaceAll(meaning, "|", `\|`))
	}
	for _, f := range fields {
		key := join(path, f.key)
		switch {
		case f.section:
			fmt.Fprintf(b, "\n### [%s]\n\n%s\n", key, d.sectionText(f.typ.Name()))
			d.referenceSection(b, f.typ, key, typ.Field(f.index).Tag.Get("defaults"), prefix)
		case f.list:
			fmt.Fprintf(b, "\n### [[%s]]\n\n%s\n", key, d.text(typ, f))
			d.referenceSection(b, f.typ, key, "", prefix)
		}
	}
}
