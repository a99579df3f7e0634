package media

import (
	"context"
	"net/url"

	"vigil/config"
	"vigil/fleet"
)

type fetcher struct{}

func newFetcher(cfg config.MediaServer, base *url.URL, deps Deps) *fetcher { return &fetcher{} }

type tmpCollector struct{ name string }

func (c tmpCollector) Collect(context.Context) *fleet.Reading {
	return &fleet.Reading{Server: fleet.ServerInfo{Key: c.name}, Status: fleet.StatusUnreachable}
}
func newIcecast(cfg config.MediaServer, f *fetcher) Collector   { return tmpCollector{cfg.Name} }
func newNginxRTMP(cfg config.MediaServer, f *fetcher) Collector { return tmpCollector{cfg.Name} }
func redactURL(s string) string                                { return s }
func redactedParseError(err error) error                       { return err }
