package real

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// Clip is a file that ffmpeg can publish again and again without encoding.
type Clip struct {
	Path       string
	Bytes      int64
	Seconds    float64 // as asked for; frames make it a little more or less
	BitsPerSec int64   // of the file, container included
	format     string
}

// clipSeconds is long enough that the seam of the loop is a small part of it, and two
// loops fill a bucket of half a minute.
const clipSeconds = 15

// VideoClip encodes, once per lab, 15 s of H.264 320x180 at 25/s with AAC in FLV.
func (l *Lab) VideoClip(ctx context.Context) (Clip, error) {
	return l.clip(ctx, "video.flv", "flv", "-f", "lavfi", "-i", "testsrc=size=320x180:rate=25", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100",
		"-c:v", "libx264", "-preset", "veryfast", "-b:v", "200k", "-maxrate", "200k", "-bufsize", "200k", "-g", "50", "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "48k", "-ac", "1")
}

// MP3Clip encodes, once per lab, 15 s of MP3 at 64 kbit/s.
func (l *Lab) MP3Clip(ctx context.Context) (Clip, error) {
	return l.clip(ctx, "audio.mp3", "mp3", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100", "-c:a", "libmp3lame", "-b:a", "64k", "-ac", "1")
}

// OggClip encodes, once per lab, 15 s of noisy Ogg Vorbis.
func (l *Lab) OggClip(ctx context.Context) (Clip, error) {
	return l.clip(ctx, "audio.ogg", "ogg", "-f", "lavfi", "-i", "anoisesrc=sample_rate=44100:amplitude=0.3", "-c:a", "libvorbis", "-b:a", "64k", "-ac", "1")
}

func (l *Lab) clip(ctx context.Context, name, format string, args ...string) (Clip, error) {
	ffmpeg, err := tool("ffmpeg")
	if err != nil {
		return Clip{}, err
	}
	l.clipsMu.Lock()
	defer l.clipsMu.Unlock()
	if clip, ok := l.clips[name]; ok {
		return clip, nil
	}
	path := filepath.Join(l.dir, name)
	ctx, cancel := context.WithTimeout(ctx, encodeLimit)
	defer cancel()
	full := append([]string{"-hide_banner", "-loglevel", "error", "-nostdin", "-y"}, args...)
	full = append(full, "-t", fmt.Sprint(clipSeconds), "-f", format, path)
	if out, err := exec.CommandContext(ctx, ffmpeg, full...).CombinedOutput(); err != nil {
		return Clip{}, fmt.Errorf("encode %s: %w: %s", name, err, tail(string(out)))
	}
	info, err := os.Stat(path)
	if err != nil {
		return Clip{}, fmt.Errorf("encode %s: %w", name, err)
	}
	clip := Clip{Path: path, Bytes: info.Size(), Seconds: clipSeconds, BitsPerSec: info.Size() * 8 / clipSeconds, format: format}
	l.clips[name] = clip
	return clip, nil
}

// PublishRTMP publishes a clip in a loop, in real time, as app/name. It returns when
// nginx shows the stream with a publisher.
func (l *Lab) PublishRTMP(ctx context.Context, n *Nginx, app, name string, clip Clip) (*Process, error) {
	p, err := l.ffmpeg("publish "+name, append(loop(clip), "-f", "flv", n.RTMPURL+"/"+app+"/"+name)...)
	if err != nil {
		return nil, err
	}
	path, _, _ := strings.Cut(name, "?")
	err = p.await(ctx, "nginx shows "+path, func(ctx context.Context) error {
		page, err := n.Stat(ctx)
		if err != nil {
			return err
		}
		streams, err := ParseStat(page)
		if err != nil {
			return err
		}
		for _, s := range streams {
			if s.App == app && s.Name == shown(path) && s.Publishing != nil && s.BytesIn > 0 {
				return nil
			}
		}
		return fmt.Errorf("it shows %+v", streams)
	})
	if err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

// shown is a stream's name as nginx-rtmp prints it: a space for what is not printable
// ASCII.
func shown(name string) string {
	out := []byte(name)
	for i, c := range out {
		if c < 0x20 || c >= 0x7f {
			out[i] = ' '
		}
	}
	return string(out)
}

// SourceOptions are what an Icecast source says about itself.
type SourceOptions struct {
	Name  string // of the station
	Genre string
}

// PublishIcecast publishes a clip in a loop, in real time, to a mount ("/a.mp3"). It
// returns when Icecast shows the mount.
func (l *Lab) PublishIcecast(ctx context.Context, i *Icecast, mount string, clip Clip, opts SourceOptions) (*Process, error) {
	kind := "audio/mpeg"
	if clip.format == "ogg" {
		kind = "application/ogg"
	}
	args := append(loop(clip), "-content_type", kind)
	if opts.Name != "" {
		args = append(args, "-ice_name", opts.Name)
	}
	if opts.Genre != "" {
		args = append(args, "-ice_genre", opts.Genre)
	}
	target := url.URL{Scheme: "icecast", User: url.UserPassword("source", sourcePassword), Host: fmt.Sprintf("127.0.0.1:%d", i.port), Path: mount}
	p, err := l.ffmpeg("source "+mount, append(args, "-f", clip.format, target.String())...)
	if err != nil {
		return nil, err
	}
	err = p.await(ctx, "icecast shows "+mount, func(ctx context.Context) error {
		mounts, err := i.Mounts(ctx)
		if err != nil {
			return err
		}
		for _, m := range mounts {
			if m.Name == mount {
				return nil
			}
		}
		return fmt.Errorf("it shows %+v", mounts)
	})
	if err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

func loop(clip Clip) []string {
	return []string{"-re", "-stream_loop", "-1", "-i", clip.Path, "-c", "copy"}
}

// WatchRTMP is a viewer of app/name that throws everything away.
func (l *Lab) WatchRTMP(n *Nginx, app, name string) (*Process, error) {
	return l.ffmpeg("watch "+name, "-i", n.RTMPURL+"/"+app+"/"+name, "-c", "copy", "-f", "null", "-")
}

func (l *Lab) ffmpeg(name string, args ...string) (*Process, error) {
	path, err := tool("ffmpeg")
	if err != nil {
		return nil, err
	}
	return l.start(l.dir, name, path, append([]string{"-hide_banner", "-loglevel", "error", "-nostdin"}, args...)...)
}

// Listener is a listener of an Icecast mount.
type Listener struct {
	received atomic.Int64
	cancel   context.CancelFunc
	done     chan struct{}
}

// Listen connects to a mount and reads until Close or until the server ends it. It
// returns when the answer has begun. The connection is the listener's own.
func (i *Icecast) Listen(mount, userAgent string) (*Listener, error) {
	ctx, cancel := context.WithCancel(i.lab.ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, i.URL+mount, nil)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("listen to %s: %w", mount, err)
	}
	req.Header.Set("User-Agent", userAgent)
	resp, err := (&http.Transport{DisableKeepAlives: true, ResponseHeaderTimeout: readyTimeout}).RoundTrip(req)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("listen to %s: %w", mount, err)
	}
	if resp.StatusCode != http.StatusOK {
		cancel()
		resp.Body.Close()
		return nil, fmt.Errorf("listen to %s: %s", mount, resp.Status)
	}
	listener := &Listener{cancel: cancel, done: make(chan struct{})}
	go listener.read(resp.Body)
	return listener, nil
}

func (l *Listener) read(body io.ReadCloser) {
	defer close(l.done)
	defer body.Close()
	defer l.cancel()
	buf := make([]byte, 16<<10)
	for {
		n, err := body.Read(buf)
		l.received.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// Received returns the bytes of the stream that have come, without HTTP headers.
func (l *Listener) Received() int64 { return l.received.Load() }

// Ended is closed when the connection has ended.
func (l *Listener) Ended() <-chan struct{} { return l.done }

// Close disconnects.
func (l *Listener) Close() {
	l.cancel()
	select {
	case <-l.done:
	case <-time.After(stopTimeout):
	}
}
