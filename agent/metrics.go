package agent

import (
	"vigil/fleet"
	"vigil/health"
	"vigil/observe"
)

// metrics are those of one agent.
type metrics struct {
	spooled, acknowledged, rejected observe.Counter
	requests                        *observe.CounterVec
	polls                           *observe.CounterVec
	pollSeconds                     *observe.GaugeVec
	unknownFields                   *observe.GaugeVec
	spoolShare, backlog             observe.Gauge
	conditions                      *observe.GaugeVec
}

func newMetrics(r *observe.Registry) *metrics {
	return &metrics{
		spooled:      r.Counter("vigil_agent_packets_spooled_total", "Packets synced to the disk queue.").With(),
		acknowledged: r.Counter("vigil_agent_packets_acknowledged_total", "Packets that the service made durable; merged ones count for all they hold.").With(),
		rejected:     r.Counter("vigil_agent_packets_rejected_total", "Packets that the service will never take.").With(),
		requests:     r.Counter("vigil_agent_requests_total", "Answers to packets, by category.", "category"),
		polls:        r.Counter("vigil_agent_polls_total", "Polls of media servers, by status.", "server", "status"),
		pollSeconds:  r.Gauge("vigil_agent_poll_seconds", "Time that the last poll of a media server took.", "server"),
		unknownFields: r.Gauge("vigil_agent_poll_unknown_fields",
			"Elements of the last poll that the collector does not know: the server may be newer than the collector.", "server"),
		spoolShare: r.Gauge("vigil_agent_spool_used_ratio", "Part of the disk queue that waiting packets take.").With(),
		backlog:    r.Gauge("vigil_agent_backlog_packets", "Records in the disk queue that wait.").With(),
		conditions: r.Gauge("vigil_agent_conditions", "Conditions that are shown now, by severity.", "severity"),
	}
}

func (m *metrics) request(category string) { m.requests.With(category).Inc() }

func (m *metrics) health(r *health.Registry) {
	for _, severity := range health.Severities() {
		m.conditions.With(severity.String()).Set(float64(r.Count(severity)))
	}
}

func (m *metrics) poll(server string, s *fleet.Snapshot) {
	m.polls.With(server, s.Status.String()).Inc()
	m.pollSeconds.With(server).Set(float64(s.LatencyMs) / 1_000)
	m.unknownFields.With(server).Set(float64(s.UnknownFields))
}
