package api_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vigil/api"
	"vigil/report"
	"vigil/report/reporttest"
)

var update = flag.Bool("update", false, "write docs/reference/api.md anew")

var noon = time.Date(2026, 3, 14, 12, 0, 7, 0, time.UTC)

func newAPI(scenario reporttest.Scenario) *api.API {
	now := func() time.Time { return noon }
	world := reporttest.New(reporttest.Config{Now: now, Scenario: scenario})
	return api.New(api.Deps{Reports: report.New(world, world, now)})
}

func ask(t *testing.T, a *api.API, method, target string) (*http.Response, map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, target, nil))
	res := w.Result()
	var body map[string]any
	if err := json.NewDecoder(res.Body).Decode(&body); err != nil {
		t.Fatalf("%s %s: body is not a JSON object: %v", method, target, err)
	}
	return res, body
}

func description(t *testing.T) *document {
	t.Helper()
	d, err := readDocument(api.Description())
	if err != nil {
		t.Fatalf("openapi.json: %v", err)
	}
	return d
}

func TestEveryRouteIsDescribedAndEveryDescribedRouteExists(t *testing.T) {
	t.Parallel()
	d := description(t)
	routes := map[string][]string{}
	for _, r := range newAPI(reporttest.Normal).Routes() {
		routes[r.Pattern] = r.Params
	}
	for path, methods := range d.Paths {
		params, ok := routes[path]
		if !ok {
			t.Errorf("%s is described, and there is no such route", path)
			continue
		}
		delete(routes, path)
		op, ok := methods["get"]
		if !ok || len(methods) != 1 {
			t.Errorf("%s: described methods %v, the handlers answer get alone", path, methods)
		}
		var described []string
		for _, p := range op.Parameters {
			p = d.parameter(p)
			if p.Description == "" || p.Schema == nil {
				t.Errorf("%s: parameter %q lacks a description or a schema", path, p.Name)
			}
			if p.In == "query" {
				described = append(described, p.Name)
			} else if !strings.Contains(path, "{"+p.Name+"}") {
				t.Errorf("%s: parameter %q is in the %s, and the path has no such part", path, p.Name, p.In)
			}
		}
		slices.Sort(described)
		slices.Sort(params)
		if !slices.Equal(described, params) {
			t.Errorf("%s: described parameters %v, the handler takes %v", path, described, params)
		}
	}
	for path := range routes {
		t.Errorf("%s is a route, and nothing describes it", path)
	}
}

const newsQuery = "server=edge-fra-01&app=live&name=news-24"

var questions = map[string][]string{
	"/api/v1/now":           {""},
	"/api/v1/servers":       {"", "?q=edge&state=ok&sort=viewers&order=asc&offset=1&limit=3"},
	"/api/v1/servers/{key}": {"", "?range=6h", "?range=7d"},
	"/api/v1/streams":       {"", "?q=news&sort=name&order=asc&limit=1000", "?state=offline", "?server=edge-fra-01"},
	"/api/v1/stream":        {"?" + newsQuery, "?" + newsQuery + "&range=30d"},
	"/api/v1/status":        {""},
	"/api/v1/openapi.json":  {""},
}

func TestAnswersAreAsDescribed(t *testing.T) {
	t.Parallel()
	d := description(t)
	for name, scenario := range map[string]reporttest.Scenario{
		"normal": reporttest.Normal, "empty": reporttest.Empty, "gaps": reporttest.Gaps, "silent": reporttest.Silent, "broken": reporttest.Broken,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(scenario)
			for path, methods := range d.Paths {
				if len(questions[path]) == 0 {
					t.Errorf("no question asks for %s", path)
				}
				for _, query := range questions[path] {
					for _, explain := range []string{"", "explain=1"} {
						target := strings.Replace(path, "{key}", "edge-ams-01", 1) + query
						if explain != "" {
							target += map[bool]string{true: "&", false: "?"}[query != ""] + explain
						}
						checkAnswer(t, d, a, methods["get"], target)
					}
				}
			}
		})
	}
}

func checkAnswer(t *testing.T, d *document, a *api.API, op operation, target string) {
	t.Helper()
	res, body := ask(t, a, http.MethodGet, target)
	if got := res.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("%s: Cache-Control %q, want no-store", target, got)
	}
	described := op.Responses["200"].Content["application/json"].Schema
	if res.StatusCode != http.StatusOK {
		described = d.Components.Responses["Problem"].Content["application/json"].Schema
	} else if _, has := body["explain"]; has != strings.Contains(target, "explain=1") && op.OperationID != "openapi" {
		t.Errorf("%s: explain present: %v", target, has)
	}
	for _, fault := range d.check("$", described, body) {
		t.Errorf("%s: %d: %s", target, res.StatusCode, fault)
	}
}

// A validator that lets everything pass would prove nothing.
func TestTheValidatorRefuses(t *testing.T) {
	t.Parallel()
	d := description(t)
	_, good := ask(t, newAPI(reporttest.Normal), http.MethodGet, "/api/v1/now")
	now := d.Components.Schemas["Now"]
	f := func(what string, spoil func(m map[string]any)) {
		t.Helper()
		text, err := json.Marshal(good)
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatal(err)
		}
		spoil(m)
		if len(d.check("$", now, m)) == 0 {
			t.Errorf("%s: got no fault", what)
		}
	}
	f("unknown field", func(m map[string]any) { m["extra"] = 1.0 })
	f("unknown field, deep", func(m map[string]any) { m["totals"].(map[string]any)["extra"] = 1.0 })
	f("missing field", func(m map[string]any) { delete(m, "totals") })
	f("wrong type", func(m map[string]any) { m["at_ms"] = "soon" })
	f("fraction in an integer", func(m map[string]any) { m["at_ms"] = 1.5 })
	f("negative count", func(m map[string]any) { m["totals"].(map[string]any)["viewers"] = -1.0 })
	f("value outside the enum", func(m map[string]any) { m["servers"].([]any)[0].(map[string]any)["state"] = "fine" })
	if _, err := readDocument([]byte(`{"components":{"schemas":{"X":{"pattern":"a"}}}}`)); err == nil {
		t.Error("a keyword that the validator does not know: got no error")
	}
}

func TestBadQuestionsAreRefusedWithAHint(t *testing.T) {
	t.Parallel()
	a := newAPI(reporttest.Normal)
	f := func(target string, status int, kind string) {
		t.Helper()
		res, body := ask(t, a, http.MethodGet, target)
		if res.StatusCode != status || body["kind"] != kind {
			t.Errorf("GET %.80s: %d %v, want %d %s", target, res.StatusCode, body["kind"], status, kind)
		}
		if body["message"] == "" || body["hint"] == "" {
			t.Errorf("GET %.80s: message %q, hint %q: both are needed", target, body["message"], body["hint"])
		}
	}
	f("/api/v1/servers?limit=0", 400, "invalid")
	f("/api/v1/servers?limit=501", 400, "invalid")
	f("/api/v1/servers?limit=ten", 400, "invalid")
	f("/api/v1/servers?offset=-1", 400, "invalid")
	f("/api/v1/servers?offset=99999999", 400, "invalid")
	f("/api/v1/servers?sort=colour", 400, "invalid")
	f("/api/v1/servers?state=fine", 400, "invalid")
	f("/api/v1/servers?order=up", 400, "invalid")
	f("/api/v1/servers?limt=5", 400, "invalid")
	f("/api/v1/servers?limit=5&limit=6", 400, "invalid")
	f("/api/v1/servers?q="+strings.Repeat("a", 201), 400, "invalid")
	f("/api/v1/servers/edge-ams-01?range=2h", 400, "invalid")
	f("/api/v1/servers/nobody", 404, "missing")
	f("/api/v1/streams?limit=1001", 400, "invalid")
	f("/api/v1/streams?state=fine", 400, "invalid")
	f("/api/v1/streams?server="+strings.Repeat("s", 1025), 400, "invalid")
	f("/api/v1/stream", 400, "invalid")
	f("/api/v1/stream?server=edge-fra-01", 400, "invalid")
	f("/api/v1/stream?server=edge-fra-01&name=nothing", 404, "missing")
	f("/api/v1/now?explain=yes", 400, "invalid")
	f("/api/v1/now?q=%zz", 400, "invalid")
	f("/api/v1/now?q="+strings.Repeat("a", 9000), 413, "too_large")
	f("/api/v1/nothing", 404, "missing")
	if res, body := ask(t, a, http.MethodPost, "/api/v1/now"); res.StatusCode != 400 || body["kind"] != "invalid" {
		t.Errorf("POST: %d %v, want 400 invalid", res.StatusCode, body["kind"])
	}
}

func TestAStoreThatFailsCostsTheChartOnly(t *testing.T) {
	t.Parallel()
	_, body := ask(t, newAPI(reporttest.Broken), http.MethodGet, "/api/v1/now")
	if body["chart"] != nil {
		t.Errorf("chart is there although the store fails")
	}
	problem, _ := body["chart_error"].(map[string]any)
	if problem["kind"] != "unavailable" || strings.Contains(fmt.Sprint(problem), "reporttest") {
		t.Errorf("chart_error = %v, want unavailable, and no inner cause", problem)
	}
	if v, ok := body["totals"].(map[string]any)["viewers"].(float64); !ok || v <= 0 {
		t.Errorf("viewers = %v, want the live number", v)
	}
}

func TestANameThatIsNotTextIsFoundByItsQuery(t *testing.T) {
	t.Parallel()
	a := newAPI(reporttest.Normal)
	res, body := ask(t, a, http.MethodGet, "/api/v1/stream?server=edge-fra-01&name=%ff%00x")
	if res.StatusCode != 404 || !strings.Contains(fmt.Sprint(body["message"]), "\ufffd") {
		t.Errorf("got %d %v, want 404 with the name made printable", res.StatusCode, body)
	}
}

// The reference page is made from the description.
func TestReferencePage(t *testing.T) {
	t.Parallel()
	want := referencePage(description(t))
	name := filepath.Join("..", "docs", "reference", "api.md")
	if *update {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("%v (make docs writes it)", err)
	}
	if string(got) != want {
		t.Errorf("%s is not what openapi.json says; run: make docs", name)
	}
}

func referencePage(d *document) string {
	var b strings.Builder
	b.WriteString("# API\n\nMade from `api/openapi.json`, which the service also serves at `/api/v1/openapi.json`.\n\n")
	fmt.Fprintf(&b, "%s\n\nAnswers are JSON and are never to be cached. A failure is `{\"kind\", \"message\", \"hint\"}` with the status of its kind: "+
		"`invalid` 400, `unauthenticated` 401, `forbidden` 403, `missing` 404, `too_large` 413, `busy` and `unavailable` 503 (with `Retry-After`), `internal` 500. "+
		"Parameters that an address does not know are refused.\n", d.Info["description"])
	paths := make([]string, 0, len(d.Paths))
	for path := range d.Paths {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		op := d.Paths[path]["get"]
		fmt.Fprintf(&b, "\n## GET %s\n\n%s.\n", path, op.Summary)
		if op.Description != "" {
			fmt.Fprintf(&b, "\n%s\n", op.Description)
		}
		b.WriteString("\n| parameter | values | meaning |\n| --- | --- | --- |\n")
		for _, p := range op.Parameters {
			p = d.parameter(p)
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", p.Name, valuesOf(p), p.Description)
		}
		response := op.Responses["200"]
		fmt.Fprintf(&b, "\nAnswer: %s\n", response.Description)
		if ref := response.Content["application/json"].Schema.Ref; ref != "" {
			fmt.Fprintf(&b, "Fields: [%s](#%s).\n", nameOf(ref), strings.ToLower(nameOf(ref)))
		}
	}
	b.WriteString("\n# Fields\n")
	names := make([]string, 0, len(d.Components.Schemas))
	for name := range d.Components.Schemas {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		s := d.Components.Schemas[name]
		properties := s.Properties
		if s.Items != nil {
			properties = s.Items.Properties
		}
		if len(properties) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n", name)
		if s.Items != nil {
			b.WriteString("A list; each item has these fields. ")
		}
		if s.Description != "" {
			fmt.Fprintf(&b, "%s\n\n", s.Description)
		}
		b.WriteString("| field | type | meaning |\n| --- | --- | --- |\n")
		fields := make([]string, 0, len(properties))
		for field := range properties {
			fields = append(fields, field)
		}
		slices.Sort(fields)
		for _, field := range fields {
			p := properties[field]
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", field, typeOf(p), p.Description)
		}
	}
	return b.String()
}

func nameOf(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

func typeOf(s *schema) string {
	switch {
	case s.Ref != "" && nameOf(s.Ref) == "Count":
		return "integer or null"
	case s.Ref != "" && nameOf(s.Ref) == "Amount":
		return "number or null"
	case s.Ref != "":
		return fmt.Sprintf("[%s](#%s)", nameOf(s.Ref), strings.ToLower(nameOf(s.Ref)))
	case len(s.AnyOf) > 0:
		var parts []string
		for _, each := range s.AnyOf {
			parts = append(parts, typeOf(each))
		}
		return strings.Join(parts, " or ")
	case len(s.Enum) > 0:
		return valuesText(s.Enum)
	case s.Items != nil:
		return "list of " + typeOf(s.Items)
	}
	return strings.Join(s.Type, " or ")
}

func valuesOf(p parameter) string {
	s := p.Schema
	var text string
	switch {
	case len(s.Enum) > 0:
		text = valuesText(s.Enum)
	case s.Minimum != nil && s.Maximum != nil:
		text = fmt.Sprintf("%.0f to %.0f", *s.Minimum, *s.Maximum)
	default:
		text = strings.Join(s.Type, " or ")
		if s.MaxLength != nil {
			text += fmt.Sprintf(", at most %d bytes", *s.MaxLength)
		}
	}
	switch {
	case p.Required:
		text += "; required"
	case s.Default != nil:
		text += fmt.Sprintf("; default `%v`", s.Default)
	}
	return text
}

func valuesText(values []any) string {
	parts := make([]string, 0, len(values))
	for _, v := range values {
		parts = append(parts, fmt.Sprintf("`%v`", v))
	}
	return strings.Join(parts, ", ")
}

var unitless = regexp.MustCompile(`(bytes|bps|rate|time|age|latency|duration|interval)$`)

func TestNumbersCarryTheirUnits(t *testing.T) {
	t.Parallel()
	for name, s := range description(t).Components.Schemas {
		for field, p := range s.Properties {
			number := slices.Contains(p.Type, "integer") || slices.Contains(p.Type, "number") || nameOf("/"+p.Ref) == "Count" || nameOf("/"+p.Ref) == "Amount"
			if number && unitless.MatchString(field) && !strings.HasSuffix(field, "_bytes") && !strings.HasSuffix(field, "_bps") {
				t.Errorf("%s.%s is a number without a unit in its name", name, field)
			}
		}
	}
}
