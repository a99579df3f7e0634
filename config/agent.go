package config

import "time"

// Agent is the file that `vigil-agent run` reads.
type Agent struct {
	Name          string        `toml:"name"` // of this agent; host name when empty
	SpoolDir      string        `toml:"spool_dir"`
	SpoolMaxBytes int64         `toml:"spool_max_bytes"`
	Interval      time.Duration `toml:"interval"` // between polls; one packet each

	Service AgentService  `toml:"service"`
	Servers []MediaServer `toml:"server"`
	Log     Log           `toml:"log"`
	Observe Observe       `toml:"observe"`
}

// AgentService says where packets go.
type AgentService struct {
	URL       string   `toml:"url"` // https://stats.example.net
	TokenFile string   `toml:"token_file"`
	Addresses []string `toml:"addresses"` // literal addresses used when DNS has no answer
	CAFile    string   `toml:"ca_file"`   // trust only this; system roots when empty
}

// MediaServer is one media server that the agent watches.
type MediaServer struct {
	Name            string        `toml:"name"`    // stable key of the server in the whole fleet
	Product         string        `toml:"product"` // nginx-rtmp, icecast
	URL             string        `toml:"url"`
	Username        string        `toml:"username"`
	PasswordFile    string        `toml:"password_file"`
	Timeout         time.Duration `toml:"timeout"`
	ClientListEvery time.Duration `toml:"client_list_every"` // per-viewer lists that cost extra requests; 0: never
}
