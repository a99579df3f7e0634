package auth

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"vigil/fleet"
)

const (
	cookieName  = "__Host-vigil"
	loginPath   = "/login"
	maxNextSize = 2 << 10
)

type identityKey struct{}

// IdentityFrom returns the identity that RequirePage or RequireAPI found.
func IdentityFrom(ctx context.Context) (Identity, bool) {
	id, ok := ctx.Value(identityKey{}).(Identity)
	return id, ok
}

// RequirePage lets only logged-in people through; others are sent to
// /login?next=....
func (a *Auth) RequirePage(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, ok := a.Identify(r)
		if ok {
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, id)))
			return
		}
		target := loginPath
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			// A form that was posted after the login had ended cannot be replayed.
			if back := SafeNext(r.URL.RequestURI()); back != "/" {
				target += "?next=" + url.QueryEscape(back)
			}
		}
		w.Header().Set("Cache-Control", "no-store")
		http.Redirect(w, r, target, http.StatusSeeOther)
	})
}

// RequireAPI lets only logged-in people through; others get 401 and a JSON error.
func (a *Auth) RequireAPI(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, ok := a.Identify(r)
		if ok {
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, id)))
			return
		}
		writeError(w, &fleet.Error{Kind: fleet.KindUnauthenticated, Message: "you are not logged in", Hint: "log in at /login and try again"})
	})
}

// Protect refuses requests that change something and come from another site. Put it
// around the whole panel.
func (a *Auth) Protect(next http.Handler) http.Handler { return a.protection.Handler(next) }

func (a *Auth) denyOtherSite(w http.ResponseWriter, r *http.Request) {
	a.log.Warn("refused a request from another site", "path", r.URL.Path, "origin", r.Header.Get("Origin"))
	writeError(w, &fleet.Error{Kind: fleet.KindForbidden, Message: "the browser says that this request comes from another site", Hint: "open the panel itself and try again there"})
}

// SafeNext returns where to go after a login: next when it is a path of this site,
// otherwise "/".
func SafeNext(next string) string {
	// "//host" and "/\host" are other sites to a browser, and control characters are
	// dropped by it before it looks.
	if len(next) > maxNextSize || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsFunc(next, unsafeInPath) {
		return "/"
	}
	u, err := url.Parse(next)
	if err != nil || u.Host != "" || u.Scheme != "" || u.User != nil || u.Path == loginPath {
		return "/"
	}
	return next
}

func unsafeInPath(r rune) bool { return r == '\\' || r <= ' ' || r == 0x7f }

// PlainHTTP reports whether a browser that made this request will refuse to keep the
// cookie of a login: the page came over plain http and not from the machine itself.
func PlainHTTP(r *http.Request) bool {
	// A proxy before us may speak TLS. This header decides about a hint only.
	if r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err != nil || !addr.IsLoopback()
}

func sessionCookie(value string, maxAgeSeconds int) *http.Cookie {
	return &http.Cookie{
		Name: cookieName, Value: value, Path: "/", MaxAge: maxAgeSeconds,
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

func sessionToken(r *http.Request) (TokenHash, bool) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return TokenHash{}, false
	}
	return hashToken(sessionPrefix, cookie.Value)
}

func writeError(w http.ResponseWriter, e *fleet.Error) {
	body, err := json.Marshal(map[string]string{"kind": e.Kind.String(), "message": e.Message, "hint": e.Hint})
	if err != nil {
		body = []byte(`{"kind":"internal"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(e.Kind.HTTPStatus())
	_, _ = w.Write(append(body, '\n')) // the client is gone: nobody to tell
}
