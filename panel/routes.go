package panel

import (
	"net/http"
	"time"
)

// Handler returns everything the panel serves. All routes are here, with who may use
// them: open to anybody; page after login, else to the login page; data after login,
// else 401.
func (p *Panel) Handler() http.Handler {
	mux := http.NewServeMux()

	mux.Handle("GET /static/", p.open(p.assets.serve))
	mux.Handle("GET /favicon.ico", p.open(p.assets.favicon))
	mux.Handle("GET /login", p.open(p.loginPage))
	mux.Handle("POST /login", p.open(p.login))
	mux.Handle("POST /logout", p.open(p.logout))

	mux.Handle("GET /{$}", p.page(p.nowPage))
	mux.Handle("GET /servers", p.page(p.serversPage))
	mux.Handle("GET /servers/{key}", p.page(p.serverPage))
	mux.Handle("GET /streams", p.page(p.streamsPage))
	mux.Handle("GET /stream", p.page(p.streamPage))

	mux.Handle("GET /box/chart", p.data(p.chartBox))
	mux.Handle("GET /box/history", p.data(p.historyBox))

	mux.Handle("GET /live/now", p.data(p.live(p.nowBoxes)))
	mux.Handle("GET /live/servers", p.data(p.live(p.serversBoxes)))
	mux.Handle("GET /live/servers/{key}", p.data(p.live(p.serverBoxes)))
	mux.Handle("GET /live/streams", p.data(p.live(p.streamsBoxes)))
	mux.Handle("GET /live/stream", p.data(p.live(p.streamBoxes)))

	if p.deps.API != nil {
		mux.Handle("/api/v1/", p.deps.Auth.RequireAPI(p.deps.API))
	}
	mux.Handle("/", p.page(p.nothingHere))

	return p.harden(p.deps.Auth.Protect(mux))
}

// contentPolicy lets a page load nothing but the panel's own files and talk to
// nobody but the panel. Styles set by scripts through the DOM are not inline styles.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; " +
	"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// answerTimeout is the longest time for making and taking in an answer. Without it somebody
// who asks and never reads would hold a connection for ever, before any login. Event streams
// set their own for each event.
const answerTimeout = time.Minute

// harden sets the headers that every answer carries, and its time limit.
func (p *Panel) harden(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Not every ResponseWriter has deadlines (tests).
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout))
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}
