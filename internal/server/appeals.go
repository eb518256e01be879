package server

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"interdict/catalog"
	"interdict/internal/control/appeal"
	"interdict/internal/control/usage"
)

func (s *Server) startAppeals(ctx context.Context) error {
	var err error
	s.appeals, err = appeal.New(appeal.Config{
		Control: s.control, Store: s.store, Retention: s.config.EventRetention, Logger: s.config.Logger,
	})
	if err != nil {
		return err
	}
	return s.appeals.Start(ctx)
}

func (s *Server) stopAppeals(ctx context.Context) error { return s.appeals.Shutdown(ctx) }

func (s *Server) startUsage(ctx context.Context) error {
	apps, err := catalog.Load()
	if err != nil {
		return err
	}
	s.usage, err = usage.New(usage.Config{
		Control: s.control, Store: s.store, Apps: apps.Apps(), Retention: s.config.EventRetention, Logger: s.config.Logger,
	})
	if err != nil {
		return err
	}
	return s.usage.Start(ctx)
}

func (s *Server) stopUsage(ctx context.Context) error { return s.usage.Shutdown(ctx) }

// requestCollector asks how many requests for access nobody has decided when it
// is asked itself.
type requestCollector struct{ appeals *appeal.Service }

// Describe implements prometheus.Collector.
func (requestCollector) Describe(out chan<- *prometheus.Desc) { out <- requestDesc() }

// Collect implements prometheus.Collector.
func (c requestCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	n, err := c.appeals.Pending(ctx)
	if err != nil {
		out <- prometheus.NewInvalidMetric(requestDesc(), err)
		return
	}
	out <- prometheus.MustNewConstMetric(requestDesc(), prometheus.GaugeValue, float64(n))
}

func requestDesc() *prometheus.Desc {
	return prometheus.NewDesc("interdict_access_requests_pending", "Requests for access that nobody has decided.", nil, nil)
}
