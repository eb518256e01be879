package servertest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// Main runs the tests of a package, by testing.M.Run or what stands for it,
// and fails if a goroutine of this project is still there after them. It is
// for TestMain.
func Main(run func() int) {
	code := run()
	if left := leaked(5 * time.Second); code == 0 && left != "" {
		fmt.Fprintf(os.Stderr, "goroutines are left after the tests:\n\n%s\n", left)
		code = 1
	}
	os.Exit(code) //nolint:revive // deep-exit: it stands in for TestMain
}

// leaked returns the stacks of the goroutines of this project, other than the
// caller's, that do not end within patience.
func leaked(patience time.Duration) string {
	deadline := time.Now().Add(patience)
	for {
		buf := make([]byte, 4<<20)
		buf = buf[:runtime.Stack(buf, true)]
		var left []string
		for g := range strings.SplitSeq(string(buf), "\n\n") {
			if strings.Contains(g, "interdict/") && !strings.Contains(g, "servertest.leaked") {
				left = append(left, g)
			}
		}
		if len(left) == 0 {
			return ""
		}
		if time.Now().After(deadline) {
			return strings.Join(left, "\n\n")
		}
		runtime.Gosched()
	}
}
