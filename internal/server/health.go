package server

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"interdict/internal/control"
	"interdict/internal/fault"
	"interdict/internal/problem"
	"interdict/internal/server/agentapi"
	"interdict/internal/server/request"
)

// readyTimeout is how long the store may take to answer.
const readyTimeout = 2 * time.Second

// healthz says that the process answers.
func healthz(w http.ResponseWriter, _ *http.Request) { sayOK(w) }

// readyz says that requests can be served: the store answers.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := s.control.Ready(ctx); err != nil {
		request.Fail(w, r, s.config.Logger, fault.New(fault.Unavailable, "the store does not answer").Because(err))
		return
	}
	sayOK(w)
}

func sayOK(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	// The client may be gone; there is nobody left to tell.
	_, _ = io.WriteString(w, "ok\n")
}

// nowhere answers every path that belongs to no API.
func nowhere(w http.ResponseWriter, r *http.Request) {
	problem.New(fault.New(fault.NotFound, "there is nothing at %s", r.URL.Path), request.ID(r.Context())).Write(w)
}

// metrics are what the server counts.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics(version string, agents *agentapi.API, c *control.Service) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "interdict_http_requests_total", Help: "Requests by API, method and status.",
		}, []string{"api", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "interdict_http_request_seconds", Help: "How long requests took, without streams.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}, []string{"api"}),
	}
	m.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.requests, m.seconds,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "interdict_build_info", Help: "Always 1; the label says which version runs.",
			ConstLabels: prometheus.Labels{"version": version},
		}, func() float64 { return 1 }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "interdict_agents_connected", Help: "Agents that hold a stream open to this server.",
		}, func() float64 { return float64(agents.Streams()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "interdict_events_stored_total", Help: "Events stored by this server since its start.",
		}, func() float64 { return float64(agents.Events()) }),
		progressCollector{c},
	)
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// observe counts a finished request. A stream's time is how long an agent was
// connected, which is no latency.
func (m *metrics) observe(r *http.Request, status int, took time.Duration) {
	api := apiOf(r.URL.Path)
	m.requests.WithLabelValues(api, methodOf(r.Method), strconv.Itoa(status)).Inc()
	if !strings.HasSuffix(r.URL.Path, "/stream") {
		m.seconds.WithLabelValues(api).Observe(took.Seconds())
	}
}

// apiOf and methodOf bound the number of time series: callers choose paths and
// methods freely.
func apiOf(path string) string {
	switch {
	case strings.HasPrefix(path, "/api/"):
		return "admin"
	case strings.HasPrefix(path, "/agent/"):
		return "agent"
	default:
		return "other"
	}
}

func methodOf(method string) string {
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return method
	default:
		return "other"
	}
}

// progressCollector asks how many devices enforce what they ought to when it is
// asked itself.
type progressCollector struct{ control *control.Service }

// Describe implements prometheus.Collector.
func (progressCollector) Describe(out chan<- *prometheus.Desc) { out <- progressDesc() }

// Collect implements prometheus.Collector.
func (c progressCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	r, err := c.control.Progress(ctx, 0)
	if err != nil {
		out <- prometheus.NewInvalidMetric(progressDesc(), err)
		return
	}
	for _, v := range []struct {
		state string
		n     int
	}{{"applied", r.Applied}, {"pending", r.Pending}, {"offline", r.Offline}, {"failed", r.Failed}} {
		out <- prometheus.MustNewConstMetric(progressDesc(), prometheus.GaugeValue, float64(v.n), v.state)
	}
}

func progressDesc() *prometheus.Desc {
	return prometheus.NewDesc("interdict_devices", "Devices by how far they are with what they ought to enforce.", []string{"state"}, nil)
}
