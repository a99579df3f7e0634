package observe

import (
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Registry holds the metrics of one process, or of one part of it. A nil Registry is
// valid: its metrics work and are never shown. Safe for concurrent use.
type Registry struct {
	register prometheus.Registerer
	gather   prometheus.Gatherer
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	r := prometheus.NewRegistry()
	return &Registry{register: r, gather: r}
}

// WithProcess adds the Go runtime's and the process's own metrics and returns r. Only
// the program calls it: they describe the process and not a node inside it.
func (r *Registry) WithProcess() *Registry {
	if r != nil {
		r.register.MustRegister(collectors.NewGoCollector(),
			collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	return r
}

// With returns a registry whose metrics are shown by r with one more label. It tells
// several instances of one part in one process apart.
func (r *Registry) With(label, value string) *Registry {
	if r == nil {
		return nil
	}
	return &Registry{
		register: prometheus.WrapRegistererWith(prometheus.Labels{label: value}, r.register),
		gather:   r.gather,
	}
}

// Handler serves the metrics as text for Prometheus.
func (r *Registry) Handler() http.Handler {
	if r == nil {
		return http.NotFoundHandler()
	}
	return promhttp.HandlerFor(r.gather, promhttp.HandlerOpts{})
}

// Counter makes a counter, or returns the one that has this name already. A counter
// without labels is shown from the start, so that its first increase can be seen.
// It panics when the name is taken by another kind of metric or by other labels.
func (r *Registry) Counter(name, help string, labels ...string) *CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	v = registered(r, v)
	out := &CounterVec{vec: v}
	if len(labels) == 0 {
		out.Counter = out.With()
	}
	return out
}

// Gauge makes a gauge, or returns the one that has this name already.
func (r *Registry) Gauge(name, help string, labels ...string) *GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	v = registered(r, v)
	out := &GaugeVec{vec: v}
	if len(labels) == 0 {
		out.Gauge = out.With()
	}
	return out
}

// GaugeFunc makes a gauge whose value is asked for when the metrics are read. The
// function must be safe for concurrent use and must not block. A second function of
// the same name takes the place of the first.
func (r *Registry) GaugeFunc(name, help string, value func() float64) {
	if r == nil {
		return
	}
	g := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	err := r.register.Register(g)
	if there, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		r.register.Unregister(there.ExistingCollector)
		err = r.register.Register(g)
	}
	if err != nil {
		panic(err)
	}
}

// Histogram makes a histogram, or returns the one that has this name already. Nil
// buckets mean DurationBuckets.
func (r *Registry) Histogram(name, help string, buckets []float64, labels ...string) *HistogramVec {
	if buckets == nil {
		buckets = DurationBuckets()
	}
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	v = registered(r, v)
	out := &HistogramVec{vec: v}
	if len(labels) == 0 {
		out.Histogram = out.With()
	}
	return out
}

// DurationBuckets are bucket limits in seconds from half a millisecond to 30 seconds.
func DurationBuckets() []float64 {
	return []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30}
}

// registered puts c on the registry and returns it, or the equal one that is there.
func registered[C prometheus.Collector](r *Registry, c C) C {
	if r == nil {
		return c
	}
	err := r.register.Register(c)
	if err == nil {
		return c
	}
	if there, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if same, ok := there.ExistingCollector.(C); ok {
			return same
		}
	}
	// Two parts of the program disagree about one name: a mistake in the code.
	panic(err)
}

// Counter is a number that only grows. The zero value counts nothing.
type Counter struct{ c prometheus.Counter }

// Inc adds one.
func (c Counter) Inc() { c.Add(1) }

// Add adds v, which must not be negative.
func (c Counter) Add(v float64) {
	if c.c != nil {
		c.c.Add(v)
	}
}

// CounterVec is a counter for each combination of label values. Without labels it is
// itself the counter.
type CounterVec struct {
	Counter
	vec *prometheus.CounterVec
}

// With returns the counter of these label values, in the order of the labels.
func (v *CounterVec) With(values ...string) Counter {
	return Counter{v.vec.WithLabelValues(values...)}
}

// Delete forgets the counter of these label values.
func (v *CounterVec) Delete(values ...string) { v.vec.DeleteLabelValues(values...) }

// Gauge is a number that goes up and down. The zero value shows nothing.
type Gauge struct{ g prometheus.Gauge }

// Set sets the gauge.
func (g Gauge) Set(v float64) {
	if g.g != nil {
		g.g.Set(v)
	}
}

// Add adds v, which may be negative.
func (g Gauge) Add(v float64) {
	if g.g != nil {
		g.g.Add(v)
	}
}

// Inc adds one.
func (g Gauge) Inc() { g.Add(1) }

// Dec takes one away.
func (g Gauge) Dec() { g.Add(-1) }

// GaugeVec is a gauge for each combination of label values. Without labels it is
// itself the gauge.
type GaugeVec struct {
	Gauge
	vec *prometheus.GaugeVec
}

// With returns the gauge of these label values, in the order of the labels.
func (v *GaugeVec) With(values ...string) Gauge { return Gauge{v.vec.WithLabelValues(values...)} }

// Delete forgets the gauge of these label values.
func (v *GaugeVec) Delete(values ...string) { v.vec.DeleteLabelValues(values...) }

// Histogram counts observations by size. The zero value counts nothing.
type Histogram struct{ h prometheus.Observer }

// Observe counts one observation.
func (h Histogram) Observe(v float64) {
	if h.h != nil {
		h.h.Observe(v)
	}
}

// HistogramVec is a histogram for each combination of label values. Without labels it
// is itself the histogram.
type HistogramVec struct {
	Histogram
	vec *prometheus.HistogramVec
}

// With returns the histogram of these label values, in the order of the labels.
func (v *HistogramVec) With(values ...string) Histogram {
	return Histogram{v.vec.WithLabelValues(values...)}
}

// Delete forgets the histogram of these label values.
func (v *HistogramVec) Delete(values ...string) { v.vec.DeleteLabelValues(values...) }
