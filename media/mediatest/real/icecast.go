package real

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Icecast's passwords in a lab.
const (
	IcecastAdmin    = "admin"
	IcecastPassword = "vigil-lab-admin"
	sourcePassword  = "vigil-lab-source"
)

// IcecastOptions describe a private Icecast.
type IcecastOptions struct {
	SourceTimeout time.Duration // default 10 s, whole seconds
	MaxSources    int           // default 100
}

// Icecast is a running Icecast.
type Icecast struct {
	*Process
	URL       string // http://127.0.0.1:PORT
	AccessLog string

	lab    *Lab
	dir    string
	binary string
	port   int
}

// StartIcecast starts Icecast and waits until it answers. It refuses to run as root, so
// a root lab makes it change to nobody.
func (l *Lab) StartIcecast(ctx context.Context, opts IcecastOptions) (*Icecast, error) {
	binary, err := tool("icecast2")
	if err != nil {
		return nil, err
	}
	if opts.SourceTimeout <= 0 {
		opts.SourceTimeout = 10 * time.Second
	}
	if opts.MaxSources <= 0 {
		opts.MaxSources = 100
	}
	for range startAttempts {
		var ice *Icecast
		if ice, err = l.tryIcecast(ctx, binary, opts); err == nil {
			return ice, nil
		}
	}
	return nil, err
}

func (l *Lab) tryIcecast(ctx context.Context, binary string, opts IcecastOptions) (*Icecast, error) {
	dir, err := l.subdir("icecast")
	if err != nil {
		return nil, err
	}
	logs := filepath.Join(dir, "log")
	if err := os.Mkdir(logs, 0o755); err != nil {
		return nil, fmt.Errorf("make icecast log directory: %w", err)
	}
	owner := ""
	if os.Geteuid() == 0 {
		if owner, err = giveToNobody(logs); err != nil {
			return nil, err
		}
	}
	ports, err := FreePorts(1)
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf(icecastConfig, opts.MaxSources, int(opts.SourceTimeout.Seconds()), sourcePassword, IcecastAdmin, IcecastPassword, ports[0], logs, owner)
	if err := os.WriteFile(filepath.Join(dir, "icecast.xml"), []byte(config), 0o644); err != nil {
		return nil, fmt.Errorf("write icecast configuration: %w", err)
	}
	ice := &Icecast{
		URL:       fmt.Sprintf("http://127.0.0.1:%d", ports[0]),
		AccessLog: filepath.Join(logs, "access.log"),
		lab:       l, dir: dir, binary: binary, port: ports[0],
	}
	if err := ice.Start(ctx); err != nil {
		return nil, err
	}
	return ice, nil
}

func giveToNobody(dir string) (changeowner string, err error) {
	nobody, err := user.Lookup("nobody")
	if err != nil {
		return "", fmt.Errorf("find a user for icecast: %w", err)
	}
	group, err := user.LookupGroupId(nobody.Gid)
	if err != nil {
		return "", fmt.Errorf("find a group for icecast: %w", err)
	}
	uid, err := strconv.Atoi(nobody.Uid)
	if err != nil {
		return "", fmt.Errorf("find a user for icecast: %w", err)
	}
	gid, err := strconv.Atoi(nobody.Gid)
	if err != nil {
		return "", fmt.Errorf("find a group for icecast: %w", err)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return "", fmt.Errorf("give icecast its log directory: %w", err)
	}
	return "<changeowner><user>nobody</user><group>" + group.Name + "</group></changeowner>", nil
}

const icecastConfig = `<icecast>
<location>lab</location><admin>admin@localhost</admin><hostname>localhost</hostname>
<limits><clients>2000</clients><sources>%[1]d</sources><queue-size>524288</queue-size><client-timeout>30</client-timeout>
<header-timeout>15</header-timeout><source-timeout>%[2]d</source-timeout><burst-size>65535</burst-size></limits>
<authentication><source-password>%[3]s</source-password><relay-password>%[3]s</relay-password>
<admin-user>%[4]s</admin-user><admin-password>%[5]s</admin-password></authentication>
<listen-socket><port>%[6]d</port><bind-address>127.0.0.1</bind-address></listen-socket>
<fileserve>0</fileserve>
<paths><basedir>/usr/share/icecast2</basedir><logdir>%[7]s</logdir><webroot>/usr/share/icecast2/web</webroot>
<adminroot>/usr/share/icecast2/admin</adminroot></paths>
<logging><accesslog>access.log</accesslog><errorlog>error.log</errorlog><loglevel>3</loglevel></logging>
<security><chroot>0</chroot>%[8]s</security>
</icecast>
`

// settleTime is how long Icecast is left alone after it begins to listen: 2.4.4 crashes
// (segmentation fault) on about one in thirty connections that come within its first
// milliseconds, even when nothing is asked.
const settleTime = 300 * time.Millisecond

// Start starts Icecast again after it was stopped or killed, on the same port. When
// somebody who waits for it, such as an agent, makes it crash on its first connection,
// it is started again, as a service manager would.
func (i *Icecast) Start(ctx context.Context) error {
	var err error
	for range startAttempts {
		if err = i.start(ctx); !errors.Is(err, ErrEnded) {
			return err
		}
	}
	return err
}

func (i *Icecast) start(ctx context.Context) error {
	p, err := i.lab.start(i.dir, "icecast2", i.binary, "-c", filepath.Join(i.dir, "icecast.xml"))
	if err != nil {
		return err
	}
	i.Process = p
	err = p.await(ctx, "icecast listens", func(context.Context) error { return isListening(i.port) })
	if err != nil {
		return err
	}
	time.Sleep(settleTime)
	// Then, too, the pages may still lack most of the server's own fields, and the JSON
	// page not be JSON.
	return p.await(ctx, "icecast answers", func(ctx context.Context) error {
		page, err := i.Stats(ctx)
		if err == nil && !(strings.Contains(string(page), "<server_id>") && strings.Contains(string(page), "<stats>")) {
			err = fmt.Errorf("not yet: %s", page)
		}
		return err
	})
}

// isListening looks for a listener on a port of 127.0.0.1 without connecting to it.
func isListening(port int) error {
	const table = "/proc/net/tcp"
	data, err := os.ReadFile(table)
	if err != nil {
		return fmt.Errorf("look for listeners: %w", err)
	}
	// Address and port in hexadecimal, any peer, state LISTEN.
	if !strings.Contains(string(data), fmt.Sprintf(" 0100007F:%04X 00000000:0000 0A ", port)) {
		return fmt.Errorf("nobody listens on port %d", port)
	}
	return nil
}

// Restart stops Icecast and starts it on the same port: all connections are cut.
func (i *Icecast) Restart(ctx context.Context) error {
	i.Stop()
	return i.Start(ctx)
}

// Stats reads /admin/stats.
func (i *Icecast) Stats(ctx context.Context) ([]byte, error) { return i.Get(ctx, "/admin/stats") }

// Get reads any page with the administrator's password.
func (i *Icecast) Get(ctx context.Context, path string) ([]byte, error) {
	return fetch(ctx, i.URL+path, IcecastAdmin, IcecastPassword)
}

// Mount is what Icecast says of one mount.
type Mount struct {
	Name      string `xml:"mount,attr"`
	Listeners int    `xml:"listeners"`
	Read      int64  `xml:"total_bytes_read"`
	Sent      int64  `xml:"total_bytes_sent"`
}

// AwaitMounts waits until the mounts satisfy a condition.
func (i *Icecast) AwaitMounts(ctx context.Context, what string, ok func([]Mount) bool) error {
	return i.await(ctx, what, func(ctx context.Context) error {
		mounts, err := i.Mounts(ctx)
		if err == nil && !ok(mounts) {
			err = fmt.Errorf("not yet: %+v", mounts)
		}
		return err
	})
}

// Mounts reads the mounts from /admin/stats.
func (i *Icecast) Mounts(ctx context.Context) ([]Mount, error) {
	page, err := i.Stats(ctx)
	if err != nil {
		return nil, err
	}
	var stats struct {
		Mounts []Mount `xml:"source"`
	}
	if err := xml.Unmarshal(page, &stats); err != nil {
		return nil, fmt.Errorf("read icecast statistics: %w", err)
	}
	return stats.Mounts, nil
}

// Access is one line of Icecast's access log.
type Access struct {
	Path      string
	Status    int
	Bytes     int64
	UserAgent string
	Seconds   int64
}

// Accesses reads the requests that have ended from the access log.
func (i *Icecast) Accesses() ([]Access, error) {
	b, err := os.ReadFile(i.AccessLog)
	if err != nil {
		return nil, fmt.Errorf("read icecast access log: %w", err)
	}
	var all []Access
	for line := range strings.Lines(string(b)) {
		quoted := strings.Split(strings.TrimSpace(line), `"`)
		if len(quoted) < 7 {
			return nil, fmt.Errorf("read icecast access log: unexpected line %q", line)
		}
		var a Access
		if request := strings.Fields(quoted[1]); len(request) > 1 {
			a.Path = request[1]
		}
		if _, err := fmt.Sscanf(quoted[2], " %d %d ", &a.Status, &a.Bytes); err != nil {
			return nil, fmt.Errorf("read icecast access log: line %q: %w", line, err)
		}
		a.UserAgent = strings.Join(quoted[5:len(quoted)-1], `"`)
		if a.Seconds, err = strconv.ParseInt(strings.TrimSpace(quoted[len(quoted)-1]), 10, 64); err != nil {
			return nil, fmt.Errorf("read icecast access log: line %q: %w", line, err)
		}
		all = append(all, a)
	}
	return all, nil
}
