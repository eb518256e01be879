package store

import (
	"context"
	"errors"
	"sync"
)

// maxCombined bounds how many rows are written in one combined transaction.
const maxCombined = 5000

var errClosed = errors.New("the store is closed")

// combiner joins what several callers want to write at the same time into
// one transaction, because making a transaction durable costs more than what
// is in it. While one is being written, the next one gathers.
type combiner[T any] struct {
	limit int
	write func(context.Context, []T) error
	work  chan *pending[T]
	stop  chan struct{}
	done  sync.WaitGroup
}

// pending is what one caller wants to write.
type pending[T any] struct {
	items T
	size  int
	err   chan error
}

func newCombiner[T any](limit int, write func(context.Context, []T) error) *combiner[T] {
	c := &combiner[T]{limit: limit, write: write, work: make(chan *pending[T]), stop: make(chan struct{})}
	c.done.Go(c.run)
	return c
}

// add writes items, which count as size rows, and returns when they are
// durable, or with ctx's error when it ends before their turn; if it ends
// later they may be written nevertheless.
func (c *combiner[T]) add(ctx context.Context, items T, size int) error {
	p := &pending[T]{items: items, size: size, err: make(chan error, 1)}
	select {
	case c.work <- p:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.stop:
		return errClosed
	}
	select {
	case err := <-p.err:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close waits for what is being written. It is called once.
func (c *combiner[T]) close() {
	close(c.stop)
	c.done.Wait()
}

func (c *combiner[T]) run() {
	for {
		select {
		case p := <-c.work:
			c.writeAll(c.gather(p))
		case <-c.stop:
			return
		}
	}
}

// gather takes what else is waiting right now.
func (c *combiner[T]) gather(first *pending[T]) []*pending[T] {
	all, size := []*pending[T]{first}, first.size
	for size < c.limit {
		select {
		case p := <-c.work:
			all, size = append(all, p), size+p.size
		default:
			return all
		}
	}
	return all
}

// writeAll does not end with any one caller's context: the others wait for
// the same transaction.
func (c *combiner[T]) writeAll(all []*pending[T]) {
	items := make([]T, len(all))
	for i, p := range all {
		items[i] = p.items
	}
	err := c.write(context.Background(), items)
	for _, p := range all {
		p.err <- err
	}
}
