package panel

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"path"
	"strconv"

	"vigil/auth"
	"vigil/health"
	"vigil/report"
)

//go:embed templates
var templateFiles embed.FS

// packFrom is the size below which a page is not worth compressing.
const packFrom = 1400

// pages are the parsed templates: one set per page, each with the layout and all parts.
type pages struct {
	sets  map[string]*template.Template
	parts *template.Template
}

func loadPages(a *assets) (*pages, error) {
	base, err := template.New("").Funcs(funcs(a)).ParseFS(templateFiles, "templates/layout.html", "templates/parts/*.html")
	if err != nil {
		return nil, fmt.Errorf("parse shared templates: %w", err)
	}
	p := &pages{sets: map[string]*template.Template{}, parts: base}
	entries, err := templateFiles.ReadDir("templates/pages")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		set, err := base.Clone()
		if err != nil {
			return nil, err
		}
		if _, err := set.ParseFS(templateFiles, path.Join("templates/pages", e.Name())); err != nil {
			return nil, fmt.Errorf("parse page %s: %w", e.Name(), err)
		}
		p.sets[e.Name()] = set
	}
	// Cloning is not possible once a set was executed, so parts have a set of their own.
	if p.parts, err = base.Clone(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *pages) page(w io.Writer, name string, v *view) error {
	set, ok := p.sets[name]
	if !ok {
		return fmt.Errorf("panel: no page %q", name)
	}
	return set.ExecuteTemplate(w, "layout", v)
}

func (p *pages) part(w io.Writer, name string, data any) error {
	return p.parts.ExecuteTemplate(w, name, data)
}

// view is what the layout knows; Body is the page's own.
type view struct {
	Title   string
	Section string // which part of the navigation is marked
	User    string
	Live    string // address of the page's event stream; empty: not live
	Build   string
	Version string
	NowMs   int64
	AsOfMs  int64
	Banners []health.Condition
	Body    any
}

func (p *Panel) frame(r *http.Request, section, title string) *view {
	who, _ := auth.IdentityFrom(r.Context())
	v := &view{
		Title: title, Section: section, User: who.User, Build: p.assets.build, Version: p.deps.Version,
		NowMs: p.deps.Reports.Clock().UnixMilli(),
	}
	if who.User != "" {
		v.Banners = p.deps.Health.List()
	}
	return v
}

// render writes a whole page, or nothing when its template fails.
func (p *Panel) render(w http.ResponseWriter, r *http.Request, status int, name string, v *view) error {
	var b bytes.Buffer
	if err := p.pages.page(&b, name, v); err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	return send(w, r, status, b.Bytes())
}

// renderPart writes one box.
func (p *Panel) renderPart(w http.ResponseWriter, r *http.Request, name string, data any) error {
	var b bytes.Buffer
	if err := p.pages.part(&b, name, data); err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	return send(w, r, http.StatusOK, b.Bytes())
}

func send(w http.ResponseWriter, r *http.Request, status int, body []byte) error {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Add("Vary", "Accept-Encoding")
	if len(body) >= packFrom && acceptsGzip(r) {
		var b bytes.Buffer
		z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
		if err != nil {
			return err
		}
		if _, err := z.Write(body); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		h.Set("Content-Encoding", "gzip")
		body = b.Bytes()
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a browser that went away is not our failure
	return nil
}

// box is one part of a page that refreshes by itself: an id and what is in it.
type box struct {
	ID      string
	Part    string // name of its template
	Data    any
	Problem *report.Problem
}
