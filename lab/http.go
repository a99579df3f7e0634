package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Limits of a question to a program.
const (
	requestTimeout = 10 * time.Second
	maxAnswerBytes = 64 << 20
)

// ask asks on a connection of its own, so that nothing outlives a restart, and refuses
// answers other than 200.
func ask(req *http.Request, read func(io.Reader) error) error {
	client := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true}, Timeout: requestTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s", req.Method, req.URL, resp.Status)
	}
	if err := read(io.LimitReader(resp.Body, maxAnswerBytes)); err != nil {
		return fmt.Errorf("%s %s: %w", req.Method, req.URL, err)
	}
	return nil
}

// intoJSON decodes an answer; into nil it only looks whether there is one.
func intoJSON(into any) func(io.Reader) error {
	return func(body io.Reader) error {
		if into == nil {
			return nil
		}
		return json.NewDecoder(body).Decode(into)
	}
}

func getJSON(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	return ask(req, intoJSON(into))
}

// metric reads one sample of a program's /metrics.
func metric(ctx context.Context, base, name string) (value float64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	err = ask(req, func(body io.Reader) error {
		for lines := bufio.NewScanner(body); lines.Scan(); {
			if rest, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
				value, err = strconv.ParseFloat(rest, 64)
				return err
			}
		}
		return fmt.Errorf("there is no metric %s", name)
	})
	return value, err
}
