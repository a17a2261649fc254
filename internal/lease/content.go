package lease

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/opengmsa/opengmsa/secret"
)

// AccountFiles are the files of one account; an empty one is not written.
type AccountFiles struct {
	// Name is the account's name without the dollar sign.
	Name                         string
	CCache, Keytab, ClientKeytab secret.Bytes
}

// Content is all that a lease's directory shows. Many leases share the bytes.
type Content struct {
	Krb5Conf []byte
	// Accounts has at least one element; the first is the primary account.
	Accounts []AccountFiles
}

// validate refuses a name that is more or less than one element of a path.
func (c Content) validate() error {
	if len(c.Accounts) == 0 {
		return errors.New("content has no account")
	}
	for i, a := range c.Accounts {
		if a.Name == "" || a.Name[0] == '.' || len(a.Name) > 255 || strings.ContainsAny(a.Name, "/\x00") {
			return fmt.Errorf("account name %q cannot name a directory", a.Name)
		}
		if slices.ContainsFunc(c.Accounts[:i], func(b AccountFiles) bool { return a.Name == b.Name }) {
			return fmt.Errorf("account %q is there twice", a.Name)
		}
	}
	return nil
}

// file is a file of a version: its path below the version's directory.
type file struct {
	name string
	data []byte
}

// files lists c by name. A primary account's files are at the top.
func (c Content) files() []file {
	list := make([]file, 0, 4+3*(len(c.Accounts)-1))
	add := func(dir, name string, data []byte) {
		if len(data) > 0 {
			list = append(list, file{path.Join(dir, name), data})
		}
	}
	add("", Krb5ConfName, c.Krb5Conf)
	for i, a := range c.Accounts {
		dir := ""
		if i > 0 {
			dir = path.Join(AccountsDir, a.Name)
		}
		add(dir, CCacheName, a.CCache.Reveal())
		add(dir, KeytabName, a.Keytab.Reveal())
		add(dir, ClientKeytabName, a.ClientKeytab.Reveal())
	}
	slices.SortFunc(list, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return list
}
