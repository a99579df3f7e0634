package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"vigil/durable"
	"vigil/failover"
	"vigil/fleet"
)

const (
	// The last good addresses of the service stand beside the segments; the spool
	// ignores files that it does not know.
	addressFileName = "service-addresses.json"
	maxTokenBytes   = 4 << 10
	maxCABytes      = 1 << 20
)

// addressFile keeps the last good addresses over a restart.
type addressFile struct {
	fs   durable.FS
	name string
}

func (f addressFile) Load() ([]byte, error) {
	data, err := durable.ReadFile(f.fs, f.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

func (f addressFile) Save(data []byte) error { return durable.WriteFile(f.fs, f.name, data, 0o600) }

func parseSeeds(texts []string) ([]netip.Addr, error) {
	var seeds []netip.Addr
	for _, text := range texts {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return nil, &fleet.Error{
				Kind: fleet.KindInvalid, Message: fmt.Sprintf("%q is not an IP address", text),
				Hint: "write literal addresses into service.addresses, without port", Err: err,
			}
		}
		seeds = append(seeds, addr)
	}
	return seeds, nil
}

// tlsConfig trusts the configured certificates only, or the system's.
func (a *Agent) tlsConfig(base *url.URL) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: base.Hostname()}
	if a.cfg.Service.CAFile == "" {
		return config, nil
	}
	data, err := readSmall(a.cfg.Service.CAFile, maxCABytes)
	if err != nil {
		return nil, &fleet.Error{
			Kind: fleet.KindInvalid, Message: "the certificates of service.ca_file cannot be read", Hint: "check the path and its permissions", Err: err,
		}
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(data) {
		return nil, &fleet.Error{
			Kind: fleet.KindInvalid, Message: fmt.Sprintf("%s holds no PEM certificate", a.cfg.Service.CAFile), Hint: "service.ca_file needs PEM blocks of type CERTIFICATE",
		}
	}
	return config, nil
}

// tokenFile reads the token each time, so that a new one counts without a restart.
func tokenFile(name string) func() (string, error) {
	return func() (string, error) {
		data, err := readSmall(name, maxTokenBytes)
		if err != nil {
			return "", fmt.Errorf("read token file: %w", err)
		}
		token := strings.TrimSpace(string(data))
		if token == "" || strings.ContainsAny(token, " \t\r\n") {
			return "", errors.New("token file does not hold exactly one token")
		}
		return token, nil
	}
}

func readSmall(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return data, nil
}

// failoverEvent logs what changes: an address that fails, and the same address when it
// answers again. That it still fails is said at debug, or an outage would fill the log.
func (a *Agent) failoverEvent(e failover.Event) {
	level := slog.LevelInfo
	switch e.What {
	case failover.EventHedged, failover.EventRetried:
		a.log.Debug("request took another way", "what", e.What, "address", e.Addr, "detail", e.Detail)
		return
	case failover.EventLastResort:
		level = slog.LevelDebug
	case failover.EventQuarantined:
		a.mu.Lock()
		if a.badAddrs[e.Addr] {
			level = slog.LevelDebug
		}
		a.badAddrs[e.Addr] = true
		a.mu.Unlock()
	case failover.EventRecovered:
		a.mu.Lock()
		delete(a.badAddrs, e.Addr)
		a.mu.Unlock()
	case failover.EventAddresses:
		a.mu.Lock()
		clear(a.badAddrs)
		a.mu.Unlock()
	}
	a.log.Log(context.Background(), level, "service address", "what", e.What, "address", e.Addr, "detail", e.Detail)
}
