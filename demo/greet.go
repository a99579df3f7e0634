package demo

import (
	"fmt"
	"net"

	"vigil/config"
)

// url is where the panel is.
func (d *demo) url() string {
	address := d.node.Address(config.RolePanel)
	if address == nil {
		return ""
	}
	// The name, because browsers keep secure cookies of http://localhost.
	_, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return "http://" + address.String()
	}
	return "http://localhost:" + port
}

// greet tells people where to look and what to try.
func (d *demo) greet() {
	what := fmt.Sprintf("%d simulated media servers with %d streams", d.o.Servers, d.o.Streams)
	if d.o.Real {
		what = "nginx-rtmp and Icecast, with ffmpeg publishing and people watching"
	}
	fmt.Fprintf(d.o.Out, `Vigil is running: %s,
an agent beside each, and one node that takes, stores and shows.

  Look at   %s
  Log in    %s
  Password  %s

Things to try:
  - Open "Streams", search for a word, sort by a column.
  - Open a stream and change the range of its charts.
  - Ask for JSON: every page has a twin under %s/api/v1/
  - Stop this program, start it again with the same -dir, and see the gap.

The data is in %s. Ctrl-C stops and settles the account.
`, what, d.url(), d.login.user, d.login.password, d.url(), d.dir)
}
