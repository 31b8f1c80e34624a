package daemon

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are what Prometheus reads: on the control socket, and where the declared file of repositories says.
type metrics struct {
	registry *prometheus.Registry
	repairs  *prometheus.CounterVec
	http.Handler
}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), repairs: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "stack_loop_actions_total", Help: "Actions that the daemon took by itself, such as the repair of drift, by how they ended.",
	}, []string{"stack", "action", "outcome"})}
	m.registry.MustRegister(m.repairs)
	m.Handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
	return m
}

// repaired counts what the daemon does by itself.
func (m *metrics) repaired(stack, action string, err error) {
	outcome := "done"
	if err != nil {
		outcome = "failed"
	}
	m.repairs.WithLabelValues(stack, action, outcome).Inc()
}

// containers counts containers when somebody asks.
type containers struct{ *parts }

var (
	containersGauge = prometheus.NewDesc("stack_containers", "Containers of a stack by state, one-off ones left out.", []string{"stack", "state"}, nil)
	unhealthyGauge  = prometheus.NewDesc("stack_containers_unhealthy", "Running containers of a stack whose health check fails.", []string{"stack"}, nil)
)

// Describe implements prometheus.Collector.
func (c containers) Describe(ch chan<- *prometheus.Desc) {
	ch <- containersGauge
	ch <- unhealthyGauge
}

// Collect implements prometheus.Collector.
func (c containers) Collect(ch chan<- prometheus.Metric) {
	names, err := c.reconciler.Stacks()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(containersGauge, err)
		return
	}
	for _, name := range names {
		states := map[string]float64{}
		unhealthy := 0.0
		for _, s := range c.reconciler.Containers(name) {
			if s.OneOff {
				continue
			}
			states[s.State]++
			if s.Health == "unhealthy" {
				unhealthy++
			}
		}
		for state, n := range states {
			ch <- prometheus.MustNewConstMetric(containersGauge, prometheus.GaugeValue, n, name, state)
		}
		ch <- prometheus.MustNewConstMetric(unhealthyGauge, prometheus.GaugeValue, unhealthy, name)
	}
}
