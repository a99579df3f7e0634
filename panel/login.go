package panel

import (
	"net/http"

	"vigil/auth"
	"vigil/fleet"
	"vigil/report"
)

// maxLoginBytes bounds the body of a login form.
const maxLoginBytes = 16 << 10

type loginView struct {
	Next    string
	Name    string
	Problem *report.Problem
	Plain   bool // the browser will not keep the cookie of a login over plain http
}

func (p *Panel) loginPage(w http.ResponseWriter, r *http.Request) error {
	return p.showLogin(w, r, http.StatusOK, loginView{Next: auth.SafeNext(r.URL.Query().Get("next"))})
}

func (p *Panel) showLogin(w http.ResponseWriter, r *http.Request, status int, body loginView) error {
	body.Plain = auth.PlainHTTP(r)
	v := p.frame(r, "", "Sign in")
	v.User, v.Banners, v.Body = "", nil, body
	return p.render(w, r, status, "login.html", v)
}

func (p *Panel) login(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, maxLoginBytes)
	if err := r.ParseForm(); err != nil {
		return &fleet.Error{Kind: fleet.KindInvalid, Message: "The login form could not be read.", Hint: "Reload the page and try again.", Err: err}
	}
	body := loginView{Next: auth.SafeNext(r.PostForm.Get("next")), Name: r.PostForm.Get("name")}
	err := p.deps.Auth.Login(r.Context(), w, r, body.Name, r.PostForm.Get("password"))
	if err != nil {
		body.Problem = report.ProblemOf(err)
		return p.showLogin(w, r, fleet.KindOf(err).HTTPStatus(), body)
	}
	http.Redirect(w, r, body.Next, http.StatusSeeOther)
	return nil
}

func (p *Panel) logout(w http.ResponseWriter, r *http.Request) error {
	if err := p.deps.Auth.Logout(r.Context(), w, r); err != nil {
		return err
	}
	http.Redirect(w, r, "/login", http.StatusSeeOther)
	return nil
}
