package fleetsim

import "fmt"

// Media is what a stream carries. Video fields are empty for audio streams.
type Media struct {
	BytesPerMs      int64 // audio and video together, constant
	AudioBytesPerMs int64

	VideoCodec   string
	VideoProfile string
	VideoCompat  int
	VideoLevel   string
	Width        int
	Height       int
	Fps          int

	AudioCodec   string // as the product prints it: AAC, or Vorbis and the like as icecast's subtype
	AudioProfile string
	Channels     int
	SampleRate   int

	ContentType string // icecast
	Extension   string // of an icecast mount
}

func (s *Server) pickMedia(seed uint64) *Media {
	h := hash2(seed, 10)
	if s.product == ProductIcecast {
		table := s.fleet.audio
		return &table[min(h%uint64(len(table)), (h>>32)%uint64(len(table)))]
	}
	table := s.fleet.video
	return &table[h%uint64(len(table))]
}

func videoMedia() []Media {
	aac := Media{AudioCodec: "AAC", AudioProfile: "LC", Channels: 2, SampleRate: 48000, AudioBytesPerMs: 16, VideoCodec: "H264", Fps: 25}
	variant := func(perMs int64, w, h, fps int, profile, level string) Media {
		m := aac
		m.BytesPerMs, m.Width, m.Height, m.Fps, m.VideoProfile, m.VideoLevel = perMs, w, h, fps, profile, level
		return m
	}
	mono := variant(22, 320, 180, 25, "High", "1.2")
	mono.Channels, mono.SampleRate, mono.AudioBytesPerMs = 1, 44100, 6
	return []Media{
		mono,
		variant(100, 640, 360, 25, "Main", "3.0"),
		variant(185, 854, 480, 30, "Main", "3.1"),
		variant(312, 1280, 720, 25, "High", "3.1"),
		variant(437, 1280, 720, 50, "High", "3.2"),
		variant(625, 1920, 1080, 30, "High", "4.0"),
	}
}

func audioMedia() []Media {
	return []Media{
		{BytesPerMs: 16, AudioBytesPerMs: 16, ContentType: "audio/mpeg", Extension: ".mp3"},
		{BytesPerMs: 8, AudioBytesPerMs: 8, ContentType: "audio/mpeg", Extension: ".mp3"},
		{BytesPerMs: 24, AudioBytesPerMs: 24, AudioCodec: "Vorbis", Channels: 2, SampleRate: 44100, ContentType: "application/ogg", Extension: ".ogg"},
		{BytesPerMs: 12, AudioBytesPerMs: 12, AudioCodec: "Vorbis", Channels: 2, SampleRate: 48000, ContentType: "application/ogg", Extension: ".ogg"},
		{BytesPerMs: 40, AudioBytesPerMs: 40, ContentType: "audio/mpeg", Extension: ".mp3"},
		{BytesPerMs: 8, AudioBytesPerMs: 8, ContentType: "audio/aac", Extension: ".aac"},
	}
}

// Apps returns the nginx-rtmp applications of the server; the last one never has a
// stream. Icecast has none.
func (s *Server) Apps() []string {
	if s.product == ProductIcecast {
		return nil
	}
	return []string{"live", "events", "spare"}
}

func (s *Server) streamName(i int) (app, name string) {
	name = fmt.Sprintf("cam-%04d", i+1)
	app = "live"
	if i%7 == 6 {
		app, name = "events", fmt.Sprintf("event-%04d", i+1)
	}
	if !s.fleet.cfg.PlainNames && s.index%4 == 0 {
		if odd, ok := oddName(i); ok {
			app, name = "live", odd
		}
	}
	if s.product == ProductIcecast {
		return "", "/" + name + s.pickMedia(hash2(s.seed, uint64(i)+1)).Extension
	}
	return app, name
}

// oddName returns names that break naive code. The first two are one name to
// nginx-rtmp, which prints a space for each byte that is not ASCII.
func oddName(i int) (string, bool) {
	odd := map[int]string{
		3:  "é1",
		5:  "è1",
		7:  "a&b",
		9:  `x<y>"z'`,
		11: "новости",
		13: "日本 テレビ",
		15: "with space",
		17: "100%25?a=b",
		19: "]]>",
	}
	name, ok := odd[i]
	return name, ok
}
