package config

import (
	"fmt"
	"net"
	"slices"
	"time"
)

// The roles of a node.
const (
	RoleIngest  = "ingest"
	RoleStorage = "storage"
	RolePanel   = "panel"
)

// soleNode is the name of the node when the file has no [[node]]. It is part of what
// is stored: never change it.
const soleNode = "vigil"

// minAgentInterval is the shortest interval that the service may ask agents for.
const minAgentInterval = time.Second

// complete fills what follows from other values.
func (c *Service) complete() {
	if len(c.Nodes) == 0 {
		c.Nodes = []Node{{Name: soleNode}}
	}
	for i := range c.Nodes {
		if c.Nodes[i].DataDir == "" {
			c.Nodes[i].DataDir = c.DataDir
		}
		if len(c.Nodes[i].Roles) == 0 {
			c.Nodes[i].Roles = []string{RoleIngest, RoleStorage, RolePanel}
		}
	}
}

// Node returns the node with a name. The empty name means the only node.
func (c *Service) Node(name string) (Node, bool) {
	if name == "" && len(c.Nodes) == 1 {
		return c.Nodes[0], true
	}
	for _, n := range c.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return Node{}, false
}

// Has reports whether the node has a role.
func (n Node) Has(role string) bool { return slices.Contains(n.Roles, role) }

// checkService holds the rules between keys of the service.
func checkService(c *Service, l *loader) {
	for i, n := range c.Nodes {
		key := fmt.Sprintf("node[%d]", i)
		if n.Name == "" {
			l.rule(key+".name", "is missing")
		}
		if n.Has(RolePanel) && !n.Has(RoleStorage) {
			l.rule(key+".roles", "a panel needs the role storage on the same node")
		}
	}
	if len(c.Nodes) > 1 {
		l.rule("node[1]", "this version runs one node; remove the others")
	}
	checkPair(l, "ingest", c.Ingest.TLSCertificateFile, c.Ingest.TLSKeyFile)
	checkPair(l, "panel", c.Panel.TLSCertificateFile, c.Panel.TLSKeyFile)
	checkListeners(l, c)
	if c.Ingest.MaxDecodedBytes < c.Ingest.MaxPacketBytes {
		l.rule("ingest.max_decoded_bytes", "must not be less than ingest.max_packet_bytes")
	}
	if c.Ingest.MaxInFlightBytes < c.Ingest.MaxPacketBytes {
		l.rule("ingest.max_in_flight_bytes", "must not be less than ingest.max_packet_bytes")
	}
	if c.Journal.PublishTimeout > c.Ingest.AckTimeout {
		l.rule("journal.publish_timeout", "must not be longer than ingest.ack_timeout")
	}
	if c.Storage.MinuteFor < c.Storage.RawFor {
		l.rule("storage.minute_for", "must not be shorter than storage.raw_for")
	}
	if c.Storage.QuarterFor < c.Storage.MinuteFor {
		l.rule("storage.quarter_for", "must not be shorter than storage.minute_for")
	}
	if d := c.Ingest.AgentInterval; d != 0 && d < minAgentInterval {
		l.rule("ingest.agent_interval", "must be 0s or at least 1s")
	}
}

func checkPair(l *loader, section, certificate, key string) {
	if certificate != "" && key == "" {
		l.rule(section+".tls_key_file", "must be given together with tls_certificate_file")
	}
	if certificate == "" && key != "" {
		l.rule(section+".tls_certificate_file", "must be given together with tls_key_file")
	}
}

// checkListeners refuses two listeners on one port, except on different addresses and
// for port 0, which means any free one.
func checkListeners(l *loader, c *Service) {
	listeners := []struct{ key, addr string }{
		{"ingest.listen", c.Ingest.Listen}, {"panel.listen", c.Panel.Listen}, {"observe.listen", c.Observe.Listen},
	}
	for i, a := range listeners {
		if a.addr == "" && a.key != "observe.listen" {
			l.rule(a.key, "must not be empty; a role is turned off by leaving it out of the node's roles")
		}
		for _, b := range listeners[:i] {
			if collide(a.addr, b.addr) {
				l.rule(a.key, "uses the port of "+b.key)
			}
		}
	}
}

func collide(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	return errA == nil && errB == nil && portA == portB && portA != "0" &&
		(hostA == hostB || isWildcard(hostA) || isWildcard(hostB))
}

func isWildcard(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }

// checkAgent holds the rules between keys of the agent.
func checkAgent(c *Agent, l *loader) {
	if c.Service.URL == "" {
		l.rule("service.url", "is missing; write the address of the service")
	}
	if c.Service.TokenFile == "" {
		l.rule("service.token_file", "is missing; write the path of a file with the agent token")
	}
	if len(c.Servers) == 0 {
		l.rule("server", "is missing; write one [[server]] section for each media server to watch")
	}
	seen := map[string]bool{}
	for i, s := range c.Servers {
		key := fmt.Sprintf("server[%d]", i)
		for _, need := range []struct{ key, value string }{
			{"name", s.Name}, {"product", s.Product}, {"url", s.URL},
		} {
			if need.value == "" {
				l.rule(key+"."+need.key, "is missing")
			}
		}
		if s.Name != "" && seen[s.Name] {
			l.rule(key+".name", "another server has this name already")
		}
		seen[s.Name] = true
		if s.Timeout > c.Interval {
			l.rule(key+".timeout", "must not be longer than interval")
		}
		if s.Username == "" && s.PasswordFile != "" {
			l.rule(key+".username", "must be given together with password_file")
		}
		if s.Username != "" && s.PasswordFile == "" {
			l.rule(key+".password_file", "must be given together with username")
		}
	}
}
