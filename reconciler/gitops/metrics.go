package gitops

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/stack-run/stack/reconciler/gitops/status"
)

// metrics counts what happens; what is, it asks for when somebody looks.
type metrics struct {
	attempts *prometheus.CounterVec
	duration *prometheus.HistogramVec
	webhooks *prometheus.CounterVec
}

func newMetrics() *metrics {
	return &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stack_gitops_reconciliations_total", Help: "Attempts to make stacks what their repository says, by how they ended.",
		}, []string{"repository", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "stack_gitops_reconciliation_seconds", Help: "How long attempts took.",
			Buckets: []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"repository"}),
		webhooks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "stack_gitops_webhooks_total", Help: "Webhooks by how they ended: accepted, forged, limited.",
		}, []string{"outcome"}),
	}
}

var (
	readyGauge = prometheus.NewDesc("stack_gitops_ready", "Whether a repository's stacks are what it says.", []string{"repository", "reason"}, nil)
	suspended  = prometheus.NewDesc("stack_gitops_suspended", "Whether a repository is left alone.", []string{"repository"}, nil)
	appliedAt  = prometheus.NewDesc("stack_gitops_applied_commit_timestamp_seconds", "When the applied revision was committed.", []string{"repository"}, nil)
	stackGauge = prometheus.NewDesc("stack_gitops_stacks", "Stacks of a repository by outcome.", []string{"repository", "outcome"}, nil)
)

// Describe implements prometheus.Collector.
func (c *Controller) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{readyGauge, suspended, appliedAt, stackGauge} {
		ch <- d
	}
	c.metrics.attempts.Describe(ch)
	c.metrics.duration.Describe(ch)
	c.metrics.webhooks.Describe(ch)
}

// Collect implements prometheus.Collector.
func (c *Controller) Collect(ch chan<- prometheus.Metric) {
	for _, r := range c.all() {
		s := r.snapshot()
		gauge := func(d *prometheus.Desc, value float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append([]string{r.name}, labels...)...)
		}
		ready := s.Condition(status.Ready)
		gauge(readyGauge, number(ready.Status == status.True), ready.Reason)
		gauge(suspended, number(s.Suspended || r.definition().Suspend))
		if !s.Applied.Time.IsZero() {
			gauge(appliedAt, float64(s.Applied.Time.Unix()))
		}
		outcomes := map[string]float64{}
		for _, st := range s.Stacks {
			outcomes[st.Outcome]++
		}
		for outcome, n := range outcomes {
			gauge(stackGauge, n, outcome)
		}
	}
	c.metrics.attempts.Collect(ch)
	c.metrics.duration.Collect(ch)
	c.metrics.webhooks.Collect(ch)
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// count notes an attempt.
func (m *metrics) count(x *attempt, f *failure, seconds float64) {
	outcome := "unchanged"
	switch {
	case f != nil:
		outcome = f.reason
	case x.rev.ID != "":
		outcome = "applied"
	}
	m.attempts.WithLabelValues(x.name, outcome).Inc()
	m.duration.WithLabelValues(x.name).Observe(seconds)
}

// forget drops what is counted of a repository that is followed no more.
func (m *metrics) forget(name string) {
	m.attempts.DeletePartialMatch(prometheus.Labels{"repository": name})
	m.duration.DeletePartialMatch(prometheus.Labels{"repository": name})
}
