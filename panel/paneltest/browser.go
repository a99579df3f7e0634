// Package paneltest drives a real browser against a panel: a small client of the W3C
// WebDriver protocol (plain JSON over HTTP, no library), and a panel over a made-up
// fleet to look at.
package paneltest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Limits of waiting for the browser.
const (
	startTimeout   = 30 * time.Second
	commandTimeout = 60 * time.Second
	pollEvery      = 50 * time.Millisecond
	maxAnswerBytes = 64 << 20 // a screenshot
)

// installHint is what to do when the tools are not there.
const installHint = "apt-get install --no-install-recommends chromium chromium-driver"

// ErrTool means that a program the browser needs is not installed.
var ErrTool = errors.New("paneltest: chromium or chromedriver is not installed: " + installHint)

// Browser is one headless Chromium. Not safe for concurrent use.
type Browser struct {
	driver  *exec.Cmd
	base    string // of the session
	root    string // of the driver
	profile string
	client  *http.Client
	output  *bytes.Buffer
}

// Start runs a driver on a free port and opens a browser in it. Close ends both.
func Start(ctx context.Context) (*Browser, error) {
	driver, err := exec.LookPath("chromedriver")
	if err != nil {
		return nil, ErrTool
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		return nil, ErrTool
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	profile, err := os.MkdirTemp("", "paneltest-")
	if err != nil {
		return nil, err
	}
	b := &Browser{root: fmt.Sprintf("http://127.0.0.1:%d", port), profile: profile, client: &http.Client{Timeout: commandTimeout}, output: &bytes.Buffer{}}
	b.driver = exec.CommandContext(ctx, driver, fmt.Sprintf("--port=%d", port), "--log-level=SEVERE")
	b.driver.Stdout, b.driver.Stderr = b.output, b.output
	// The driver and all the browser's processes are one group, so that they can be
	// ended together whatever happened.
	b.driver.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	b.driver.Cancel = func() error { return syscall.Kill(-b.driver.Process.Pid, syscall.SIGKILL) }
	if err := b.driver.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start chromedriver: %w", err), os.RemoveAll(profile))
	}
	if err := b.open(ctx, chromium); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func (b *Browser) open(ctx context.Context, chromium string) error {
	if err := b.waitForDriver(ctx); err != nil {
		return err
	}
	var session struct {
		SessionID string `json:"sessionId"`
	}
	err := b.call(http.MethodPost, b.root+"/session", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"browserName":       "chrome",
		"goog:loggingPrefs": map[string]string{"browser": "ALL"},
		"goog:chromeOptions": map[string]any{"binary": chromium, "args": []string{
			"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
			"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--user-data-dir=" + b.profile,
		}},
	}}}, &session)
	if err != nil {
		return fmt.Errorf("open browser: %w (driver said: %s)", err, strings.TrimSpace(b.output.String()))
	}
	b.base = b.root + "/session/" + session.SessionID
	return nil
}

func (b *Browser) waitForDriver(ctx context.Context) error {
	deadline := time.Now().Add(startTimeout)
	for time.Now().Before(deadline) {
		var status struct {
			Ready bool `json:"ready"`
		}
		if err := b.call(http.MethodGet, b.root+"/status", nil, &status); err == nil && status.Ready {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollEvery):
		}
	}
	return errors.New("paneltest: chromedriver did not get ready")
}

// Close ends the browser and everything it started.
func (b *Browser) Close() error {
	if b.base != "" {
		_ = b.call(http.MethodDelete, b.base, nil, nil) // the group is killed anyway
	}
	_ = syscall.Kill(-b.driver.Process.Pid, syscall.SIGKILL)
	_ = b.driver.Wait() // it was killed: its exit status says only that
	return os.RemoveAll(b.profile)
}

// call sends one command. An error that the driver reports is returned with its text.
func (b *Browser) call(method, url string, body, into any) error {
	var payload io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		payload = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, url, payload) //nolint:noctx // bounded by the client's timeout
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := b.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		var failure struct {
			Value struct{ Error, Message string }
		}
		_ = json.Unmarshal(text, &failure) // the status is an error in any case
		message, _, _ := strings.Cut(failure.Value.Message, "\n")
		return fmt.Errorf("webdriver: %s: %s", failure.Value.Error, message)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, &struct{ Value any }{into})
}

// Go opens an address and waits until the page is loaded.
func (b *Browser) Go(url string) error {
	return b.call(http.MethodPost, b.base+"/url", map[string]string{"url": url}, nil)
}

// Run executes a script in the page and decodes what it returns into into (or drops
// it when into is nil).
func (b *Browser) Run(script string, into any, args ...any) error {
	if args == nil {
		args = []any{}
	}
	return b.call(http.MethodPost, b.base+"/execute/sync", map[string]any{"script": script, "args": args}, into)
}

// RunAsync executes a script that calls its last argument when it is done.
func (b *Browser) RunAsync(script string, into any, args ...any) error {
	if args == nil {
		args = []any{}
	}
	return b.call(http.MethodPost, b.base+"/execute/async", map[string]any{"script": script, "args": args}, into)
}

// WaitFor runs an expression until it is true.
func (b *Browser) WaitFor(expression string, longest time.Duration) error {
	deadline := time.Now().Add(longest)
	var last any
	for time.Now().Before(deadline) {
		if err := b.Run("return ("+expression+")", &last); err == nil {
			if done, ok := last.(bool); ok && done {
				return nil
			}
		}
		time.Sleep(pollEvery)
	}
	return fmt.Errorf("paneltest: not true within %s: %s (last: %v)", longest, expression, last)
}

// CDP sends a command of the Chrome DevTools protocol.
func (b *Browser) CDP(command string, params map[string]any, into any) error {
	if params == nil {
		params = map[string]any{}
	}
	return b.call(http.MethodPost, b.base+"/goog/cdp/execute", map[string]any{"cmd": command, "params": params}, into)
}

// Size sets the size of the page in CSS pixels.
func (b *Browser) Size(width, height int) error {
	return b.CDP("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
}

// Scheme makes the browser prefer light or dark.
func (b *Browser) Scheme(scheme string) error {
	return b.CDP("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{
		{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"},
	}}, nil)
}

// Screenshot returns a PNG of the page; whole includes what has to be scrolled to.
func (b *Browser) Screenshot(whole bool) ([]byte, error) {
	var shot struct{ Data string }
	if err := b.CDP("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": whole}, &shot); err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(shot.Data)
}

// Element finds an element by CSS selector.
func (b *Browser) element(selector string) (string, error) {
	var found map[string]string
	if err := b.call(http.MethodPost, b.base+"/element", map[string]string{"using": "css selector", "value": selector}, &found); err != nil {
		return "", fmt.Errorf("find %s: %w", selector, err)
	}
	for _, id := range found {
		return id, nil
	}
	return "", fmt.Errorf("find %s: no id", selector)
}

// Type types into an element as a person does.
func (b *Browser) Type(selector, text string) error {
	id, err := b.element(selector)
	if err != nil {
		return err
	}
	return b.call(http.MethodPost, b.base+"/element/"+id+"/value", map[string]string{"text": text}, nil)
}

// Click clicks an element as a person does.
func (b *Browser) Click(selector string) error {
	id, err := b.element(selector)
	if err != nil {
		return err
	}
	return b.call(http.MethodPost, b.base+"/element/"+id+"/click", map[string]any{}, nil)
}

// Console is one message of the page's console.
type Console struct {
	Level   string `json:"level"` // SEVERE, WARNING, INFO, DEBUG
	Source  string `json:"source"`
	Message string `json:"message"`
}

// Console returns the messages since the last call, among them violations of the
// content security policy and requests that failed.
func (b *Browser) Console() ([]Console, error) {
	var messages []Console
	err := b.call(http.MethodPost, b.base+"/se/log", map[string]string{"type": "browser"}, &messages)
	return messages, err
}
