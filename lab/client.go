package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"vigil/fleet"
)

// Client is a person who is logged in to the panel.
type Client struct {
	panel  string
	cookie *http.Cookie
}

// Login logs in to the panel as the administrator. The login outlives restarts of the
// service.
func (s *Service) Login(ctx context.Context) (*Client, error) {
	form := url.Values{"name": {adminName}, "password": {s.Password}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Panel+"/login", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	// The transport alone: the redirect after a login is not followed.
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	_ = resp.Body.Close() // the cookie is in the header
	for _, cookie := range resp.Cookies() {
		if cookie.Value != "" {
			return &Client{panel: s.Panel, cookie: &http.Cookie{Name: cookie.Name, Value: cookie.Value}}, nil
		}
	}
	return nil, fmt.Errorf("log in: %s without a cookie", resp.Status)
}

// Get asks for JSON: Get(ctx, "/api/v1/now", &now).
func (c *Client) Get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.panel+path, nil)
	if err != nil {
		return err
	}
	// The cookie is for secure connections; a client that keeps cookies would not send it.
	req.AddCookie(c.cookie)
	return ask(req, intoJSON(into))
}

// The answers of the API as far as tests read them. They are written down here, apart
// from the types of the service, as somebody would who has read its description.
type (
	// Server is a media server now.
	Server struct {
		Key        string    `json:"key"`
		State      string    `json:"state"`
		Status     string    `json:"status"`
		Detail     string    `json:"detail"`
		AtMs       int64     `json:"at_ms"`
		IntervalMs int64     `json:"interval_ms"`
		Streams    fleet.Int `json:"streams"`
		Viewers    fleet.Int `json:"viewers"`
		Publishers fleet.Int `json:"publishers"`
		InBps      fleet.Int `json:"in_bps"`
		OutBps     fleet.Int `json:"out_bps"`
		Workers    fleet.Int `json:"workers"`
	}
	// Stream is a stream now.
	Stream struct {
		Key     fleet.StreamKey `json:"key"`
		Query   string          `json:"query"`
		State   string          `json:"state"`
		AtMs    int64           `json:"at_ms"`
		Tech    string          `json:"tech"`
		ByTech  []TechViewers   `json:"by_tech"`
		Viewers fleet.Int       `json:"viewers"`
		InBps   fleet.Int       `json:"in_bps"`
		OutBps  fleet.Int       `json:"out_bps"`
		Media   fleet.Media     `json:"media"`
		Notes   []string        `json:"notes"`
	}
	// TechViewers is the viewers of a stream by one technology.
	TechViewers struct {
		Tech    string `json:"tech"`
		Viewers int64  `json:"viewers"`
	}
	// Chart is a series of whole, settled buckets.
	Chart struct {
		StepMs int64 `json:"step_ms"`
		Points []struct {
			AtMs       int64     `json:"at_ms"`
			CoveredMs  int64     `json:"covered_ms"`
			ViewersAvg *float64  `json:"viewers_avg"`
			ViewersMax fleet.Int `json:"viewers_max"`
			InBps      fleet.Int `json:"in_bps"`
			OutBps     fleet.Int `json:"out_bps"`
			InBytes    fleet.Int `json:"in_bytes"`
			OutBytes   fleet.Int `json:"out_bytes"`
			State      string    `json:"state"`
		} `json:"points"`
		ByTech []struct {
			Tech       string     `json:"tech"`
			ViewersAvg []*float64 `json:"viewers_avg"`
		} `json:"by_tech"`
	}
	// Session is a connection of a viewer or publisher.
	Session struct {
		Role      string    `json:"role"`
		Tech      string    `json:"tech"`
		UserAgent string    `json:"user_agent"`
		Running   bool      `json:"running"`
		EndReason string    `json:"end_reason"`
		InBytes   fleet.Int `json:"in_bytes"`
		OutBytes  fleet.Int `json:"out_bytes"`
	}
	// Page is the answer about one server or stream; what does not apply is nil.
	Page struct {
		Server     *Server  `json:"server"`
		Stream     *Stream  `json:"stream"`
		TopStreams []Stream `json:"top_streams"`
		Chart      *Chart   `json:"chart"`
		History    *struct {
			Events []struct {
				AtMs   int64  `json:"at_ms"`
				State  string `json:"state"`
				Reason string `json:"reason"`
			} `json:"events"`
			Sessions []Session `json:"sessions"`
		} `json:"history"`
	}
)

// ErrNotThere means that the service does not know the server or stream (now).
var ErrNotThere = errors.New("lab: not known to the service")

// Server returns a media server as the list of servers shows it.
func (c *Client) Server(ctx context.Context, key string) (Server, error) {
	var list struct {
		Rows []Server `json:"rows"`
	}
	if err := c.Get(ctx, "/api/v1/servers?limit=500", &list); err != nil {
		return Server{}, err
	}
	for _, row := range list.Rows {
		if row.Key == key {
			return row, nil
		}
	}
	return Server{}, fmt.Errorf("server %s: %w", key, ErrNotThere)
}

// Streams returns the streams of a media server as the list of streams shows them.
func (c *Client) Streams(ctx context.Context, server string) ([]Stream, error) {
	var list struct {
		Rows []Stream `json:"rows"`
	}
	err := c.Get(ctx, "/api/v1/streams?limit=1000&server="+url.QueryEscape(server), &list)
	return list.Rows, err
}

// Stream returns one stream as the list of streams shows it.
func (c *Client) Stream(ctx context.Context, server, name string) (Stream, error) {
	rows, err := c.Streams(ctx, server)
	if err != nil {
		return Stream{}, err
	}
	for _, row := range rows {
		if row.Key.Name == name {
			return row, nil
		}
	}
	return Stream{}, fmt.Errorf("stream %s of %s: %w", name, server, ErrNotThere)
}

// StreamQuery writes the key of a stream as the API takes it.
func StreamQuery(key fleet.StreamKey) string {
	q := url.Values{"server": {key.Server}, "name": {key.Name}}
	for name, value := range map[string]string{"vhost": key.VHost, "app": key.App, "instance": key.Instance} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q.Encode()
}

// StreamPage returns all that there is about one stream.
func (c *Client) StreamPage(ctx context.Context, query string) (page Page, err error) {
	return page, c.Get(ctx, "/api/v1/stream?"+query, &page)
}

// ServerPage returns all that there is about one server.
func (c *Client) ServerPage(ctx context.Context, key string) (page Page, err error) {
	return page, c.Get(ctx, "/api/v1/servers/"+url.PathEscape(key), &page)
}
