package vigil_test

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// Limits of the code. An exception needs a reason, and stands here.
const (
	maxFileLines     = 800
	maxFunctionLines = 70
)

// longFiles may have more lines.
var longFiles = map[string]string{}

// longFunctions may have more lines: "package.Name" and why.
var longFunctions = map[string]string{}

// generated directories are made by other programs.
var generated = []string{"wire/wirepb"}

// directNetwork lists who may make connections without package failover, and why.
var directNetwork = map[string]string{
	"failover":  "it is the one that knows about addresses",
	"lifecycle": "one datagram to the service manager",
	"demo":      "everything is on loopback",
	"media":     "asks the media server beside it, which has one address",
	"lab":       "measures with connections of its own",
	"bench":     "measures with connections of its own",
}

func TestFilesAndFunctionsAreShort(t *testing.T) {
	t.Parallel()
	for _, p := range repo(t).packages {
		if slices.Contains(generated, p.path) {
			continue
		}
		for _, f := range p.files {
			if lines := f.lines(); lines > maxFileLines && longFiles[f.name] == "" {
				t.Errorf("%s has %d lines; more than %d need a reason in repo_test.go", f.name, lines, maxFileLines)
			}
			if f.test {
				continue
			}
			for _, decl := range f.syntax.Decls {
				fn, ok := decl.(*ast.FuncDecl)
				if !ok {
					continue
				}
				name := p.path + "." + fn.Name.Name
				if lines := f.line(fn.End()) - f.line(fn.Pos()) + 1; lines > maxFunctionLines && longFunctions[name] == "" {
					t.Errorf("%s: %s has %d lines; more than %d need a reason in repo_test.go", f.at(fn.Pos()), name, lines, maxFunctionLines)
				}
			}
		}
	}
}

func TestExceptionsAreStillNeeded(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for _, p := range repo(t).packages {
		for _, f := range p.files {
			seen[f.name] = f.lines()
			for _, decl := range f.syntax.Decls {
				if fn, ok := decl.(*ast.FuncDecl); ok {
					name := p.path + "." + fn.Name.Name
					seen[name] = max(seen[name], f.line(fn.End())-f.line(fn.Pos())+1)
				}
			}
		}
	}
	for name := range longFiles {
		if seen[name] <= maxFileLines {
			t.Errorf("%s has %d lines and needs no exception", name, seen[name])
		}
	}
	for name := range longFunctions {
		if seen[name] <= maxFunctionLines {
			t.Errorf("%s has %d lines and needs no exception", name, seen[name])
		}
	}
}

func TestPackagesHaveComments(t *testing.T) {
	t.Parallel()
	for _, p := range repo(t).packages {
		found, code := false, false
		for _, f := range p.files {
			code = code || !f.test
			if !f.test && f.syntax.Doc != nil && len(f.syntax.Doc.Text()) > 40 {
				found = true
			}
		}
		if code && !found && !slices.Contains(generated, p.path) {
			t.Errorf("package %s has no package comment", p.path)
		}
	}
}

// TestNoStateInPackages keeps it possible to run many nodes in one process: package
// variables are errors, tables and compiled things, and nobody writes to them.
func TestNoStateInPackages(t *testing.T) {
	t.Parallel()
	for _, p := range repo(t).packages {
		if slices.Contains(generated, p.path) {
			continue
		}
		vars := map[string]bool{}
		for _, f := range p.files {
			if !f.test {
				collectVars(t, f, vars)
			}
		}
		for _, f := range p.files {
			if !f.test {
				checkWrites(t, f, vars)
			}
		}
	}
}

func collectVars(t *testing.T, f *goFile, vars map[string]bool) {
	t.Helper()
	for _, decl := range f.syntax.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Name.Name == "init" && d.Recv == nil {
				t.Errorf("%s: func init hides what happens at the start; call it from a constructor", f.at(d.Pos()))
			}
		case *ast.GenDecl:
			if d.Tok != token.VAR {
				continue
			}
			embedded := d.Doc != nil && strings.Contains(commentText(d.Doc), "//go:embed")
			for _, spec := range d.Specs {
				v := spec.(*ast.ValueSpec)
				for i, name := range v.Names {
					vars[name.Name] = true
					if name.Name != "_" && !embedded && (i >= len(v.Values) || !isConstantLike(v.Values[i])) {
						t.Errorf("%s: package variable %s may change; give it to a constructor", f.at(name.Pos()), name.Name)
					}
				}
			}
		}
	}
}

func commentText(g *ast.CommentGroup) string {
	var b strings.Builder
	for _, c := range g.List {
		b.WriteString(c.Text + "\n")
	}
	return b.String()
}

// isConstantLike accepts tables and what is computed once from constants.
func isConstantLike(e ast.Expr) bool {
	switch v := e.(type) {
	case *ast.CompositeLit:
		name := exprName(v.Type)
		return !strings.HasPrefix(name, "sync.") && !strings.HasPrefix(name, "atomic.")
	case *ast.FuncLit:
		return true
	case *ast.CallExpr:
		name := exprName(v.Fun)
		return slices.Contains([]string{
			"errors.New", "fmt.Errorf", "regexp.MustCompile", "strings.NewReplacer", "netip.MustParsePrefix",
			"netip.MustParseAddr", "reflect.TypeFor", "crc32.MakeTable", "template.Must", "func", "xml.Name",
			"proto.Bool", "time.Date", "big.NewInt", "base64.RawURLEncoding.Strict",
		}, name) || strings.HasPrefix(name, "make")
	case *ast.UnaryExpr:
		return v.Op == token.AND && isConstantLike(v.X)
	case *ast.SelectorExpr:
		return true // a constant or a table of another package
	}
	return false
}

func checkWrites(t *testing.T, f *goFile, vars map[string]bool) {
	t.Helper()
	written := func(e ast.Expr) {
		for {
			switch v := e.(type) {
			case *ast.IndexExpr:
				e = v.X
				continue
			case *ast.SelectorExpr:
				e = v.X
				continue
			case *ast.StarExpr:
				e = v.X
				continue
			case *ast.ParenExpr:
				e = v.X
				continue
			case *ast.Ident:
				if vars[v.Name] && v.Name != "_" && f.isPackageLevel(v) {
					t.Errorf("%s: writes to the package variable %s", f.at(v.Pos()), v.Name)
				}
			}
			return
		}
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch s := n.(type) {
		case *ast.AssignStmt:
			if s.Tok != token.DEFINE {
				for _, lhs := range s.Lhs {
					written(lhs)
				}
			}
		case *ast.IncDecStmt:
			written(s.X)
		}
		return true
	})
}

// TestConnectionsGoThroughFailover keeps clients that know one address, or wait for
// ever, out of the code.
func TestConnectionsGoThroughFailover(t *testing.T) {
	t.Parallel()
	never := []string{
		"http.DefaultClient", "http.DefaultTransport", "http.DefaultServeMux", "http.Get", "http.Post", "http.Head", "http.PostForm",
		"http.Handle", "http.HandleFunc", "http.ListenAndServe", "http.ListenAndServeTLS",
	}
	dialing := []string{"net.Dial", "net.DialTimeout", "net.DialTCP", "net.DialUDP", "net.DialUnix", "net.Dialer", "http.Transport", "tls.Dial"}
	for _, p := range repo(t).packages {
		_, isSupport := support[p.path]
		for _, f := range p.files {
			if f.test || isSupport {
				continue
			}
			for _, sel := range f.selectors {
				if slices.Contains(never, sel.name) {
					t.Errorf("%s: %s has no time-outs and belongs to everybody", f.at(sel.pos), sel.name)
				}
				if slices.Contains(dialing, sel.name) && directNetwork[p.path] == "" {
					t.Errorf("%s: %s; connections are made by package failover, exceptions stand in repo_test.go", f.at(sel.pos), sel.name)
				}
			}
		}
	}
}

func TestTestsAreNotSkipped(t *testing.T) {
	t.Parallel()
	for _, p := range repo(t).packages {
		for _, f := range p.files {
			for _, call := range f.calls {
				receiver, method, _ := strings.Cut(call.name, ".")
				if slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, method) && slices.Contains([]string{"t", "tb", "b", "f"}, receiver) {
					t.Errorf("%s: a test that skips is a test that nobody runs; fail and say what to install", f.at(call.pos))
				}
			}
		}
	}
}

// foreignLogs pass on lines that another program wrote.
var foreignLogs = map[string]string{
	"bus/log.go": "lines of the NATS server",
}

// TestLogLines keeps messages constant and lower-case and keys in snake case, so that
// a search for them finds all of them.
func TestLogLines(t *testing.T) {
	t.Parallel()
	levels := []string{"Debug", "Info", "Warn", "Error"}
	for _, p := range repo(t).packages {
		for _, f := range p.files {
			if f.test || foreignLogs[f.name] != "" {
				continue
			}
			ast.Inspect(f.syntax, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				sel, ok := call.Fun.(*ast.SelectorExpr)
				if ok && slices.Contains(levels, sel.Sel.Name) && isLogger(exprName(sel.X)) {
					checkLogLine(t, f, call)
				}
				return true
			})
		}
	}
}

func isLogger(name string) bool {
	last := strings.ToLower(name[strings.LastIndexByte(name, '.')+1:])
	return last == "log" || last == "logger"
}

func checkLogLine(t *testing.T, f *goFile, call *ast.CallExpr) {
	t.Helper()
	if len(call.Args) == 0 {
		return
	}
	message, ok := stringOf(call.Args[0])
	if !ok {
		t.Errorf("%s: the message of a log line is a constant; facts are attributes", f.at(call.Pos()))
		return
	}
	if message == "" || message[0] >= 'A' && message[0] <= 'Z' && !isAcronym(message) || strings.HasSuffix(message, ".") {
		t.Errorf("%s: the log message %q begins in lower case and has no full stop", f.at(call.Pos()), message)
	}
	for i := 1; i < len(call.Args); i += 2 {
		key, ok := stringOf(call.Args[i])
		if !ok {
			return // slog.Attr or a spread
		}
		if strings.ContainsFunc(key, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') && (r < '0' || r > '9') }) {
			t.Errorf("%s: the log key %q is not snake_case", f.at(call.Pos()), key)
		}
		if key == "err" {
			t.Errorf("%s: the log key of an error is error everywhere, so that one search finds all", f.at(call.Pos()))
		}
	}
}

func isAcronym(message string) bool {
	return len(message) > 1 && message[1] >= 'A' && message[1] <= 'Z'
}
