package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"vigil/fleet"
	"vigil/spool"
	"vigil/wire"
)

const (
	maxAnswerBytes  = 256 << 10
	maxMessageBytes = 512 // of an error that is shown
)

// verdict is what an answer means for the packet.
type verdict uint8

const (
	verdictRetry   verdict = iota // not taken, perhaps later
	verdictRefused                // not taken until a person mends something
	verdictDurable                // taken
	verdictReject                 // will never be taken
	verdictPark                   // something before the service does not let this one through
	verdictClone                  // another agent uses this identity
)

// result is one answer, understood.
type result struct {
	verdict    verdict
	category   string // label: the list is in this file
	receipt    *fleet.Receipt
	retryAfter time.Duration
	err        error
}

// send posts one packet and says what became of it.
func (a *Agent) send(ctx context.Context, record spool.Record) result {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	epoch := a.spool.Epoch() // cannot change while a record is in flight
	token, err := a.deps.Token()
	if err != nil {
		return result{verdict: verdictRefused, category: "token", err: &fleet.Error{
			Kind: fleet.KindUnauthenticated, Message: "the token for the service cannot be read", Hint: "check token_file and its permissions", Err: err,
		}}
	}
	id := fleet.PacketID{Agent: a.cfg.Name, Epoch: epoch, Seq: record.Seq}
	return a.post(ctx, id.String(), token, record.Payload)
}

func (a *Agent) post(ctx context.Context, key, token string, payload []byte) result {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url.String(), bytes.NewReader(payload))
	if err != nil {
		return result{category: "network", err: fmt.Errorf("make request: %w", err)}
	}
	req.Header.Set("Content-Type", wire.ContentTypePacket)
	req.Header.Set(wire.HeaderIdempotencyKey, key)
	resp, body, err := a.exchange(req, token)
	if err != nil {
		return result{category: "network", err: err}
	}
	return understand(resp, body)
}

// exchange asks the service and reads the whole answer. The transport is used without
// http.Client: a redirect is not an answer of ours, and must not carry the token
// elsewhere.
func (a *Agent) exchange(req *http.Request, token string) (*http.Response, []byte, error) {
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set(wire.HeaderBoot, fmt.Sprintf("%016x", a.boot))
	req.Header.Set(wire.HeaderHost, a.deps.Host)
	req.Header.Set("User-Agent", "vigil-agent/"+a.deps.Version)
	resp, err := a.service.RoundTrip(req)
	if err != nil {
		return nil, nil, &fleet.Error{
			Kind: fleet.KindUnavailable, Message: "the service cannot be reached",
			Hint: reachHint(a.url, err, a.deps.Now()), Err: err,
		}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	if err != nil {
		return nil, nil, &fleet.Error{
			Kind: fleet.KindUnavailable, Message: "the answer of the service broke off",
			Hint: reachHint(a.url, err, a.deps.Now()), Err: err,
		}
	}
	return resp, body, nil
}

// ping asks whether the service is there and knows the token for this agent.
func (a *Agent) ping(ctx context.Context, token string) error {
	target := *a.url
	target.Path = strings.TrimSuffix(target.Path, wire.PacketPath) + wire.PingPath
	target.RawQuery = url.Values{"agent": {a.cfg.Name}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	resp, body, err := a.exchange(req, token)
	if err != nil {
		return err
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // empty when malformed
	var said struct{ OK bool }
	if resp.StatusCode == http.StatusOK && media == "application/json" && json.Unmarshal(body, &said) == nil && said.OK {
		return nil
	}
	return understand(resp, body).err
}

// understand decides by what is certainly an answer of a Vigil service. Anything else
// came from something in between, and proves nothing about the packet.
func understand(resp *http.Response, body []byte) result {
	if len(body) > maxAnswerBytes {
		return stranger(resp, "its answer is too long")
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // empty when malformed
	if resp.StatusCode == http.StatusOK {
		if media != wire.ContentTypeReceipt {
			return stranger(resp, "it says 200 without a receipt")
		}
		receipt, err := wire.DecodeReceipt(body)
		if err != nil {
			return stranger(resp, "its receipt cannot be read: "+err.Error())
		}
		return result{verdict: verdictDurable, category: "durable", receipt: receipt}
	}
	said, ours := serviceError(media, body)
	r := result{category: said.Kind.String(), err: said, retryAfter: retryAfter(resp)}
	if !ours {
		return stranger(resp, "")
	}
	switch {
	case said.Kind == fleet.KindConflict && resp.StatusCode == http.StatusConflict:
		r.verdict = verdictClone
	case said.Kind == fleet.KindUnauthenticated, said.Kind == fleet.KindForbidden, said.Kind == fleet.KindMissing:
		r.verdict = verdictRefused
	case permanent(resp.StatusCode) && (said.Kind == fleet.KindInvalid || said.Kind == fleet.KindTooLarge):
		r.verdict = verdictReject
	}
	return r
}

func permanent(status int) bool {
	return status == http.StatusBadRequest || status == http.StatusRequestEntityTooLarge || status == http.StatusUnprocessableEntity
}

// stranger is an answer that no Vigil service gives.
func stranger(resp *http.Response, why string) result {
	r := result{category: "stranger", retryAfter: retryAfter(resp)}
	if why == "" {
		why = "it says " + strconv.Itoa(resp.StatusCode)
	}
	message := "something that is not a Vigil service answers at its address: " + clip(why, maxMessageBytes)
	hint := "check the url of the service, and proxies on the way to it"
	kind := fleet.KindUnavailable
	switch status := resp.StatusCode; {
	case status == http.StatusRequestEntityTooLarge, status == http.StatusBadRequest, status == http.StatusUnprocessableEntity:
		r.verdict = verdictPark
		hint = "a proxy on the way refuses this packet; raise its limit for request bodies"
	case status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout:
		message = "the service is not available: something on the way says " + strconv.Itoa(status)
	default:
		r.verdict = verdictRefused
	}
	r.err = &fleet.Error{Kind: kind, Message: message, Hint: hint}
	return r
}

// serviceError reads the error that ingest answers with, and reports whether it is one.
func serviceError(media string, body []byte) (*fleet.Error, bool) {
	var said struct{ Kind, Message, Hint string }
	if media != "application/json" || json.Unmarshal(body, &said) != nil || said.Kind == "" || said.Message == "" {
		return &fleet.Error{}, false
	}
	return &fleet.Error{
		Kind: fleet.KindNamed(said.Kind), Message: clip(said.Message, maxMessageBytes), Hint: clip(said.Hint, maxMessageBytes),
	}, true
}

// retryAfter reads seconds; a date is not something that ingest sends.
func retryAfter(resp *http.Response) time.Duration {
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second
}

// kindHint returns the hint of an error, if it has one.
func kindHint(err error) string {
	if e, ok := errors.AsType[*fleet.Error](err); ok {
		return e.Hint
	}
	return ""
}
