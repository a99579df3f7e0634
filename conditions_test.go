package vigil_test

import (
	"go/ast"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const conditionsName = "docs/reference/conditions.md"

// conditionHeading is the heading of one or several codes on the page.
var conditionHeading = regexp.MustCompile("(?m)^### (`[^\n]+)$")

// TestConditionsPage keeps the page of conditions and the code in step: whoever is woken
// by a code finds it there, with its title.
func TestConditionsPage(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(conditionsName)
	if err != nil {
		t.Fatal(err)
	}
	page := conditionsOnPage(string(data))
	inCode := map[string]bool{}
	for _, c := range findConditions(t) {
		for _, code := range c.codes {
			inCode[code] = true
			text, there := page[code]
			if !there {
				t.Errorf("%s: %s does not have the condition %s: write what it means and what to do", c.at, conditionsName, code)
				continue
			}
			if c.title != "" && !strings.Contains(text, c.title) {
				t.Errorf("%s: %s does not have the title %q at %s", c.at, conditionsName, c.title, code)
			}
		}
	}
	for code := range page {
		if !inCode[code] {
			t.Errorf("%s has %s, and nothing sets such a condition", conditionsName, code)
		}
	}
}

// conditionsOnPage returns the text below every heading, by code.
func conditionsOnPage(page string) map[string]string {
	texts := map[string]string{}
	at := conditionHeading.FindAllStringSubmatchIndex(page, -1)
	for i, m := range at {
		end := len(page)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		for _, code := range codePattern.FindAllString(page[m[2]:m[3]], -1) {
			texts[strings.Trim(code, "`")] = page[m[1]:end]
		}
	}
	return texts
}

type condition struct {
	codes []string
	title string // empty when it is put together
	at    string
}

// findConditions returns every health.Condition that the programs set.
func findConditions(t *testing.T) []condition {
	t.Helper()
	var found []condition
	for _, p := range repo(t).packages {
		consts := constsOf(p)
		for _, f := range p.files {
			if f.test || p.path == "lab" {
				continue
			}
			ast.Inspect(f.syntax, func(n ast.Node) bool {
				lit, ok := n.(*ast.CompositeLit)
				if !ok || lit.Type == nil || exprName(lit.Type) != "health.Condition" || len(lit.Elts) == 0 {
					return true
				}
				c := condition{at: f.at(lit.Pos())}
				for _, elt := range lit.Elts {
					field, ok := elt.(*ast.KeyValueExpr)
					if !ok {
						continue
					}
					switch exprName(field.Key) {
					case "Code":
						c.codes = codesOf(field.Value, consts)
					case "Title":
						if title, ok := stringOf(field.Value); ok {
							c.title = title
						}
					}
				}
				if len(c.codes) == 0 {
					t.Errorf("%s: the code of a condition is a constant, or one beside a name, so that the page can have it", c.at)
				}
				found = append(found, c)
				return true
			})
		}
	}
	return found
}

// codesOf returns the codes that an expression may become. What is not constant stands
// for one of the listeners in front of a constant, and for any name behind it.
func codesOf(e ast.Expr, consts map[string]string) []string {
	if sum, ok := e.(*ast.BinaryExpr); ok && sum.Op == token.ADD {
		left, right := codesOf(sum.X, consts), codesOf(sum.Y, consts)
		switch {
		case len(left) == 0 && len(right) == 1:
			return []string{"ingest" + right[0], "panel" + right[0]}
		case len(left) == 1 && len(right) == 0:
			return []string{left[0] + "NAME"}
		}
		return nil
	}
	if s, ok := stringOf(e); ok {
		return []string{s}
	}
	if s, ok := consts[exprName(e)]; ok {
		return []string{s}
	}
	return nil
}

// constsOf returns the constant texts of a package.
func constsOf(p *goPackage) map[string]string {
	consts := map[string]string{}
	for _, f := range p.files {
		for _, decl := range f.syntax.Decls {
			group, ok := decl.(*ast.GenDecl)
			if !ok || group.Tok != token.CONST {
				continue
			}
			for _, spec := range group.Specs {
				values := spec.(*ast.ValueSpec)
				for i, name := range values.Names {
					if i < len(values.Values) {
						if s, ok := stringOf(values.Values[i]); ok {
							consts[name.Name] = s
						}
					}
				}
			}
		}
	}
	return consts
}

func TestConditionsPageIsRead(t *testing.T) {
	t.Parallel()
	page := conditionsOnPage("# C\n\n### `a-b`\n\nText.\n\n### `c`, `d`\n\nMore.\n")
	if !strings.Contains(page["a-b"], "Text") || strings.Contains(page["a-b"], "More") || !strings.Contains(page["d"], "More") {
		t.Errorf("page = %q, want a-b, c and d with their texts", page)
	}
	codes := codesOf(&ast.BinaryExpr{X: ast.NewIdent("role"), Op: token.ADD, Y: &ast.BasicLit{Kind: token.STRING, Value: `"-plain"`}}, nil)
	if want := []string{"ingest-plain", "panel-plain"}; !slices.Equal(codes, want) {
		t.Errorf("codesOf(role + \"-plain\") = %q, want %q", codes, want)
	}
}
