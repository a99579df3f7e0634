package vigil_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// The tests of this package read the source of the whole repository, once.

type repository struct {
	packages []*goPackage
	markdown []string // names of all Markdown files
}

type goPackage struct {
	path  string // inside the module; "." is the root
	files []*goFile
}

type goFile struct {
	name      string
	test      bool
	syntax    *ast.File
	fset      *token.FileSet
	imports   []string
	calls     []place // "pkg.Func" or "receiver.Method"
	selectors []place // every "pkg.Name" of an imported package
	free      map[*ast.Ident]bool
}

type place struct {
	name string
	pos  token.Pos
}

var read = sync.OnceValues(readRepository)

func repo(t *testing.T) *repository {
	t.Helper()
	r, err := read()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func readRepository() (*repository, error) {
	r := &repository{}
	byPath := map[string]*goPackage{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			skip := name != "." && strings.HasPrefix(d.Name(), ".") || slices.Contains([]string{"testdata", "bin", "tmp"}, d.Name())
			if skip {
				return filepath.SkipDir
			}
			return nil
		}
		switch filepath.Ext(name) {
		case ".md":
			r.markdown = append(r.markdown, name)
		case ".go":
			f, err := readGo(name)
			if err != nil {
				return err
			}
			dir := filepath.ToSlash(filepath.Dir(name))
			if byPath[dir] == nil {
				byPath[dir] = &goPackage{path: dir}
				r.packages = append(r.packages, byPath[dir])
			}
			byPath[dir].files = append(byPath[dir].files, f)
		}
		return nil
	})
	return r, err
}

func readGo(name string) (*goFile, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	f := &goFile{name: filepath.ToSlash(name), test: strings.HasSuffix(name, "_test.go"), fset: token.NewFileSet(), free: map[*ast.Ident]bool{}}
	if f.syntax, err = parser.ParseFile(f.fset, name, data, parser.ParseComments); err != nil {
		return nil, err
	}
	imported := map[string]bool{}
	for _, imp := range f.syntax.Imports {
		path, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			return nil, err
		}
		f.imports = append(f.imports, path)
		short := path[strings.LastIndexByte(path, '/')+1:]
		if imp.Name != nil {
			short = imp.Name.Name
		}
		imported[short] = true
	}
	for _, ident := range f.syntax.Unresolved {
		f.free[ident] = true
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch v := n.(type) {
		case *ast.CallExpr:
			f.calls = append(f.calls, place{exprName(v.Fun), v.Pos()})
		case *ast.SelectorExpr:
			if x, ok := v.X.(*ast.Ident); ok && imported[x.Name] && f.free[x] {
				f.selectors = append(f.selectors, place{x.Name + "." + v.Sel.Name, v.Pos()})
			}
		}
		return true
	})
	return f, nil
}

func (f *goFile) line(p token.Pos) int  { return f.fset.Position(p).Line }
func (f *goFile) at(p token.Pos) string { return f.name + ":" + strconv.Itoa(f.line(p)) }
func (f *goFile) lines() int            { return f.fset.File(f.syntax.Pos()).LineCount() }

// isPackageLevel reports whether an identifier names something of the package: it is
// declared in another file, or at the top of this one.
func (f *goFile) isPackageLevel(id *ast.Ident) bool {
	if f.free[id] {
		return true
	}
	return id.Obj != nil && f.syntax.Scope.Lookup(id.Name) == id.Obj
}

// exprName writes names and selectors, "a.b.c", and is empty for anything else.
func exprName(e ast.Expr) string {
	switch v := e.(type) {
	case *ast.Ident:
		return v.Name
	case *ast.SelectorExpr:
		if left := exprName(v.X); left != "" {
			return left + "." + v.Sel.Name
		}
		return "." + v.Sel.Name
	case *ast.IndexExpr: // a generic function with its type
		return exprName(v.X)
	case *ast.StarExpr:
		return exprName(v.X)
	}
	return ""
}

func stringOf(e ast.Expr) (string, bool) {
	switch v := e.(type) {
	case *ast.BasicLit:
		if v.Kind == token.STRING {
			s, err := strconv.Unquote(v.Value)
			return s, err == nil
		}
	case *ast.BinaryExpr:
		left, ok1 := stringOf(v.X)
		right, ok2 := stringOf(v.Y)
		return left + right, ok1 && ok2
	}
	return "", false
}
