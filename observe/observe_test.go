package observe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func scrape(t *testing.T, r *Registry) string {
	t.Helper()
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

func TestMetricsAreShown(t *testing.T) {
	t.Parallel()
	r := NewRegistry()
	r.Counter("vigil_test_plain_total", "Counts.")
	r.Counter("vigil_test_kinds_total", "Counts by kind.", "kind").With("a").Add(2)
	r.Gauge("vigil_test_level", "A level.").Set(7)
	r.GaugeFunc("vigil_test_asked", "Asked.", func() float64 { return 3 })
	r.GaugeFunc("vigil_test_asked", "Asked.", func() float64 { return 4 })
	r.Histogram("vigil_test_took_seconds", "Took.", []float64{1, 2}).Observe(1.5)
	got := scrape(t, r)
	for _, want := range []string{
		"vigil_test_plain_total 0\n", `vigil_test_kinds_total{kind="a"} 2`, "vigil_test_level 7\n",
		"vigil_test_asked 4\n", `vigil_test_took_seconds_bucket{le="2"} 1`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("metrics do not have %q:\n%s", want, got)
		}
	}
}

func TestSameNameIsTheSameMetric(t *testing.T) {
	t.Parallel()
	r := NewRegistry()
	r.Counter("vigil_test_x_total", "X.").Inc()
	r.Counter("vigil_test_x_total", "X.").Inc()
	if got := scrape(t, r); !strings.Contains(got, "vigil_test_x_total 2\n") {
		t.Errorf("two counters of one name do not add up:\n%s", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("a gauge took the name of a counter")
		}
	}()
	r.Gauge("vigil_test_x_total", "X.")
}

func TestInstancesAreToldApart(t *testing.T) {
	t.Parallel()
	r := NewRegistry()
	r.With("agent", "a").Counter("vigil_test_x_total", "X.").Inc()
	r.With("agent", "b").Counter("vigil_test_x_total", "X.").Add(5)
	got := scrape(t, r)
	for _, want := range []string{`vigil_test_x_total{agent="a"} 1`, `vigil_test_x_total{agent="b"} 5`} {
		if !strings.Contains(got, want) {
			t.Errorf("metrics do not have %q:\n%s", want, got)
		}
	}
}

func TestDeletedTargetsLeave(t *testing.T) {
	t.Parallel()
	r := NewRegistry()
	v := r.Gauge("vigil_test_level", "A level.", "server")
	v.With("gone").Set(1)
	v.Delete("gone")
	if got := scrape(t, r); strings.Contains(got, "gone") {
		t.Errorf("a deleted label is still shown:\n%s", got)
	}
}

func TestNilRegistryWorks(t *testing.T) {
	t.Parallel()
	var r *Registry
	r.Counter("vigil_test_x_total", "X.").Inc()
	r.Counter("vigil_test_y_total", "Y.", "kind").With("a").Inc()
	r.Gauge("vigil_test_z", "Z.").Dec()
	r.Histogram("vigil_test_s", "S.", nil, "kind").With("a").Observe(1)
	r.GaugeFunc("vigil_test_f", "F.", func() float64 { return 1 })
	r.With("a", "b").WithProcess()
	Counter{}.Inc()
	Gauge{}.Set(1)
	Histogram{}.Observe(1)
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("status = %d, want 404", w.Code)
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	Routes(mux, NewRegistry().WithProcess())
	for path, want := range map[string]string{"/metrics": "go_goroutines", "/debug/pprof/": "goroutine", "/debug/pprof/heap?debug=1": "heap profile"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("GET %s = %d without %q", path, w.Code, want)
		}
	}
}

func TestLogLevels(t *testing.T) {
	t.Parallel()
	lines := func(level string) string {
		t.Helper()
		var out bytes.Buffer
		log, err := NewLogger(level, "text", &out)
		if err != nil {
			t.Fatal(err)
		}
		log.Debug("a")
		log.With("k", 1).Info("b")
		log.WithGroup("g").Warn("c", "k", 2)
		var got []string
		for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
			if _, after, ok := strings.Cut(line, "msg="); ok {
				got = append(got, after)
			}
		}
		return strings.Join(got, "|")
	}
	f := func(level, want string) {
		t.Helper()
		if got := lines(level); got != want {
			t.Errorf("level %q logs %q, want %q", level, got, want)
		}
	}
	f("", "b k=1|c g.k=2")
	f("debug", "a|b k=1|c g.k=2")
	f("error", "")
	f("error,observe=warn", "c g.k=2")
	f("debug,observe=warn", "c g.k=2")
	f("warn,spool=debug", "c g.k=2")
}

func TestLogArguments(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"loud", "info,warn", "info,spool=loud", "info,=debug,"} {
		if CheckLevel(level) == nil {
			t.Errorf("CheckLevel(%q) = nil, want an error", level)
		}
	}
	if _, err := NewLogger("info", "xml", &bytes.Buffer{}); err == nil {
		t.Error("format xml was taken")
	}
	var out bytes.Buffer
	log, err := NewLogger("info", "auto", &out)
	if err != nil {
		t.Fatal(err)
	}
	log.Info("to a buffer")
	if !json.Valid(out.Bytes()) {
		t.Errorf("auto wrote %q, want JSON when it is not a terminal", out.String())
	}
	Discard().Error("nothing happens")
}

func TestDurationsAreReadable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := NewLogger("info", "json", &out)
	if err != nil {
		t.Fatal(err)
	}
	log.Info("waiting", "retry_in", 1500*time.Millisecond, "reason", "")
	if got := out.String(); !strings.Contains(got, `"retry_in":"1.5s"`) || strings.Contains(got, "reason") {
		t.Errorf("log = %s, want 1.5s and no empty reason", got)
	}
}

func TestRepeatsAreThrottled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log, err := NewLogger("info", "text", &out)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			log.Warn("disk is slow", "i", i)
			log.Info("something else", "i", i%2)
		}
		if got := strings.Count(out.String(), "disk is slow"); got != repeatBurst {
			t.Errorf("%d of 100 repeats were written, want %d", got, repeatBurst)
		}
		time.Sleep(repeatWindow)
		out.Reset()
		log.Warn("disk is slow")
		log.Warn("disk is slow")
		if got := out.String(); strings.Count(got, "left_out=80") != 1 {
			t.Errorf("the log does not say once that 80 lines were left out:\n%s", got)
		}
	})
}

func TestManyMessagesAreBounded(t *testing.T) {
	t.Parallel()
	r := &repeats{byMessage: map[string]*repeat{}}
	for i := range 2*maxMessages + 5 {
		if ok, _ := r.allow(fmt.Sprint(i), time.Unix(0, 0)); !ok {
			t.Fatalf("message %d was not written", i)
		}
	}
	if len(r.byMessage) > maxMessages {
		t.Errorf("%d messages are remembered, want at most %d", len(r.byMessage), maxMessages)
	}
}

func TestSlogContract(t *testing.T) {
	t.Parallel()
	var h slog.Handler = Discard().Handler()
	if h.Enabled(t.Context(), slog.LevelError) {
		t.Error("Discard is enabled")
	}
}
