package agent

// ProbeState is the outcome of a probe.
type ProbeState string

// The outcomes.
const (
	ProbeOK ProbeState = "ok"
	// ProbeRemark: something is weaker than it could be.
	ProbeRemark ProbeState = "remark"
	ProbeFailed ProbeState = "failed"
)

// Probe is one thing that an agent depends on, and whether it is there.
type Probe struct {
	Name   string     `json:"name"`
	State  ProbeState `json:"state"`
	Detail string     `json:"detail"`
}
