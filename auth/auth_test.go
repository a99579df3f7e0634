package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vigil/fleet"
)

// fakeStore is users and sessions in memory.
type fakeStore struct {
	mu       sync.Mutex
	users    map[string]User
	sessions map[TokenHash]Session
	fail     error
}

func (f *fakeStore) User(name string) (User, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	u, ok := f.users[name]
	if !ok {
		return User{}, ErrMissing
	}
	return u, f.fail
}

func (f *fakeStore) Session(hash TokenHash) (Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.sessions[hash]
	if !ok {
		return Session{}, ErrMissing
	}
	return s, nil
}

func (f *fakeStore) PutSession(_ context.Context, hash TokenHash, s Session) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sessions[hash] = s
	return f.fail
}

func (f *fakeStore) DeleteSession(_ context.Context, hash TokenHash) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.sessions, hash)
	return nil
}

const goodPassword = "correct horse battery"

func newTestAuth(t *testing.T) (*Auth, *fakeStore) {
	t.Helper()
	hash, err := HashPassword(goodPassword)
	if err != nil {
		t.Fatal(err)
	}
	store := &fakeStore{users: map[string]User{"ann": {Name: "ann", PasswordHash: hash, Admin: true, Created: time.Now().Add(-time.Hour)}}, sessions: map[TokenHash]Session{}}
	a, err := New(Options{Users: store, Sessions: store, SessionFor: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return a, store
}

func request(method, target string, cookies ...*http.Cookie) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	return r
}

func login(t *testing.T, a *Auth) *http.Cookie {
	t.Helper()
	w := httptest.NewRecorder()
	if err := a.Login(t.Context(), w, request("POST", "https://stats.example.net/login"), "ann", goodPassword); err != nil {
		t.Fatalf("Login: %v", err)
	}
	cookies := w.Result().Cookies()
	if len(cookies) != 1 {
		t.Fatalf("%d cookies", len(cookies))
	}
	return cookies[0]
}

func TestLoginSetsACookieThatIdentifies(t *testing.T) {
	t.Parallel()
	a, store := newTestAuth(t)
	c := login(t, a)
	if c.Name != "__Host-vigil" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || c.MaxAge != 3600 {
		t.Errorf("cookie = %+v", c)
	}
	for hash := range store.sessions {
		if strings.Contains(fmt.Sprintf("%x", hash), c.Value) {
			t.Error("the token itself is stored")
		}
	}
	id, ok := a.Identify(request("GET", "/", c))
	if !ok || id.User != "ann" || !id.Admin {
		t.Errorf("Identify = %+v, %v", id, ok)
	}
	w := httptest.NewRecorder()
	if err := a.Logout(t.Context(), w, request("POST", "/logout", c)); err != nil {
		t.Fatal(err)
	}
	if got := w.Result().Cookies()[0]; got.MaxAge >= 0 || got.Name != c.Name {
		t.Errorf("logout cookie = %+v", got)
	}
	if _, ok := a.Identify(request("GET", "/", c)); ok {
		t.Error("still logged in after logout")
	}
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	a, store := newTestAuth(t)
	c := login(t, a)
	a.now = func() time.Time { return time.Now().Add(61 * time.Minute) }
	if _, ok := a.Identify(request("GET", "/", c)); ok {
		t.Error("logged in after the session expired")
	}
	a.now = time.Now
	u := store.users["ann"]
	u.Created = time.Now().Add(time.Minute) // removed, and made anew under the same name
	store.users["ann"] = u
	if _, ok := a.Identify(request("GET", "/", c)); ok {
		t.Error("a session of the former account works")
	}
	delete(store.users, "ann")
	if _, ok := a.Identify(request("GET", "/", c)); ok {
		t.Error("logged in without an account")
	}
	for _, value := range []string{"", "x", strings.Repeat("A", tokenTextBytes), c.Value + "A"} {
		if _, ok := a.Identify(request("GET", "/", &http.Cookie{Name: cookieName, Value: value})); ok {
			t.Errorf("cookie %q identifies somebody", value)
		}
	}
}

func TestWrongNameAndWrongPasswordAreTheSame(t *testing.T) {
	t.Parallel()
	a, store := newTestAuth(t)
	r := request("POST", "https://x/login")
	wrong := a.Login(t.Context(), httptest.NewRecorder(), r, "ann", "wrong password")
	unknown := a.Login(t.Context(), httptest.NewRecorder(), r, "bob", goodPassword)
	if wrong == nil || unknown == nil || wrong.Error() != unknown.Error() || fleet.KindOf(wrong) != fleet.KindUnauthenticated {
		t.Errorf("wrong password: %v; unknown name: %v", wrong, unknown)
	}
	if len(store.sessions) != 0 {
		t.Error("a session was made")
	}
}

// Same cost for an account that is not there: the hash of nobody has the parameters of
// a new one, and is really computed. Time itself is too noisy to compare here.
func TestUnknownUserCostsAHash(t *testing.T) {
	t.Parallel()
	p, err := parsePHC(nobodysHash)
	if err != nil || p.memoryKiB != argonMemoryKiB || p.passes != argonPasses || p.lanes != argonLanes || len(p.key) != argonKeyBytes {
		t.Fatalf("nobody's hash = %+v, %v", p, err)
	}
	a, _ := newTestAuth(t)
	best := time.Hour
	for range 3 {
		began := time.Now()
		_, _ = a.checkPassword(t.Context(), netip.MustParseAddr("192.0.2.1"), "bob", "whatever it is")
		best = min(best, time.Since(began))
	}
	if best < 2*time.Millisecond {
		t.Errorf("an unknown name was refused after %v: nothing was hashed", best)
	}
}

func TestPasswordHashes(t *testing.T) {
	t.Parallel()
	hash, err := HashPassword(goodPassword)
	if err != nil || !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatalf("HashPassword = %q, %v", hash, err)
	}
	other, _ := HashPassword(goodPassword)
	if hash == other {
		t.Error("two hashes of one password are equal: no salt")
	}
	if ok, err := verifyPassword(hash, goodPassword); !ok || err != nil {
		t.Errorf("verify = %v, %v", ok, err)
	}
	if ok, _ := verifyPassword(hash, goodPassword+"x"); ok {
		t.Error("a wrong password matches")
	}
	// Made by the reference command: echo -n "password" | argon2 somesalt -id -t 2 -k 65536 -p 1
	reference := "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if ok, err := verifyPassword(reference, "password"); !ok || err != nil {
		t.Errorf("verify of the reference hash = %v, %v", ok, err)
	}
	for _, bad := range []string{
		"", "x", "$argon2i$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=99999999,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=19456,t=2,p=1x$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=19456,t=0,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=19456,t=2,p=1$$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$",
	} {
		if _, err := verifyPassword(bad, "password"); !errors.Is(err, ErrHash) {
			t.Errorf("verify of %q = %v, want ErrHash", bad, err)
		}
	}
}

func TestNewPasswordsAreChecked(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "short", "Password123", "aaaaaaaaaaaaaaaa", "\xff\xff0123456789", strings.Repeat("long ", 300)} {
		if err := CheckNewPassword(bad); fleet.KindOf(err) != fleet.KindInvalid {
			t.Errorf("CheckNewPassword(%q) = %v, want invalid", bad, err)
		}
	}
	for _, good := range []string{goodPassword, "zehn Äpfel im Korb", strings.Repeat("x1", 500)} {
		if err := CheckNewPassword(good); err != nil {
			t.Errorf("CheckNewPassword(%q) = %v", good, err)
		}
	}
}

func TestAttemptsAreLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLoginLimits(time.Now)
		home, attacker := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
		allowed := func(name string, from netip.Addr) bool { _, ok := l.take(name, from); return ok }
		for i := range pairBurst {
			if !allowed("ann", attacker) {
				t.Fatalf("attempt %d refused", i+1)
			}
		}
		if allowed("ann", attacker) || allowed("ann", netip.MustParseAddr("2001:db8:0:ff::9")) {
			t.Error("attempts beyond the burst are allowed from the same prefix")
		}
		if !allowed("ann", home) {
			t.Error("the owner is locked out by somebody else")
		}
		time.Sleep(pairEvery)
		if !allowed("ann", attacker) || allowed("ann", attacker) {
			t.Error("not one attempt per interval")
		}
		// Many names from one prefix.
		n := 0
		for n = 0; n < 2*prefixBurst && allowed(fmt.Sprint("name", n), netip.MustParseAddr("198.51.100.7")); n++ {
		}
		if n != prefixBurst {
			t.Errorf("%d names from one prefix, want %d", n, prefixBurst)
		}
		// One name from many prefixes.
		for n = 0; n < 2*accountBurst && allowed("bob", netip.AddrFrom4([4]byte{10, 1, byte(n), 1})); n++ {
		}
		if n != accountBurst {
			t.Errorf("one name from %d prefixes, want %d", n, accountBurst)
		}
		// A right password costs nothing.
		time.Sleep(time.Hour)
		for range 10 * pairBurst {
			a, ok := l.take("ann", home)
			if !ok {
				t.Fatal("refused in spite of right passwords")
			}
			l.giveBack(a)
		}
	})
}

func TestLimitsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLoginLimits(time.Now)
		for i := range 3 * maxLimitNames {
			l.take(fmt.Sprint("name", i), netip.AddrFrom4([4]byte{byte(i >> 16), byte(i >> 8), byte(i), 1}))
		}
		if n := len(l.spent); n > maxLimitNames+10 {
			t.Errorf("%d limits remembered, at most %d", n, maxLimitNames)
		}
		time.Sleep(time.Hour)
		if _, ok := l.take("ann", netip.MustParseAddr("192.0.2.1")); !ok {
			t.Error("refused long after a flood")
		}
	})
}

func TestLoginsAreRefusedWhenTooManyHash(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newHashGate()
		for range cap(g.slots) {
			if err := g.enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		if err := g.enter(t.Context()); fleet.KindOf(err) != fleet.KindBusy || time.Since(began) != hashWait {
			t.Errorf("enter = %v after %v, want busy after %v", err, time.Since(began), hashWait)
		}
		g.leave()
		if err := g.enter(t.Context()); err != nil {
			t.Errorf("enter after a leave = %v", err)
		}
	})
}

func TestAgentTokens(t *testing.T) {
	t.Parallel()
	text, hash := NewAgentToken()
	if !strings.HasPrefix(text, "vigil_agent_") || len(text) != len("vigil_agent_")+43 {
		t.Errorf("token = %q", text)
	}
	if got, ok := HashAgentToken(text); !ok || !got.Equal(hash) {
		t.Errorf("HashAgentToken = %v, %v", got, ok)
	}
	for _, bad := range []string{"", text[1:], text + "x", strings.Repeat("x", len(text)), strings.Repeat("y", 1<<20)} {
		if _, ok := HashAgentToken(bad); ok {
			t.Errorf("HashAgentToken takes %.20q", bad)
		}
	}
	for pattern, agents := range map[string][2]string{
		"edge-1": {"edge-1", "edge-11"}, "edge-*": {"edge-11", "core-1"}, "*": {"anything", ""}, "": {"", "edge"},
	} {
		token := AgentToken{Agent: pattern}
		if pattern != "" && !token.Allows(agents[0]) {
			t.Errorf("pattern %q does not allow %q", pattern, agents[0])
		}
		if token.Allows(agents[1]) || token.Allows("") {
			t.Errorf("pattern %q allows %q or nobody", pattern, agents[1])
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	for header, want := range map[string]string{"Bearer abc": "abc", "bearer abc": "abc", "Basic abc": "", "Bearer": "", "": "", "Bearer  ": ""} {
		r.Header.Set("Authorization", header)
		if got, ok := BearerToken(r); got != want || ok != (want != "") {
			t.Errorf("BearerToken(%q) = %q, %v", header, got, ok)
		}
	}
}

func TestMiddlewareRequiresLogin(t *testing.T) {
	t.Parallel()
	a, _ := newTestAuth(t)
	c := login(t, a)
	inside := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := IdentityFrom(r.Context())
		fmt.Fprint(w, id.User)
	})
	page, api := a.RequirePage(inside), a.RequireAPI(inside)
	serve := func(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	if w := serve(page, request("GET", "/streams?sort=name", c)); w.Body.String() != "ann" {
		t.Errorf("page for ann: %d %q", w.Code, w.Body)
	}
	if w := serve(api, request("GET", "/api/v1/now", c)); w.Body.String() != "ann" {
		t.Errorf("API for ann: %d %q", w.Code, w.Body)
	}
	w := serve(page, request("GET", "/streams?sort=name"))
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/login?next=%2Fstreams%3Fsort%3Dname" {
		t.Errorf("page for nobody: %d to %q", w.Code, w.Header().Get("Location"))
	}
	if w := serve(page, request("POST", "/streams")); w.Header().Get("Location") != "/login" {
		t.Errorf("form of nobody goes to %q", w.Header().Get("Location"))
	}
	w = serve(api, request("GET", "/api/v1/now"))
	var body struct{ Kind, Message, Hint string }
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != 401 || body.Kind != "unauthenticated" || body.Message == "" || body.Hint == "" {
		t.Errorf("API for nobody: %d %s, %v", w.Code, w.Body, err)
	}
}

func TestOtherSitesCannotChangeAnything(t *testing.T) {
	t.Parallel()
	store := &fakeStore{}
	a, err := New(Options{Users: store, Sessions: store, TrustedOrigins: []string{"https://b.example.net"}})
	if err != nil {
		t.Fatal(err)
	}
	h := a.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	for _, c := range []struct {
		method, site, origin string
		want                 int
	}{
		{"POST", "cross-site", "https://evil.example", 403},
		{"POST", "same-site", "https://evil.example.net", 403},
		{"POST", "", "https://evil.example", 403},
		{"POST", "same-origin", "https://a.example.net", 200},
		{"POST", "", "https://a.example.net", 200},
		{"POST", "", "", 200}, // no browser
		{"POST", "cross-site", "https://b.example.net", 200},
		{"GET", "cross-site", "https://evil.example", 200},
	} {
		r := httptest.NewRequest(c.method, "https://a.example.net/logout", nil)
		if c.site != "" {
			r.Header.Set("Sec-Fetch-Site", c.site)
		}
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s, site %q, origin %q: %d, want %d", c.method, c.site, c.origin, w.Code, c.want)
		}
	}
}

func TestSafeNext(t *testing.T) {
	t.Parallel()
	for next, want := range map[string]string{
		"/":                             "/",
		"/streams?sort=name&x=":         "/streams?sort=name&x=",
		"/a//b":                         "/a//b",
		"":                              "/",
		"streams":                       "/",
		"//evil.example":                "/",
		"/\\evil.example":               "/",
		"/\t/evil.example":              "/",
		"/\n/evil.example":              "/",
		"https://evil.example":          "/",
		"javascript:alert(1)":           "/",
		"/login?next=/x":                "/",
		"/%zz":                          "/",
		"/" + strings.Repeat("a", 5000): "/",
	} {
		if got := SafeNext(next); got != want {
			t.Errorf("SafeNext(%.40q) = %q, want %q", next, got, want)
		}
	}
}

func TestPlainHTTPIsNoticed(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]bool{
		"http://127.0.0.1:8080/login": false, "http://127.8.0.1/login": false, "http://localhost:8080/": false, "http://panel.localhost/": false,
		"http://[::1]:8080/": false, "http://10.0.0.1:8080/": true, "http://stats.example.net/": true, "https://stats.example.net/": false,
		"http://127.0.0.1.example.net/": true,
	} {
		if got := PlainHTTP(httptest.NewRequest("GET", target, nil)); got != want {
			t.Errorf("PlainHTTP(%s) = %v, want %v", target, got, want)
		}
	}
	r := httptest.NewRequest("GET", "http://stats.example.net/", nil)
	r.Header.Set("X-Forwarded-Proto", "https")
	if PlainHTTP(r) {
		t.Error("a proxy that speaks TLS is not noticed")
	}
}

// A crowd that guesses passwords must leave processors for the packets.
func TestPasswordsTakeAtMostHalfOfTheProcessors(t *testing.T) {
	t.Parallel()
	if n, all := cap(newHashGate().slots), runtime.GOMAXPROCS(0); n < 1 || n > max(1, all/2) {
		t.Errorf("%d hashes at once on %d processors", n, all)
	}
}
