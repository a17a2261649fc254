package agent

import (
	"testing"

	"go.uber.org/goleak"
)

// Nothing of an agent runs on when it has ended.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
