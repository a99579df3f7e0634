package panel

import (
	"net/http"
	"net/url"
	"strconv"

	"vigil/fleet"
	"vigil/report"
)

// serversPerPage is how many rows the list of servers shows.
const serversPerPage = 100

type serversView struct {
	report.Servers
	Query  report.ServerQuery
	NowMs  int64
	Pager  pager
	Cols   []column
	States []choice
}

// column is a header that orders the list.
type column struct {
	Label, Href, Class string
	Current            bool
	Ascending          bool
}

// Aria is the value of aria-sort.
func (c column) Aria() string {
	switch {
	case !c.Current:
		return "none"
	case c.Ascending:
		return "ascending"
	}
	return "descending"
}

type choice struct {
	Value, Label string
	Current      bool
}

// pager is where one is in a list.
type pager struct {
	First, Last, Matched int64
	Prev, Next           string // addresses; empty when there is none
}

func pagerOf(path string, q url.Values, offset, limit, rows int, matched int64) pager {
	p := pager{Matched: matched, First: min(int64(offset)+1, matched), Last: int64(offset + rows)}
	at := func(offset int) string {
		v := cloneValues(q)
		v.Del("offset")
		if offset > 0 {
			v.Set("offset", strconv.Itoa(offset))
		}
		return address(path, v)
	}
	if offset > 0 {
		p.Prev = at(max(0, offset-limit))
	}
	if int64(offset+rows) < matched {
		p.Next = at(offset + limit)
	}
	return p
}

func cloneValues(q url.Values) url.Values {
	out := url.Values{}
	for k, v := range q {
		if len(v) > 0 && v[0] != "" {
			out.Set(k, v[0])
		}
	}
	return out
}

func address(path string, q url.Values) string {
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// columnsOf makes headers whose links order the list, the other way round when it is
// ordered by them already. Names begin at A, numbers at the largest.
func columnsOf(path string, q url.Values, sort string, ascending bool, cols []column, keys []string) []column {
	for i := range cols {
		if keys[i] == "" {
			continue
		}
		cols[i].Current = keys[i] == sort
		cols[i].Ascending = ascending
		v := cloneValues(q)
		v.Del("offset")
		v.Set("sort", keys[i])
		upFirst := keys[i] == "key" || keys[i] == "name" || keys[i] == "server"
		up := upFirst
		if cols[i].Current {
			up = !ascending
		}
		v.Set("order", map[bool]string{true: "asc", false: "desc"}[up])
		cols[i].Href = address(path, v)
	}
	return cols
}

// number reads a whole number of a query; absent is the fallback.
func number(q url.Values, name string, fallback int) (int, error) {
	text := q.Get(name)
	if text == "" {
		return fallback, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, &fleet.Error{Kind: fleet.KindInvalid, Message: "The " + name + " is not a whole number.", Hint: "Go back to the list and use its links."}
	}
	return n, nil
}

func serverQuery(q url.Values) (report.ServerQuery, error) {
	offset, err := number(q, "offset", 0)
	return report.ServerQuery{
		Search: q.Get("q"), State: q.Get("state"), Sort: q.Get("sort"), Ascending: q.Get("order") == "asc",
		Offset: offset, Limit: serversPerPage,
	}, err
}

func (p *Panel) serversList(r *http.Request) (*serversView, error) {
	values := r.URL.Query()
	q, err := serverQuery(values)
	if err != nil {
		return nil, err
	}
	list, err := p.deps.Reports.Servers(q)
	if err != nil {
		return nil, err
	}
	v := &serversView{Servers: *list, Query: q, NowMs: list.AtMs}
	v.Pager = pagerOf("/servers", values, q.Offset, q.Limit, len(list.Rows), list.Matched)
	v.Cols = columnsOf("/servers", values, q.Sort, q.Ascending, []column{
		{Label: "Server"}, {Label: "State", Class: "narrow-hide"}, {Label: "Viewers", Class: "r"}, {Label: "Out", Class: "r narrow-hide"},
		{Label: "In", Class: "r wide"}, {Label: "Streams", Class: "r wide"}, {Label: "Software", Class: "wide c-format"}, {Label: "Last packet", Class: "r"},
	}, []string{"key", "attention", "viewers", "out_bps", "in_bps", "streams", "", "age"})
	for _, s := range report.ServerStates() {
		v.States = append(v.States, choice{Value: s, Label: badgeOf(s).Text, Current: s == q.State})
	}
	return v, nil
}

func (p *Panel) serversPage(w http.ResponseWriter, r *http.Request) error {
	body, err := p.serversList(r)
	if err != nil {
		return err
	}
	v := p.frame(r, "servers", "Servers")
	v.Live, v.AsOfMs, v.Body = address("/live/servers", r.URL.Query()), body.Totals.AsOfMs, body
	return p.render(w, r, http.StatusOK, "servers.html", v)
}

func (p *Panel) serversBoxes(r *http.Request) (update, error) {
	v, err := p.serversList(r)
	if err != nil {
		return update{}, err
	}
	if v.Total == 0 {
		return update{}, nil
	}
	return update{AsOfMs: v.Totals.AsOfMs, Boxes: []box{{ID: "list", Part: "servers-list", Data: v}}}, nil
}

type serverView struct {
	Key     string
	Server  *report.Server
	NowMs   int64
	Chart   chartView
	Streams topStreamsView
}

func (p *Panel) serverLive(key string) (serverView, *report.ServerPage) {
	live := p.deps.Reports.ServerLive(key)
	v := serverView{Key: key, Server: live.Server, NowMs: live.AtMs, Streams: topStreamsView{
		Rows: live.TopStreams, Problem: live.TopError, NowMs: live.AtMs, More: "/streams?server=" + url.QueryEscape(key), Alone: true,
	}}
	if live.Server != nil {
		v.Streams.Total = live.Server.Streams.Or(0)
	}
	return v, live
}

func (p *Panel) serverPage(w http.ResponseWriter, r *http.Request) error {
	g, err := report.RangeNamed(r.URL.Query().Get("range"))
	if err != nil {
		return err
	}
	key := r.PathValue("key")
	chart := p.chartView(r.Context(), chartSubject{kind: "server", server: key}, g, chartBudget)
	body, live := p.serverLive(key)
	if live.Server == nil && chart.Empty {
		return report.MissingServer(key)
	}
	body.Chart = chart
	v := p.frame(r, "servers", report.Printable(key))
	v.Live, v.Body = "/live/servers/"+url.PathEscape(key), body
	if live.Server != nil {
		v.AsOfMs = live.Server.AtMs
	}
	return p.render(w, r, http.StatusOK, "server.html", v)
}

func (p *Panel) serverBoxes(r *http.Request) (update, error) {
	v, live := p.serverLive(r.PathValue("key"))
	out := update{Boxes: []box{
		{ID: "server-head", Part: "server-head", Data: v},
		{ID: "server-tiles", Part: "server-tiles", Data: v},
		{ID: "server-facts", Part: "server-facts", Data: v},
		{ID: "top-streams", Part: "top-streams", Data: v.Streams},
	}}
	if live.Server != nil {
		out.AsOfMs = live.Server.AtMs
	}
	return out, nil
}
