package health

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func TestConditions(t *testing.T) {
	t.Parallel()
	c := &clock{now: time.Unix(1000, 0)}
	r := New(c.Now)
	if !r.Ready() || len(r.List()) != 0 {
		t.Fatal("a new registry is not ready and empty")
	}
	r.Set(Condition{Code: "slow", Severity: Warning, After: time.Minute})
	c.now = c.now.Add(30 * time.Second)
	r.Set(Condition{Code: "slow", Severity: Warning, After: time.Minute, Text: "renewed"})
	r.Set(Condition{Code: "down", Severity: Error, BlocksReady: true})
	if r.Ready() {
		t.Error("ready although a condition blocks it")
	}
	if n := r.Count(Warning); n != 0 {
		t.Errorf("Count(Warning) = %d before it has lasted for After, want 0", n)
	}
	list := r.List()
	if len(list) != 2 || list[0].Code != "down" || list[1].Code != "slow" {
		t.Fatalf("list = %+v, want down before slow", list)
	}
	if !list[0].Shown || list[1].Shown || list[1].Text != "renewed" || !list[1].Since.Equal(time.Unix(1000, 0)) {
		t.Errorf("list = %+v, want slow renewed, with its first time, and not shown yet", list)
	}
	c.now = c.now.Add(30 * time.Second)
	if !r.List()[1].Shown || r.Count(Warning) != 1 || r.Count(Error) != 1 || r.Count(Info) != 0 {
		t.Errorf("a condition that lasted for After is not shown or not counted: %+v", r.List())
	}
	r.Clear("down")
	r.Clear("never there")
	if !r.Ready() {
		t.Error("not ready after the blocking condition ended")
	}
	r.Clear("slow")
	r.Set(Condition{Code: "slow", Severity: Warning})
	if got := r.List()[0].Since; !got.Equal(c.now) {
		t.Errorf("since = %v after it ended and came back, want now", got)
	}
}

func TestNilRegistry(t *testing.T) {
	t.Parallel()
	var r *Registry
	r.Set(Condition{Code: "x", BlocksReady: true})
	r.Clear("x")
	if !r.Ready() || r.List() != nil || r.Count(Info) != 0 {
		t.Error("a nil registry is not ready and empty")
	}
	if status, _ := get(t, r, "/ready"); status != http.StatusOK {
		t.Errorf("GET /ready = %d, want 200", status)
	}
}

func TestListIsBounded(t *testing.T) {
	t.Parallel()
	r := New(nil)
	for i := range 2 * maxConditions {
		r.Set(Condition{Code: fmt.Sprint(i)})
	}
	if n := len(r.List()); n != maxConditions {
		t.Errorf("%d conditions are kept, want %d", n, maxConditions)
	}
}

func get(t *testing.T, r *Registry, path string) (int, Report) {
	t.Helper()
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	var report Report
	if w.Code != http.StatusNotFound {
		if err := json.Unmarshal(w.Body.Bytes(), &report); err != nil {
			t.Fatalf("GET %s: %v in %q", path, err, w.Body.String())
		}
	}
	return w.Code, report
}

func TestHandler(t *testing.T) {
	t.Parallel()
	r := New(nil)
	r.Set(Condition{Code: "down", Title: "Down", Severity: Error, BlocksReady: true, Hint: "start it"})
	if status, _ := get(t, r, "/live"); status != http.StatusOK {
		t.Errorf("GET /live = %d, want 200: the process runs", status)
	}
	status, report := get(t, r, "/ready")
	if status != http.StatusServiceUnavailable || report.Ready || len(report.Conditions) != 1 {
		t.Errorf("GET /ready = %d, %+v, want 503 and the condition", status, report)
	}
	status, report = get(t, r, "/conditions")
	if status != http.StatusOK || report.Conditions[0].Severity != Error || report.Conditions[0].Hint != "start it" {
		t.Errorf("GET /conditions = %d, %+v, want 200 and the condition as it was set", status, report)
	}
	if status, _ := get(t, r, "/other"); status != http.StatusNotFound {
		t.Errorf("GET /other = %d, want 404", status)
	}
}

func TestSeverityOfANewerVersion(t *testing.T) {
	t.Parallel()
	var s Severity
	if err := s.UnmarshalText([]byte("catastrophe")); err != nil || s != Error {
		t.Errorf("unknown severity = %v, %v, want error", s, err)
	}
	if got := Severity(9).String(); got != "error" {
		t.Errorf("String = %q, want error", got)
	}
}
