package panel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"vigil/fleet"
	"vigil/report"
)

// handler serves a request or says why not; one place renders and counts failures.
type handler func(w http.ResponseWriter, r *http.Request) error

func (p *Panel) open(h handler) http.Handler { return p.handle(h, p.errorPage) }
func (p *Panel) page(h handler) http.Handler {
	return p.deps.Auth.RequirePage(p.handle(h, p.errorPage))
}
func (p *Panel) data(h handler) http.Handler { return p.deps.Auth.RequireAPI(p.handle(h, p.errorText)) }

func (p *Panel) handle(h handler, show func(http.ResponseWriter, *http.Request, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		defer func() {
			if v := recover(); v != nil {
				if v == http.ErrAbortHandler {
					panic(v)
				}
				p.metrics.panics.Inc()
				p.log.Error("panel handler panicked", "path", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
				show(w, r, &fleet.Error{Kind: fleet.KindInternal, Message: "This page could not be made because of a fault in the panel.", Hint: "Try again. The log of the panel node has the cause."})
			}
		}()
		err := h(w, r)
		p.metrics.requests.With(r.Pattern).Inc()
		if err == nil || errors.Is(err, context.Canceled) {
			return
		}
		kind := fleet.KindOf(err)
		p.metrics.failures.With(kind.String()).Inc()
		if kind == fleet.KindInternal || kind == fleet.KindUnavailable {
			p.log.Warn("panel request failed", "path", r.URL.Path, "kind", kind.String(), "error", err, "took_ms", time.Since(started).Milliseconds())
		}
		show(w, r, err)
	})
}

// errorPage shows a failure as a whole page.
func (p *Panel) errorPage(w http.ResponseWriter, r *http.Request, err error) {
	kind := fleet.KindOf(err)
	v := p.frame(r, "", errorTitle(kind))
	v.Body = errorView{Status: kind.HTTPStatus(), Title: errorTitle(kind), Problem: report.ProblemOf(err), Path: r.URL.RequestURI()}
	if renderErr := p.render(w, r, kind.HTTPStatus(), "error.html", v); renderErr != nil {
		http.Error(w, report.ProblemOf(err).Message, kind.HTTPStatus())
	}
}

// errorText shows a failure of a part of a page: the script puts it into its box.
func (p *Panel) errorText(w http.ResponseWriter, _ *http.Request, err error) {
	kind := fleet.KindOf(err)
	var b bytes.Buffer
	if p.pages.part(&b, "problem", report.ProblemOf(err)) != nil {
		b.Reset()
		b.WriteString(kind.String())
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(kind.HTTPStatus())
	_, _ = w.Write(b.Bytes())
}

func (p *Panel) nothingHere(http.ResponseWriter, *http.Request) error {
	return &fleet.Error{
		Kind:    fleet.KindMissing,
		Message: "There is no page at this address.",
		Hint:    "Go to the first page, or look for a server or a stream.",
	}
}

type errorView struct {
	Status  int
	Title   string
	Problem *report.Problem
	Path    string
}

func errorTitle(k fleet.Kind) string {
	switch k {
	case fleet.KindMissing:
		return "Nothing here"
	case fleet.KindInvalid, fleet.KindTooLarge, fleet.KindConflict:
		return "That question cannot be answered"
	case fleet.KindForbidden:
		return "Not allowed"
	case fleet.KindUnauthenticated:
		return "Please sign in"
	case fleet.KindBusy, fleet.KindUnavailable:
		return "Not now"
	}
	return "Something broke"
}
