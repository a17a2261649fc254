package cmdlet

import (
	"context"
	"fmt"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/ad"
)

func keyCmdlets() []*definition {
	return []*definition{
		{
			name: "Get-KdsRootKey", synopsis: "Lists the KDS root keys", example: "Get-KdsRootKey",
			params: []parameter{{name: "KeyId", kind: text1, position: 1}}, run: getRootKeys,
		},
		{
			name: "Add-KdsRootKey", synopsis: "Makes a KDS root key", example: "Add-KdsRootKey -EffectiveImmediately", changes: true,
			params: []parameter{
				{name: "EffectiveTime", kind: moment, position: 1}, {name: "EffectiveImmediately", kind: flag}, {name: "LocalTestOnly", kind: flag},
			},
			run: addRootKey,
		},
		{
			name: "Test-KdsRootKey", synopsis: "Checks that passwords can be made from a root key", example: "Test-KdsRootKey -KeyId ID",
			params: []parameter{{name: "KeyId", kind: text1, position: 1, required: true, piped: true}}, run: testRootKey,
		},
	}
}

func rootKeyObject(k ad.RootKey) *Object {
	return newObject("KdsRootKey").set("KeyId", k.ID.String()).
		set("ServerConfiguration", fmt.Sprintf("%s %s, %s", k.KDF, k.Hash, k.Agreement)).
		set("CreationTime", k.Created).set("EffectiveTime", k.UseStart).set("DomainController", k.DomainID)
}

func getRootKeys(ctx context.Context, c *invocation) ([]any, error) {
	s, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	if c.has("KeyId") {
		id, err := dtyp.ParseGUID(c.text("KeyId"))
		if err != nil {
			return nil, fmt.Errorf("%w: -KeyId: %w", ErrParameter, err)
		}
		k, err := s.RootKey(ctx, id, false)
		return []any{rootKeyObject(k)}, err
	}
	keys, err := s.RootKeys(ctx, false)
	var list []any
	for _, k := range keys {
		list = append(list, rootKeyObject(k))
	}
	return list, err
}

func addRootKey(ctx context.Context, c *invocation) ([]any, error) {
	s, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	now := s.Domain().Kerberos().Now()
	var use time.Time
	switch {
	case c.flag("EffectiveImmediately") && c.has("EffectiveTime"):
		return nil, fmt.Errorf("%w: -EffectiveImmediately or -EffectiveTime, one of the two", ErrParameter)
	case c.flag("EffectiveImmediately"):
		use = now
	case c.has("EffectiveTime"):
		use, _ = c.values["effectivetime"].(time.Time)
	}
	if c.flag("LocalTestOnly") {
		return []any{true}, s.TestNewRootKey()
	}
	key, others, err := s.AddRootKey(ctx, use)
	if err != nil {
		return nil, err
	}
	for _, w := range ad.RootKeyWarnings(key, others, now, false) {
		c.in.host.Warn(w)
	}
	c.in.host.Created(key.ID)
	return []any{newObject("Guid").set("Guid", key.ID.String())}, nil
}

func testRootKey(ctx context.Context, c *invocation) ([]any, error) {
	text := c.text("KeyId")
	id, err := dtyp.ParseGUID(text)
	if err != nil {
		return nil, fmt.Errorf("%w: -KeyId: %w", ErrParameter, err)
	}
	s, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	reason, err := s.TestRootKey(ctx, id)
	if err != nil {
		return nil, err
	}
	if reason != nil {
		c.in.host.Warn(reason.Error())
		c.in.negative = true
	}
	return []any{reason == nil}, nil
}
