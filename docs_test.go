package vigil_test

import (
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

var update = flag.Bool("update", false, "write the generated pages anew")

// metric is one definition found in the code.
type metric struct {
	name, help, kind string
	labels           []string
	at, pkg          string
}

// metricKinds are the methods of observe.Registry, and where their labels begin.
var metricKinds = map[string]struct {
	kind   string
	labels int
}{
	"Counter": {"counter", 2}, "Gauge": {"gauge", 2}, "GaugeFunc": {"gauge", 3}, "Histogram": {"histogram", 3},
}

func TestMetricsPage(t *testing.T) {
	t.Parallel()
	metrics := findMetrics(t)
	lintMetrics(t, metrics)
	for name, at := range findMetricNames(t) {
		if !slices.ContainsFunc(metrics, func(m metric) bool { return m.name == name }) {
			t.Errorf("%s: %s looks like a metric that the page cannot list; define it with constant name and help", at, name)
		}
	}
	page := metricsPage(metrics)
	const name = "docs/reference/metrics.md"
	if *update {
		if err := os.WriteFile(name, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(name)
	if err != nil || string(have) != page {
		t.Errorf("%s is not what the code says; run: make docs (%v)", name, err)
	}
}

func findMetrics(t *testing.T) []metric {
	t.Helper()
	var found []metric
	for _, p := range repo(t).packages {
		if p.path == "observe" {
			continue
		}
		for _, f := range p.files {
			if f.test {
				continue
			}
			ast.Inspect(f.syntax, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					if m, ok := metricOf(t, p, f, call); ok {
						found = append(found, m)
					}
				}
				return true
			})
		}
	}
	slices.SortFunc(found, func(a, b metric) int { return cmp.Compare(a.name, b.name) })
	return found
}

func metricOf(t *testing.T, p *goPackage, f *goFile, call *ast.CallExpr) (metric, bool) {
	t.Helper()
	method := exprName(call.Fun)
	method = method[strings.LastIndexByte(method, '.')+1:]
	if method == strings.ToLower(method) && method != "" {
		method = strings.ToUpper(method[:1]) + method[1:] // a local helper, such as counter
	}
	kind, ok := metricKinds[method]
	if !ok || len(call.Args) < 2 {
		return metric{}, false
	}
	if _, isName := call.Args[0].(*ast.Ident); isName {
		return metric{}, false // the body of such a helper; its callers have the names
	}
	name, ok1 := stringOf(call.Args[0])
	help, ok2 := stringOf(call.Args[1])
	if !ok1 || !ok2 {
		t.Errorf("%s: name and help of a metric are constants, so that the page can list them", f.at(call.Pos()))
		return metric{}, false
	}
	m := metric{name: name, help: help, kind: kind.kind, at: f.at(call.Pos()), pkg: strings.SplitN(p.path, "/", 2)[0]}
	for i := kind.labels; i < len(call.Args); i++ {
		label, ok := stringOf(call.Args[i])
		if !ok {
			t.Errorf("%s: labels of a metric are constants", f.at(call.Pos()))
			continue
		}
		m.labels = append(m.labels, label)
	}
	return m, true
}

// findMetricNames returns every text in the code that looks like the name of a metric,
// to find definitions that findMetrics does not understand.
func findMetricNames(t *testing.T) map[string]string {
	t.Helper()
	names := map[string]string{}
	for _, p := range repo(t).packages {
		for _, f := range p.files {
			if f.test {
				continue
			}
			ast.Inspect(f.syntax, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok {
					if s, ok := stringOf(lit); ok && metricPattern.MatchString(s) {
						names[s] = f.at(lit.Pos())
					}
				}
				return true
			})
		}
	}
	return names
}

func lintMetrics(t *testing.T, metrics []metric) {
	t.Helper()
	var text strings.Builder
	for i, m := range metrics {
		if !strings.HasPrefix(m.name, "vigil_"+m.pkg+"_") {
			t.Errorf("%s: the metric %s is not named vigil_%s_...", m.at, m.name, m.pkg)
		}
		if i > 0 && metrics[i-1].name == m.name {
			t.Errorf("%s: the metric %s is defined at %s, too", m.at, m.name, metrics[i-1].at)
			continue
		}
		if !strings.HasSuffix(m.help, ".") {
			t.Errorf("%s: the help of %s is a sentence and ends with a full stop", m.at, m.name)
		}
		fmt.Fprintf(&text, "# HELP %s %s\n# TYPE %s %s\n", m.name, m.help, m.name, m.kind)
		if m.kind == "histogram" {
			fmt.Fprintf(&text, "%s_bucket{le=\"+Inf\"} 0\n%s_sum 0\n%s_count 0\n", m.name, m.name, m.name)
		} else {
			fmt.Fprintf(&text, "%s 0\n", m.name)
		}
	}
	problems, err := promlint.New(strings.NewReader(text.String())).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("the metric %s: %s", p.Metric, p.Text)
	}
}

func metricsPage(metrics []metric) string {
	var b strings.Builder
	b.WriteString(`# Metrics

<!-- Made from the code by: make docs. Do not edit. -->

The private listener of both programs (` + "`observe.listen`" + `) serves metrics for Prometheus at
` + "`/metrics`" + `. Besides these there are the usual ones of the Go runtime and of the process,
` + "`go_*`" + ` and ` + "`process_*`" + `.
`)
	section := ""
	for _, m := range metrics {
		if m.pkg != section {
			section = m.pkg
			fmt.Fprintf(&b, "\n## %s\n\n| Metric | Kind | Labels | Meaning |\n| --- | --- | --- | --- |\n", section)
		}
		labels := make([]string, len(m.labels))
		for i, l := range m.labels {
			labels[i] = "`" + l + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.name, m.kind, strings.Join(labels, ", "), strings.ReplaceAll(m.help, "|", `\|`))
	}
	return b.String()
}

var (
	linkPattern    = regexp.MustCompile(`!?\[[^\]\n]*\]\(([^)\s]+)\)`)
	headingPattern = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	metricPattern  = regexp.MustCompile(`^vigil_[a-z0-9]+_[a-z0-9_]+$`)
	commentPattern = regexp.MustCompile(`(?s)<!--.*?-->`)
	fencePattern   = regexp.MustCompile("(?ms)^```.*?^```")
	codePattern    = regexp.MustCompile("`[^`\n]*`")
)

func TestLinksResolve(t *testing.T) {
	t.Parallel()
	for _, name := range repo(t).markdown {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text := codePattern.ReplaceAllString(fencePattern.ReplaceAllString(commentPattern.ReplaceAllString(string(data), ""), ""), "")
		for _, match := range linkPattern.FindAllStringSubmatch(text, -1) {
			checkLink(t, name, match[1])
		}
	}
}

func checkLink(t *testing.T, from, link string) {
	t.Helper()
	if strings.Contains(link, "://") || strings.HasPrefix(link, "mailto:") {
		return
	}
	target, anchor, _ := strings.Cut(link, "#")
	file := from
	if target != "" {
		file = filepath.Join(filepath.Dir(from), target)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		if info, statErr := os.Stat(file); statErr != nil || !info.IsDir() {
			t.Errorf("%s: the link %s leads nowhere", from, link)
		}
		return
	}
	if anchor == "" {
		return
	}
	for _, h := range headingPattern.FindAllStringSubmatch(string(data), -1) {
		if slug(h[1]) == anchor {
			return
		}
	}
	t.Errorf("%s: the link %s names a heading that does not exist", from, link)
}

// slug makes the anchor of a heading.
func slug(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(strings.TrimSpace(heading)) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
			b.WriteRune(r)
		}
	}
	return b.String()
}
