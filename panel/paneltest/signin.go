package paneltest

import "time"

// SignIn logs the browser in through the form, as a person does.
func SignIn(b *Browser, s *Site) error {
	if err := b.Go(s.URL("/login")); err != nil {
		return err
	}
	if err := b.Type("input[name=name]", Name); err != nil {
		return err
	}
	if err := b.Type("input[name=password]", Password); err != nil {
		return err
	}
	if err := b.Click("button[type=submit]"); err != nil {
		return err
	}
	return b.WaitFor("location.pathname === '/' && document.querySelector('.who-name')?.textContent === '"+Name+"'", 10*time.Second)
}
