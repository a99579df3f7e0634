package panel

import (
	"cmp"
	"net/http"
	"net/url"

	"vigil/fleet"
	"vigil/live"
	"vigil/report"
)

// streamsPerPage is how many rows the list of streams shows.
const streamsPerPage = 50

type streamsView struct {
	report.Streams
	Query  live.StreamQuery
	NowMs  int64
	Pager  pager
	Cols   []column
	States []choice
}

func streamQuery(q url.Values) (live.StreamQuery, error) {
	offset, err := number(q, "offset", 0)
	sort := q.Get("sort")
	if sort == "" {
		sort = "viewers"
	}
	return live.StreamQuery{
		Search: q.Get("q"), Server: q.Get("server"), State: q.Get("state"), Sort: sort,
		Ascending: q.Get("order") == "asc", Offset: offset, Limit: streamsPerPage,
	}, err
}

func (p *Panel) streamsList(r *http.Request) (*streamsView, error) {
	values := r.URL.Query()
	q, err := streamQuery(values)
	if err != nil {
		return nil, err
	}
	list, err := p.deps.Reports.Streams(q)
	if err != nil {
		return nil, err
	}
	v := &streamsView{Streams: *list, Query: q, NowMs: list.AtMs}
	v.Pager = pagerOf("/streams", values, q.Offset, q.Limit, len(list.Rows), list.Matched)
	v.Cols = columnsOf("/streams", values, q.Sort, q.Ascending, []column{
		{Label: "Stream"}, {Label: "Server", Class: "wide"}, {Label: "State", Class: "narrow-hide"}, {Label: "Viewers", Class: "r"},
		{Label: "Out", Class: "r"}, {Label: "In", Class: "r wide"}, {Label: "Format", Class: "wide c-format"}, {Label: "On air for", Class: "r wide"},
	}, []string{"name", "server", "", "viewers", "out_bps", "in_bps", "", "since"})
	for _, s := range report.StreamStates() {
		label := badgeOf(s).Text
		v.States = append(v.States, choice{Value: s, Label: label, Current: s == q.State})
	}
	return v, nil
}

func (p *Panel) streamsPage(w http.ResponseWriter, r *http.Request) error {
	body, err := p.streamsList(r)
	if err != nil {
		return err
	}
	v := p.frame(r, "streams", "Streams")
	v.Live, v.AsOfMs, v.Body = address("/live/streams", r.URL.Query()), body.AsOfMs, body
	return p.render(w, r, http.StatusOK, "streams.html", v)
}

func (p *Panel) streamsBoxes(r *http.Request) (update, error) {
	v, err := p.streamsList(r)
	if err != nil {
		return update{}, err
	}
	if v.Total == 0 && v.AsOfMs == 0 {
		return update{}, nil
	}
	return update{AsOfMs: v.AsOfMs, Boxes: []box{{ID: "list", Part: "streams-list", Data: v}}}, nil
}

type streamView struct {
	Key     fleet.StreamKey
	Stream  *report.Stream
	NowMs   int64
	Chart   chartView
	History historyView
}

type historyView struct {
	Src     string
	History *report.History
	Problem *report.Problem
	NowMs   int64
}

func streamKey(r *http.Request) (fleet.StreamKey, error) {
	key := report.KeyFrom(r.URL.Query())
	if key.Server == "" {
		return key, &fleet.Error{
			Kind: fleet.KindInvalid, Message: "The address does not say which stream is meant.",
			Hint: "Choose the stream from the list of streams.",
		}
	}
	return key, nil
}

func (p *Panel) streamLive(key fleet.StreamKey) streamView {
	page := p.deps.Reports.StreamLive(key)
	return streamView{Key: key, Stream: page.Stream, NowMs: page.AtMs}
}

func (p *Panel) history(r *http.Request, key fleet.StreamKey, g report.Range) historyView {
	v := historyView{Src: "/box/history?" + report.KeyQuery(key) + "&range=" + g.Name, NowMs: p.deps.Reports.Clock().UnixMilli()}
	history, err := p.deps.Reports.StreamHistory(r.Context(), key, g)
	v.History, v.Problem = history, report.ProblemOf(err)
	return v
}

func (p *Panel) streamPage(w http.ResponseWriter, r *http.Request) error {
	key, err := streamKey(r)
	if err != nil {
		return err
	}
	g, err := report.RangeNamed(r.URL.Query().Get("range"))
	if err != nil {
		return err
	}
	chart := p.chartView(r.Context(), chartSubject{kind: "stream", stream: key}, g, chartBudget)
	body := p.streamLive(key)
	body.Chart = chart
	// The history is asked for by the page itself, so that a slow store delays its box
	// and not the page.
	body.History = historyView{Src: "/box/history?" + report.KeyQuery(key) + "&range=" + g.Name}
	if body.Stream == nil && chart.Chart != nil && chart.Chart.Unseen() {
		return report.MissingStream(key)
	}
	v := p.frame(r, "streams", cmp.Or(report.Printable(key.Name), "(no name)"))
	v.Live, v.Body = "/live/stream?"+report.KeyQuery(key), body
	if body.Stream != nil {
		v.AsOfMs = body.Stream.AtMs
	}
	if r.URL.Query().Get("wait") != "" {
		body.History = p.history(r, key, g)
		v.Body = body
	}
	return p.render(w, r, http.StatusOK, "stream.html", v)
}

func (p *Panel) streamBoxes(r *http.Request) (update, error) {
	key, err := streamKey(r)
	if err != nil {
		return update{}, err
	}
	v := p.streamLive(key)
	out := update{Boxes: []box{
		{ID: "stream-head", Part: "stream-head", Data: v},
		{ID: "stream-tiles", Part: "stream-tiles", Data: v},
		{ID: "stream-facts", Part: "stream-facts", Data: v},
	}}
	if v.Stream != nil {
		out.AsOfMs = v.Stream.AtMs
	}
	return out, nil
}

// historyBox serves events and sessions alone.
func (p *Panel) historyBox(w http.ResponseWriter, r *http.Request) error {
	key, err := streamKey(r)
	if err != nil {
		return err
	}
	g, err := report.RangeNamed(r.URL.Query().Get("range"))
	if err != nil {
		return err
	}
	return p.renderPart(w, r, "history", p.history(r, key, g))
}
