package demo

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"vigil/config"
	"vigil/fleet"
	"vigil/node"
)

// adminName is the account of the demo.
const adminName = "admin"

// credentials are what lets people and agents in.
type credentials struct {
	user, password string
	tokenFile      string
}

// configuration is what a user would write in the file of a small installation.
func (d *demo) configuration() (*config.Service, error) {
	panel := d.o.Listen
	if panel == "" {
		panel = freeOr(defaultPanel)
	}
	text := strings.Join([]string{
		fmt.Sprintf("data_dir = %q", filepath.Join(d.dir, "service")),
		"[observe]", `listen = ""`,
		"[ingest]", `listen = "127.0.0.1:0"`,
		"[panel]", fmt.Sprintf("listen = %q", panel),
	}, "\n")
	cfg, _, err := config.LoadService(config.Source{Name: "demo", Data: []byte(text), Host: "demo"})
	return cfg, err
}

// freeOr returns the address when nothing listens there, otherwise the same address
// with a free port.
func freeOr(address string) string {
	l, err := net.Listen("tcp", address)
	if err != nil {
		host, _, _ := net.SplitHostPort(address)
		return net.JoinHostPort(host, "0")
	}
	_ = l.Close() // it was only asked whether the port is free
	return address
}

// prepare makes the data directory on the first run of a demo, and finds the
// credentials of an earlier one.
func prepare(ctx context.Context, cfg *config.Service, dir string) (credentials, error) {
	c := credentials{user: adminName, tokenFile: filepath.Join(dir, "agent-token")}
	passwordFile := filepath.Join(dir, "admin-password")
	if password, err := os.ReadFile(passwordFile); err == nil {
		c.password = strings.TrimSpace(string(password))
		return c, nil
	}
	self, ok := cfg.Node("")
	if !ok {
		return c, &fleet.Error{Kind: fleet.KindInternal, Message: "the demo has no node"}
	}
	made, err := node.Init(ctx, self, node.InitOptions{Admin: adminName, Agents: "*"})
	if err != nil {
		return c, err
	}
	c.password = made.Password
	if err := os.WriteFile(c.tokenFile, []byte(made.AgentToken+"\n"), 0o600); err != nil {
		return c, fmt.Errorf("write the agents' token: %w", err)
	}
	// Last, because its presence says that everything before was done.
	if err := os.WriteFile(passwordFile, []byte(made.Password+"\n"), 0o600); err != nil {
		return c, fmt.Errorf("write the password: %w", err)
	}
	return c, nil
}
