package memory_test

import (
	"testing"

	"github.com/opengmsa/opengmsa/internal/dc/store"
	"github.com/opengmsa/opengmsa/internal/dc/store/memory"
	"github.com/opengmsa/opengmsa/internal/dc/store/storetest"
)

func TestSuite(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return memory.New() })
}
