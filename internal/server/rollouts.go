package server

import (
	"context"

	"interdict/catalog"
	"interdict/internal/control/inquiry"
	"interdict/internal/control/rollout"
)

func (s *Server) startRollouts(ctx context.Context) error {
	var err error
	if s.rollouts, err = rollout.New(rollout.Config{Control: s.control, Logger: s.config.Logger}); err != nil {
		return err
	}
	return s.rollouts.Start(ctx)
}

func (s *Server) stopRollouts(ctx context.Context) error { return s.rollouts.Shutdown(ctx) }

func (s *Server) startInquiries(context.Context) error {
	apps, err := catalog.Load()
	if err != nil {
		return err
	}
	s.inquiries, err = inquiry.New(inquiry.Config{Control: s.control, Store: s.store, Apps: apps.Apps(), Logger: s.config.Logger})
	return err
}
