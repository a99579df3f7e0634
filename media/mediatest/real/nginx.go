package real

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// startAttempts is how often a server is started on other ports when its ports were
// taken by somebody else in the meantime.
const startAttempts = 3

// reloadAnswers is how many answers in a row must come from new workers.
const reloadAnswers = 10

// NginxOptions describe a private nginx with its rtmp module.
type NginxOptions struct {
	Workers  int      // default 1
	Apps     []string // default: live
	Username string   // when set, /stat asks for it
	Password string
	// DropIdlePublisher makes nginx disconnect a publisher that sends nothing for so
	// long ("10s"); by default it never does.
	DropIdlePublisher string
}

// Nginx is a running nginx.
type Nginx struct {
	*Process
	// StatURL is the statistics page, RTMPURL the root of the RTMP side
	// (rtmp://127.0.0.1:PORT), AccessLog the log of ended RTMP sessions.
	StatURL   string
	RTMPURL   string
	AccessLog string

	lab     *Lab
	opts    NginxOptions
	dir     string
	binary  string
	ports   []int
	started int
}

// StartNginx starts nginx and waits until it answers on both ports.
func (l *Lab) StartNginx(ctx context.Context, opts NginxOptions) (*Nginx, error) {
	binary, err := tool("nginx")
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(rtmpModule); err != nil {
		return nil, fmt.Errorf("%w: %s; try: %s", ErrMissingTool, rtmpModule, InstallCommand)
	}
	if opts.Workers == 0 {
		opts.Workers = 1
	}
	if len(opts.Apps) == 0 {
		opts.Apps = []string{"live"}
	}
	for range startAttempts {
		var n *Nginx
		if n, err = l.tryNginx(ctx, binary, opts); err == nil {
			return n, nil
		}
	}
	return nil, err
}

const rtmpModule = "/usr/lib/nginx/modules/ngx_rtmp_module.so"

func (l *Lab) tryNginx(ctx context.Context, binary string, opts NginxOptions) (*Nginx, error) {
	dir, err := l.subdir("nginx")
	if err != nil {
		return nil, err
	}
	ports, err := FreePorts(2)
	if err != nil {
		return nil, err
	}
	n := &Nginx{
		StatURL:   fmt.Sprintf("http://127.0.0.1:%d/stat", ports[1]),
		RTMPURL:   fmt.Sprintf("rtmp://127.0.0.1:%d", ports[0]),
		AccessLog: filepath.Join(dir, "rtmp.log"),
		lab:       l, opts: opts, dir: dir, binary: binary, ports: ports,
	}
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(n.config()), 0o644); err != nil {
		return nil, fmt.Errorf("write nginx configuration: %w", err)
	}
	if opts.Username != "" {
		// {PLAIN} is for tests: nginx knows it, and no hash needs to be made.
		line := opts.Username + ":{PLAIN}" + opts.Password + "\n"
		if err := os.WriteFile(filepath.Join(dir, "users"), []byte(line), 0o644); err != nil {
			return nil, fmt.Errorf("write nginx users: %w", err)
		}
	}
	if err := n.Start(ctx); err != nil {
		return nil, err
	}
	return n, nil
}

func (n *Nginx) config() string {
	var apps, auth strings.Builder
	for _, app := range n.opts.Apps {
		fmt.Fprintf(&apps, "    application %s { live on; ", app)
		if n.opts.DropIdlePublisher != "" {
			fmt.Fprintf(&apps, "drop_idle_publisher %s; ", n.opts.DropIdlePublisher)
		}
		apps.WriteString("}\n")
	}
	if n.opts.Username != "" {
		fmt.Fprintf(&auth, "auth_basic stat; auth_basic_user_file %s/users;", n.dir)
	}
	// $session_time is in seconds; the names are those of the module's own format.
	return fmt.Sprintf(`load_module %[1]s;
daemon off; master_process on; worker_processes %[2]d; worker_shutdown_timeout 1h;
pid %[3]s/nginx.pid; error_log %[3]s/error.log info;
events { worker_connections 2048; }
rtmp {
  log_format sessions '$remote_addr [$time_local] $command "$app" "$name" "$args" - $bytes_received $bytes_sent "$pageurl" "$flashver" ($session_readable_time) $session_time';
  access_log %[3]s/rtmp.log sessions;
  server {
    listen 127.0.0.1:%[4]d;
%[5]s  }
}
http {
  access_log off; server_tokens on;
  client_body_temp_path %[3]s/t1; proxy_temp_path %[3]s/t2; fastcgi_temp_path %[3]s/t3; uwsgi_temp_path %[3]s/t4; scgi_temp_path %[3]s/t5;
  server { listen 127.0.0.1:%[6]d; location = /stat { rtmp_stat all; %[7]s } }
}
`, rtmpModule, n.opts.Workers, n.dir, n.ports[0], apps.String(), n.ports[1], auth.String())
}

// Start starts nginx again after it was stopped or killed, on the same ports.
func (n *Nginx) Start(ctx context.Context) error {
	n.started++
	p, err := n.lab.start(n.dir, "nginx", n.binary, "-p", n.dir, "-e", filepath.Join(n.dir, "error.log"), "-c", filepath.Join(n.dir, "nginx.conf"))
	if err != nil {
		return err
	}
	n.Process = p
	return p.await(ctx, "nginx answers", func(ctx context.Context) error {
		_, err := n.Stat(ctx)
		return err
	})
}

// Restart stops nginx and starts it on the same ports: all connections are cut.
func (n *Nginx) Restart(ctx context.Context) error {
	n.Stop()
	return n.Start(ctx)
}

// Reload sends HUP and waits until only new workers answer: for a moment both do.
// Sessions stay with the old ones.
func (n *Nginx) Reload(ctx context.Context) error {
	old := map[int]bool{}
	for range 1 + 50*(n.opts.Workers-1) { // each answer comes from any of them
		pid, err := n.workerPID(ctx)
		if err != nil {
			return err
		}
		old[pid] = true
	}
	if err := n.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	inRow := 0
	return n.await(ctx, "only new workers answer", func(ctx context.Context) error {
		now, err := n.workerPID(ctx)
		if err == nil && !old[now] {
			inRow++
		} else {
			inRow = 0
		}
		if err == nil && inRow < reloadAnswers {
			err = fmt.Errorf("worker %d answered", now)
		}
		return err
	})
}

func (n *Nginx) workerPID(ctx context.Context) (int, error) {
	page, err := n.Stat(ctx)
	if err != nil {
		return 0, err
	}
	return workerOf(page)
}

// workerOf returns the process id of the worker that made a page.
func workerOf(page []byte) (int, error) {
	_, rest, _ := strings.Cut(string(page), "<pid>")
	pid, _, _ := strings.Cut(rest, "</pid>")
	return strconv.Atoi(pid)
}

// Stat reads the statistics page.
func (n *Nginx) Stat(ctx context.Context) ([]byte, error) {
	return fetch(ctx, n.StatURL, n.opts.Username, n.opts.Password)
}

// Stream is what nginx says of one stream.
type Stream struct {
	App        string
	Name       string    `xml:"name"`
	TimeMs     int64     `xml:"time"`
	BytesIn    int64     `xml:"bytes_in"`
	BytesOut   int64     `xml:"bytes_out"`
	NClients   int       `xml:"nclients"` // the publisher is one of them
	Publishing *struct{} `xml:"publishing"`
}

// ParseStat reads the streams from a statistics page.
func ParseStat(page []byte) ([]Stream, error) {
	var parsed struct {
		Apps []struct {
			Name    string   `xml:"name"`
			Streams []Stream `xml:"live>stream"`
		} `xml:"server>application"`
	}
	if err := xml.Unmarshal(page, &parsed); err != nil {
		return nil, fmt.Errorf("read nginx statistics: %w", err)
	}
	var streams []Stream
	for _, app := range parsed.Apps {
		for _, s := range app.Streams {
			s.App = app.Name
			streams = append(streams, s)
		}
	}
	return streams, nil
}

// AwaitStreams waits until the streams of the answering worker satisfy a condition.
func (n *Nginx) AwaitStreams(ctx context.Context, what string, ok func([]Stream) bool) error {
	return n.await(ctx, what, func(ctx context.Context) error {
		page, err := n.Stat(ctx)
		if err != nil {
			return err
		}
		streams, err := ParseStat(page)
		if err == nil && !ok(streams) {
			err = fmt.Errorf("not yet: %+v", streams)
		}
		return err
	})
}

// AwaitSessions waits until so many sessions have ended, and returns all that have.
func (n *Nginx) AwaitSessions(ctx context.Context, count int) ([]Session, error) {
	var sessions []Session
	err := n.await(ctx, "sessions are logged", func(context.Context) error {
		var err error
		if sessions, err = n.Sessions(); err == nil && len(sessions) < count {
			err = fmt.Errorf("not yet: %d of %d", len(sessions), count)
		}
		return err
	})
	return sessions, err
}

// Session is one line of the RTMP access log.
type Session struct {
	Command  string // PUBLISH or PLAY
	App      string
	Name     string
	Args     string
	Received int64 // bytes from the client
	Sent     int64 // bytes to the client
	Seconds  int64
}

// Sessions reads the sessions that have ended from the access log.
func (n *Nginx) Sessions() ([]Session, error) {
	b, err := os.ReadFile(n.AccessLog)
	if err != nil {
		return nil, fmt.Errorf("read rtmp access log: %w", err)
	}
	var sessions []Session
	for line := range strings.Lines(string(b)) {
		s, err := parseSession(line)
		if err != nil {
			return nil, fmt.Errorf("read rtmp access log: %w", err)
		}
		sessions = append(sessions, s)
	}
	return sessions, nil
}

func parseSession(line string) (Session, error) {
	var s Session
	_, rest, ok := strings.Cut(line, "] ")
	quoted := strings.Split(rest, `"`)
	if !ok || len(quoted) != 11 {
		return s, fmt.Errorf("unexpected line %q", line)
	}
	s.Command, s.App, s.Name, s.Args = strings.TrimSpace(quoted[0]), quoted[1], quoted[3], quoted[5]
	if _, err := fmt.Sscanf(quoted[6], " - %d %d ", &s.Received, &s.Sent); err != nil {
		return s, fmt.Errorf("unexpected bytes in %q: %w", line, err)
	}
	seconds := strings.TrimSpace(quoted[10])
	_, err := fmt.Sscanf(seconds[strings.LastIndexByte(seconds, ' ')+1:], "%d", &s.Seconds)
	return s, err
}

func fetch(ctx context.Context, url, username, password string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Close = true // no idle connection may be counted or survive a reload
	if username != "" {
		req.SetBasicAuth(username, password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return body, err
}
