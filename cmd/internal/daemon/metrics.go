package daemon

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are what Prometheus reads: on the control socket, and where the declared file of repositories says.
type metrics struct {
	registry *prometheus.Registry
	http.Handler
}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	m.Handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
	return m
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
