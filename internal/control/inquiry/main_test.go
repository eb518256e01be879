package inquiry_test

import (
	"os"
	"testing"

	"interdict/internal/store/pgtest"
)

// postgres is the private server of this test binary.
var postgres = pgtest.New()

func TestMain(m *testing.M) { os.Exit(postgres.Run(m)) }
