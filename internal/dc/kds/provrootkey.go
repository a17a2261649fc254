package kds

import "github.com/opengmsa/opengmsa/gkdi"

// ErrAttribute is [gkdi.ErrAttribute].
var ErrAttribute = gkdi.ErrAttribute

// ProvRootKey is a root key as the directory stores it.
type ProvRootKey = gkdi.ProvRootKey

// NewProvRootKey is [gkdi.NewProvRootKey].
func NewProvRootKey(key gkdi.RootKey, domainID string) ProvRootKey {
	return gkdi.NewProvRootKey(key, domainID)
}

// ParseProvRootKey is [gkdi.ParseProvRootKey].
func ParseProvRootKey(values func(attribute string) [][]byte) (ProvRootKey, error) {
	return gkdi.ParseProvRootKey(values)
}
