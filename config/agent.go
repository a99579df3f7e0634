package config

import "time"

// Agent is the file that `vigil-agent run` reads.
type Agent struct {
	// Name is what the agent is called in the whole fleet. Empty means the name of
	// the machine. Two agents must not have the same name and token.
	Name string `toml:"name" default:"" kind:"name"`
	// SpoolDir is the directory of the packets that are not yet stored by the
	// service. It belongs to this agent alone.
	SpoolDir string `toml:"spool_dir" default:"/var/lib/vigil-agent/spool" kind:"file"`
	// SpoolMaxBytes is how much disk the spool may take. When it is full, samples are
	// merged to coarser time first, with exact sums; only then are the oldest given
	// up, and the gap is reported.
	SpoolMaxBytes int64 `toml:"spool_max_bytes" default:"512MiB" limit:"1MiB..1TiB" kind:"size"`
	// Interval is the time between two polls of a media server, and between two
	// packets. The service may ask for another one.
	Interval time.Duration `toml:"interval" default:"10s" limit:"1s..5m"`

	Service AgentService `toml:"service"`
	// Servers are the media servers that this agent watches.
	Servers []MediaServer `toml:"server"`
	Log     Log           `toml:"log"`
	Observe Observe       `toml:"observe" defaults:"listen=127.0.0.1:8491"`
}

// AgentService says where packets go.
type AgentService struct {
	// URL is the address of the service. All addresses that its name has in DNS are
	// used.
	URL string `toml:"url" required:"true" kind:"url" example:"https://stats.example.net"`
	// TokenFile is a file with the token that `vigil init` printed for agents.
	TokenFile string `toml:"token_file" required:"true" kind:"file" example:"/etc/vigil-agent/token"`
	// Addresses are literal IP addresses that are used when DNS has no answer.
	Addresses []string `toml:"addresses" default:"" kind:"ip"`
	// CAFile is a PEM file with the only certificates to trust. Empty means those of
	// the system.
	CAFile string `toml:"ca_file" default:"" kind:"file"`
}

// MediaServer is one media server that the agent watches.
type MediaServer struct {
	// Name is the key of the server in the whole fleet. Its history hangs on it: do
	// not change it later.
	Name string `toml:"name" required:"true" kind:"name" example:"edge1"`
	// Product is what the server is.
	Product string `toml:"product" required:"true" one_of:"nginx-rtmp|icecast" example:"nginx-rtmp"`
	// URL is the address of the server's statistics: the page with the directive
	// `rtmp_stat all` of nginx-rtmp, or the root of Icecast.
	URL string `toml:"url" required:"true" kind:"url" example:"http://127.0.0.1:8080/stat"`
	// Username is for servers that ask for one.
	Username string `toml:"username" default:""`
	// PasswordFile is a file with the password of that user.
	PasswordFile string `toml:"password_file" default:"" kind:"file"`
	// Timeout is how long one poll may take. It must not be longer than the interval.
	Timeout time.Duration `toml:"timeout" default:"5s" limit:"100ms..1m"`
	// ClientListEvery is how often lists of single viewers are read, where they cost
	// extra requests (Icecast). 0s means never.
	ClientListEvery time.Duration `toml:"client_list_every" default:"1m" limit:"0s..1d"`
}
