package agent

import (
	"context"
	"net/http"

	"interdict/internal/agent/netguard"
)

// pathKernel answers with what the kernel's rules ought to be.
const pathKernel = "/v1/kernel"

// wanted is what the kernel's rules ought to be now.
func (e *enforcer) wanted() netguard.Config {
	current := e.current.Load()
	if current == nil || e.suspended.Load() {
		return netguard.Config{}
	}
	return e.kernel(current)
}

func (c *control) kernel(w http.ResponseWriter, _ *http.Request) {
	reply(w, c.a.enforcer.wanted(), nil)
}

// Kernel asks what the kernel's rules ought to be: for whoever compares them
// with what they are.
func (c *Client) Kernel(ctx context.Context) (netguard.Config, error) {
	var wanted netguard.Config
	err := c.call(ctx, http.MethodGet, pathKernel, nil, &wanted)
	return wanted, err
}
