package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"vigil/fleet"
	"vigil/media/mediatest/real"
)

// How large the real fleet is: small enough for two cores.
const (
	realViewers   = 3 // of the first RTMP stream; the second has one
	realListeners = 4 // of the first mount
	realStartWait = 60 * time.Second
)

// realFleet is nginx with its rtmp module and Icecast on loopback, ffmpeg publishing
// to both, and viewers.
type realFleet struct {
	lab       *real.Lab
	listeners []*real.Listener
}

func newRealFleet(Options) *realFleet { return &realFleet{} }

func (f *realFleet) start(ctx context.Context, to destination, c *crew) error {
	dir := filepath.Join(filepath.Dir(to.dir), "media-servers")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the directory of the media servers: %w", err)
	}
	// Icecast does not run as root, and whoever it becomes must reach its files.
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		return fmt.Errorf("open the demo's directory to the media servers: %w", err)
	}
	lab, err := real.NewLab(context.WithoutCancel(ctx), dir)
	if err != nil {
		return asMissing(err)
	}
	f.lab = lab
	ctx, cancel := context.WithTimeout(ctx, realStartWait)
	defer cancel()
	if err := f.startNginx(ctx, to, c); err != nil {
		return asMissing(err)
	}
	return asMissing(f.startIcecast(ctx, to, c))
}

// asMissing explains a program that is not installed.
func asMissing(err error) error {
	if !errors.Is(err, real.ErrMissingTool) {
		return err
	}
	return &fleet.Error{
		Kind:    fleet.KindMissing,
		Message: "the demo with real media servers needs programs that are not installed",
		Hint:    real.InstallCommand + "   (or leave out -real)",
		Err:     err,
	}
}

func (f *realFleet) startNginx(ctx context.Context, to destination, c *crew) error {
	nginx, err := f.lab.StartNginx(ctx, real.NginxOptions{})
	if err != nil {
		return err
	}
	clip, err := f.lab.VideoClip(ctx)
	if err != nil {
		return err
	}
	for name, viewers := range map[string]int{"news": realViewers, "sport": 1} {
		if _, err := f.lab.PublishRTMP(ctx, nginx, "live", name, clip); err != nil {
			return err
		}
		for range viewers {
			if _, err := f.lab.WatchRTMP(nginx, "live", name); err != nil {
				return err
			}
		}
	}
	return c.hire(to, watched{name: "nginx", product: "nginx-rtmp", url: nginx.StatURL})
}

func (f *realFleet) startIcecast(ctx context.Context, to destination, c *crew) error {
	icecast, err := f.lab.StartIcecast(ctx, real.IcecastOptions{})
	if err != nil {
		return err
	}
	mp3, err := f.lab.MP3Clip(ctx)
	if err != nil {
		return err
	}
	ogg, err := f.lab.OggClip(ctx)
	if err != nil {
		return err
	}
	for mount, clip := range map[string]real.Clip{"/jazz.mp3": mp3, "/talk.ogg": ogg} {
		if _, err := f.lab.PublishIcecast(ctx, icecast, mount, clip, real.SourceOptions{Name: "Vigil demo"}); err != nil {
			return err
		}
	}
	for i := range realListeners {
		l, err := icecast.Listen("/jazz.mp3", fmt.Sprintf("demo-player/%d", i+1))
		if err != nil {
			return err
		}
		f.listeners = append(f.listeners, l)
	}
	return c.hire(to, watched{
		name: "icecast", product: "icecast", url: icecast.URL, user: real.IcecastAdmin, password: real.IcecastPassword,
	})
}

// truth is unknown: no real server tells it.
func (f *realFleet) truth(map[string]span) (int64, bool) { return 0, false }

func (f *realFleet) close() error {
	for _, l := range f.listeners {
		l.Close()
	}
	if f.lab != nil {
		f.lab.Close()
	}
	return nil
}
