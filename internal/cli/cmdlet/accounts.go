package cmdlet

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/secdesc"
)

// Attributes that cmdlets and the directory call otherwise.
const (
	attrSPN     = "servicePrincipalName"
	attrReaders = "msDS-GroupMSAMembership"
)

// settable are the parameters that New- and Set-ADServiceAccount share and that are
// one attribute each.
var settable = map[string]string{
	"Description": "description", "DisplayName": "displayName", "DNSHostName": "dNSHostName", "HomePage": "wWWHomePage",
}

func accountCmdlets() []*definition {
	pass := parameter{name: "PassThru", kind: flag}
	accounts := parameter{name: "ServiceAccount", kind: texts, position: 2, required: true}
	shared := []parameter{
		{name: "Description", kind: text1}, {name: "DisplayName", kind: text1}, {name: "DNSHostName", kind: text1}, {name: "HomePage", kind: text1},
		{name: "Enabled", kind: boolean}, {name: "KerberosEncryptionType", kind: texts}, {name: "ManagedPasswordIntervalInDays", kind: integer1},
		{name: "PrincipalsAllowedToRetrieveManagedPassword", kind: texts}, {name: "PrincipalsAllowedToDelegateToAccount", kind: texts},
		{name: "SamAccountName", kind: text1}, {name: "TrustedForDelegation", kind: boolean}, pass,
	}
	host := []parameter{identity, {name: "Force", kind: flag}}
	return []*definition{
		{
			name: "New-ADServiceAccount", synopsis: "Makes a managed service account", changes: true,
			example: "New-ADServiceAccount -Name WebApp01 -DNSHostName webapp01.contoso.com -PrincipalsAllowedToRetrieveManagedPassword WebApp01Hosts",
			params: append([]parameter{
				{name: "Name", kind: text1, position: 1, required: true}, {name: "ServicePrincipalNames", kind: texts}, {name: "Path", kind: text1},
				{name: "RestrictToSingleComputer", kind: flag}, {name: "RestrictToOutboundAuthenticationOnly", kind: flag}, {name: "OtherAttributes", kind: table},
			}, shared...),
			run: newAccount,
		},
		{
			name: "Get-ADServiceAccount", synopsis: "Shows managed service accounts", example: "Get-ADServiceAccount WebApp01 -Properties *",
			params: search(), run: getAccounts,
		},
		{
			name: "Set-ADServiceAccount", synopsis: "Changes a managed service account", changes: true,
			example: "Set-ADServiceAccount WebApp01 -ServicePrincipalNames @{Add='http/shop.contoso.com'}",
			params: append([]parameter{
				identity, {name: "ServicePrincipalNames", kind: objects}, {name: "Add", kind: table}, {name: "Remove", kind: table},
				{name: "Replace", kind: table}, {name: "Clear", kind: texts},
			}, shared...),
			run: setAccount,
		},
		{
			name: "Remove-ADServiceAccount", synopsis: "Deletes a managed service account", example: "Remove-ADServiceAccount WebApp01", changes: true,
			params: []parameter{identity},
			run: func(ctx context.Context, c *invocation) ([]any, error) {
				s, err := c.session(ctx)
				if err == nil {
					_, err = s.RemoveServiceAccount(ctx, c.text("Identity"))
				}
				return nil, err
			},
		},
		{name: "Test-ADServiceAccount", synopsis: "Checks that this host can use an account", example: "Test-ADServiceAccount WebApp01", params: []parameter{identity}, run: testAccount},
		{
			name: "Install-ADServiceAccount", synopsis: "Has the agent of this host keep an account ready", example: "Install-ADServiceAccount WebApp01", changes: true, params: host,
			run: func(ctx context.Context, c *invocation) ([]any, error) {
				return nil, c.in.host.Install(ctx, c.text("Identity"), c.session)
			},
		},
		{
			name: "Uninstall-ADServiceAccount", synopsis: "Undoes that, and destroys what is cached", example: "Uninstall-ADServiceAccount WebApp01", changes: true, params: host,
			run: func(ctx context.Context, c *invocation) ([]any, error) {
				return nil, c.in.host.Uninstall(ctx, c.text("Identity"))
			},
		},
		{
			name: "Add-ADComputerServiceAccount", synopsis: "Makes standalone accounts a computer's own", example: "Add-ADComputerServiceAccount -Identity server -ServiceAccount Service-sMSA",
			changes: true, params: []parameter{identity, accounts, pass}, run: links((*ad.Session).LinkServiceAccounts),
		},
		{
			name: "Remove-ADComputerServiceAccount", synopsis: "Takes standalone accounts from a computer", example: "Remove-ADComputerServiceAccount -Identity server -ServiceAccount Service-sMSA",
			changes: true, params: []parameter{identity, accounts, pass}, run: links((*ad.Session).UnlinkServiceAccounts),
		},
		{
			name: "Get-ADComputerServiceAccount", synopsis: "Lists the accounts of a computer", example: "Get-ADComputerServiceAccount server",
			params: []parameter{identity}, run: getComputerAccounts,
		},
		{name: "Get-ADComputer", synopsis: "Shows host accounts", example: "Get-ADComputer ContainerHost01", params: search(), run: getComputers},
	}
}

// encTypes reads -KerberosEncryptionType, and warns of RC4.
func (c *invocation) encTypes() (*adproto.EncryptionTypes, error) {
	if !c.has("KerberosEncryptionType") {
		return nil, nil //nolint:nilnil // nothing was said
	}
	e, err := ParseEncryptionTypes(c.list("KerberosEncryptionType"))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrParameter, err)
	}
	if e&adproto.EncRC4 != 0 {
		c.in.host.Warn("RC4 lets tickets be cracked offline, and current domains refuse it: leave it out unless a host needs it")
	}
	return &e, nil
}

func newAccount(ctx context.Context, c *invocation) ([]any, error) {
	types, err := c.encTypes()
	if err != nil {
		return nil, err
	}
	days, _ := c.values["managedpasswordintervalindays"].(int64)
	n := ad.NewServiceAccount{
		Name: c.text("Name"), SAM: c.text("SamAccountName"), DNSHostName: c.text("DNSHostName"), Description: c.text("Description"),
		DisplayName: c.text("DisplayName"), Path: c.text("Path"), Standalone: c.flag("RestrictToSingleComputer"),
		OutboundOnly: c.flag("RestrictToOutboundAuthenticationOnly"), Disabled: c.has("Enabled") && !c.flag("Enabled"),
		TrustedForDelegation: c.flag("TrustedForDelegation"), Interval: int(days), SPNs: c.list("ServicePrincipalNames"), EncTypes: types,
		Readers: c.list("PrincipalsAllowedToRetrieveManagedPassword"), Delegates: c.list("PrincipalsAllowedToDelegateToAccount"),
	}
	if page := c.text("HomePage"); page != "" {
		n.Other = append(n.Other, ad.Change{Attr: "wWWHomePage", Values: []string{page}})
	}
	if h := c.hash("OtherAttributes"); h != nil {
		n.Other = append(n.Other, hashChanges(ad.AddValues, h)...)
	}
	s, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	a, notes, err := s.CreateServiceAccount(ctx, n)
	for _, note := range notes {
		c.in.host.Warn(note)
	}
	if err != nil || !c.flag("PassThru") {
		return nil, err
	}
	return []any{accountObject(a)}, nil
}

// hashChanges are the changes that a hash table of attributes stands for.
func hashChanges(op ad.ChangeOp, h *hashTable) []ad.Change {
	var changes []ad.Change
	for _, key := range h.keys {
		v, _ := h.get(key)
		change := ad.Change{Op: op, Attr: attributeOf(key)}
		for _, item := range flat(v) {
			change.Values = append(change.Values, str(item))
		}
		changes = append(changes, change)
	}
	return changes
}

// hashTables are the changes of -Remove, -Add, -Replace and -Clear, in that order.
func (c *invocation) hashTables() ([]ad.Change, error) {
	var changes []ad.Change
	for _, p := range []struct {
		name string
		op   ad.ChangeOp
	}{{"Remove", ad.RemoveValues}, {"Add", ad.AddValues}, {"Replace", ad.ReplaceValues}} {
		if h := c.hash(p.name); h != nil {
			changes = append(changes, hashChanges(p.op, h)...)
		}
	}
	for _, name := range c.list("Clear") {
		changes = append(changes, ad.Replace(attributeOf(name)))
	}
	for _, change := range changes {
		if !adproto.ValidAttribute(change.Attr) {
			return nil, fmt.Errorf("%w: %q is not the name of an attribute", ErrParameter, change.Attr)
		}
	}
	return changes, nil
}

func setAccount(ctx context.Context, c *invocation) ([]any, error) {
	var edit ad.ServiceAccountEdit
	var err error
	if edit.Changes, err = c.hashTables(); err != nil {
		return nil, err
	}
	for name, attr := range settable {
		if c.has(name) {
			edit.Changes = append(edit.Changes, replaceText(attr, c.text(name)))
		}
	}
	if c.has("SamAccountName") {
		edit.Changes = append(edit.Changes, ad.Replace("sAMAccountName", strings.TrimSuffix(c.text("SamAccountName"), "$")+"$"))
	}
	if edit.EncTypes, err = c.encTypes(); err != nil {
		return nil, err
	}
	edit.Enabled, edit.TrustedForDelegation = c.choice("Enabled"), c.choice("TrustedForDelegation")
	if days, ok := c.values["managedpasswordintervalindays"].(int64); ok {
		n := int(days)
		edit.Interval = &n
	}
	for name, target := range map[string]**[]string{
		"PrincipalsAllowedToRetrieveManagedPassword": &edit.Readers, "PrincipalsAllowedToDelegateToAccount": &edit.Delegates,
	} {
		if c.has(name) {
			list := c.list(name)
			*target = &list
		}
	}
	if edit.SPNs, err = c.spnChanges(); err != nil {
		return nil, err
	}
	s, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	a, err := s.SetServiceAccount(ctx, c.text("Identity"), edit)
	if err != nil || !c.flag("PassThru") {
		return nil, err
	}
	return []any{accountObject(a)}, nil
}

// replaceText replaces an attribute by one value; none takes it away.
func replaceText(attr, value string) ad.Change {
	if value == "" {
		return ad.Replace(attr)
	}
	return ad.Replace(attr, value)
}

// spnChanges reads -ServicePrincipalNames of Set-: $null, names, or a hash table of
// Add, Remove and Replace.
func (c *invocation) spnChanges() ([]ad.Change, error) {
	if !c.has("ServicePrincipalNames") {
		return nil, nil
	}
	values := flat(c.values["serviceprincipalnames"])
	h := (*hashTable)(nil)
	if len(values) == 1 {
		h, _ = values[0].(*hashTable)
	}
	if h == nil {
		return []ad.Change{ad.Replace(attrSPN, c.list("ServicePrincipalNames")...)}, nil
	}
	ops := map[string]ad.ChangeOp{"remove": ad.RemoveValues, "add": ad.AddValues, "replace": ad.ReplaceValues}
	var changes []ad.Change
	for _, key := range h.keys {
		op, ok := ops[strings.ToLower(key)]
		if !ok {
			return nil, fmt.Errorf("%w: -ServicePrincipalNames: %q: want Add, Remove or Replace", ErrParameter, key)
		}
		v, _ := h.get(key)
		change := ad.Change{Op: op, Attr: attrSPN}
		for _, item := range flat(v) {
			change.Values = append(change.Values, str(item))
		}
		changes = append(changes, change)
	}
	return changes, nil
}

// accountObject has the properties that are shown without -Properties.
func accountObject(a ad.Account) *Object {
	return newObject("ADServiceAccount").set("DistinguishedName", a.DN).set("Enabled", !a.Control.Disabled()).set("Name", nameOf(a.DN)).
		set("ObjectClass", classOf(a.Kind)).set("ObjectGUID", a.GUID.String()).set("SamAccountName", a.Name).set("SID", a.SID.String()).
		set("UserPrincipalName", a.UPN)
}

func getAccounts(ctx context.Context, c *invocation) ([]any, error) {
	s, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	var list []ad.Account
	if name := c.text("Identity"); name != "" {
		a, err := s.ServiceAccount(ctx, name)
		if err != nil {
			return nil, err
		}
		list = []ad.Account{a}
	} else {
		f, err := c.filter()
		if err != nil {
			return nil, err
		}
		if list, err = s.ServiceAccounts(ctx, f, c.text("SearchBase")); err != nil {
			return nil, err
		}
	}
	return c.accountObjects(ctx, s, list)
}

// accountObjects are accounts with the properties that -Properties asks for.
func (c *invocation) accountObjects(ctx context.Context, s *ad.Session, list []ad.Account) ([]any, error) {
	var out []any
	for _, a := range list {
		o, err := c.extend(ctx, s, accountObject(a), a.DN, func(property string) (any, bool, error) { return accountProperty(ctx, s, a, property) })
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

// accountProperties are the properties that are not an attribute as it is.
var accountProperties = []string{
	"PrincipalsAllowedToRetrieveManagedPassword", "PrincipalsAllowedToDelegateToAccount", "KerberosEncryptionType", "ManagedPasswordIntervalInDays",
	"ServicePrincipalNames", "HostComputers", "PasswordLastSet", "Created", "TrustedForDelegation", "Enabled",
}

func accountProperty(ctx context.Context, s *ad.Session, a ad.Account, property string) (value any, known bool, err error) {
	switch strings.ToLower(property) {
	case "principalsallowedtoretrievemanagedpassword":
		readers, err := s.Readers(ctx, a)
		list := []any{}
		for _, r := range readers {
			if r.Object != nil {
				list = append(list, r.Object.DN)
			} else {
				list = append(list, r.SID.String())
			}
		}
		return list, true, err
	case "principalsallowedtodelegatetoaccount":
		list, err := delegates(ctx, s, a)
		return list, true, err
	case "kerberosencryptiontype":
		return []any{EncryptionText(a.EncTypes)}, true, nil
	case "managedpasswordintervalindays":
		if a.MSA == nil {
			return nil, true, nil
		}
		return []any{int64(a.MSA.Interval)}, true, nil
	case "serviceprincipalnames":
		return anys(a.SPNs), true, nil
	case "hostcomputers":
		dn, err := s.LinkedComputer(ctx, a)
		if dn == "" {
			return []any{}, true, err
		}
		return []any{dn}, true, err
	case "passwordlastset":
		if a.PasswordSet.IsZero() {
			return nil, true, nil
		}
		return a.PasswordSet, true, nil
	case "created":
		return a.WhenCreated, true, nil
	case "trustedfordelegation":
		return a.Control&adproto.UACTrustedForDelegation != 0, true, nil
	case "enabled":
		return !a.Control.Disabled(), true, nil
	case "useraccountcontrol":
		return int64(a.Control), true, nil
	}
	return nil, false, nil
}

// delegates are who may act to the account on behalf of others.
func delegates(ctx context.Context, s *ad.Session, a ad.Account) ([]any, error) {
	const attr = "msDS-AllowedToActOnBehalfOfOtherIdentity"
	o, err := s.Object(ctx, a.DN, attr)
	list := []any{}
	if err != nil || len(o.Values[attr]) == 0 {
		return list, err
	}
	sd, err := secdesc.Parse(o.Values[attr][0])
	if err != nil {
		return nil, err
	}
	for _, sid := range sd.Trustees(secdesc.ControlAccess) {
		list = append(list, orSID(ctx, s, sid.String()))
	}
	return list, nil
}

// orSID is the distinguished name of a SID's owner, or the SID.
func orSID(ctx context.Context, s *ad.Session, sid string) string {
	if o, err := s.Lookup(ctx, sid); err == nil {
		return o.DN
	}
	return sid
}

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

func testAccount(ctx context.Context, c *invocation) ([]any, error) {
	s, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	u, err := s.Usable(ctx, c.text("Identity"))
	if err != nil {
		return nil, err
	}
	if u.Warning != "" {
		c.in.host.Warn(u.Warning)
	}
	c.in.negative = !u.OK
	return []any{u.OK}, nil
}

func links(change func(s *ad.Session, ctx context.Context, computer string, accounts ...string) ([]ad.Account, error)) func(context.Context, *invocation) ([]any, error) {
	return func(ctx context.Context, c *invocation) ([]any, error) {
		s, err := c.session(ctx)
		if err == nil {
			_, err = change(s, ctx, c.text("Identity"), c.list("ServiceAccount")...)
		}
		return nil, err
	}
}

func getComputerAccounts(ctx context.Context, c *invocation) ([]any, error) {
	s, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	host, err := s.Computer(ctx, c.text("Identity"))
	if err != nil {
		return nil, err
	}
	list, err := s.ServiceAccounts(ctx, adproto.Equal("msDS-HostServiceAccountBL", host.DN), "")
	if err != nil {
		return nil, err
	}
	return c.accountObjects(ctx, s, list)
}

func computerObject(a ad.Account) *Object {
	return newObject("ADComputer").set("DistinguishedName", a.DN).set("DNSHostName", a.DNSHostName).set("Enabled", !a.Control.Disabled()).
		set("Name", nameOf(a.DN)).set("ObjectClass", "computer").set("ObjectGUID", a.GUID.String()).set("SamAccountName", a.Name).
		set("SID", a.SID.String()).set("UserPrincipalName", a.UPN)
}

func getComputers(ctx context.Context, c *invocation) ([]any, error) {
	s, err := c.session(ctx)
	if err != nil {
		return nil, err
	}
	var list []ad.Account
	if name := c.text("Identity"); name != "" {
		a, err := s.Computer(ctx, name)
		if err != nil {
			return nil, err
		}
		list = []ad.Account{a}
	} else {
		f, err := c.filter()
		if err != nil {
			return nil, err
		}
		if list, err = s.Computers(ctx, f, c.text("SearchBase")); err != nil {
			return nil, err
		}
	}
	var out []any
	for _, a := range list {
		o, err := c.extend(ctx, s, computerObject(a), a.DN, func(property string) (any, bool, error) { return accountProperty(ctx, s, a, property) })
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

// partly says what was done before an error.
func partly(done []string, err error) error {
	if len(done) == 0 {
		return err
	}
	return fmt.Errorf("%w; done before: %s", err, strings.Join(done, ", "))
}

// filter is -Filter or -LDAPFilter.
func (c *invocation) filter() (adproto.Filter, error) {
	switch {
	case c.has("Filter") && c.has("LDAPFilter"):
		return adproto.Filter{}, fmt.Errorf("%w: -Filter or -LDAPFilter, one of the two", ErrParameter)
	case c.has("LDAPFilter"):
		f, err := adproto.ParseFilter(c.text("LDAPFilter"))
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrFilter, err)
		}
		return f, err
	case c.has("Filter"):
		return ParseFilter(c.text("Filter"))
	}
	return adproto.Filter{}, fmt.Errorf("%w: %s needs -Identity, -Filter or -LDAPFilter", ErrParameter, c.def.name)
}

// extend adds the properties that -Properties names: those that special knows, and
// attributes as they are.
func (c *invocation) extend(ctx context.Context, s *ad.Session, o *Object, dn string, special func(string) (any, bool, error)) (*Object, error) {
	wanted := c.list("Properties")
	if len(wanted) == 0 {
		return o, nil
	}
	all := slices.Contains(wanted, "*")
	var attributes []string
	if all {
		wanted, attributes = nil, []string{"*"}
		if special != nil {
			wanted = accountProperties
		}
	}
	for _, w := range wanted {
		if special != nil {
			v, known, err := special(w)
			if err != nil {
				return nil, err
			}
			if known {
				o.set(w, v)
				continue
			}
		}
		attributes = append(attributes, attributeOf(w))
	}
	if len(attributes) == 0 {
		return o, nil
	}
	found, err := s.Object(ctx, dn, attributes...)
	if err != nil {
		return nil, err
	}
	if !all {
		for _, w := range wanted {
			if o.get(w) == nil && found.Values[spelling(found, attributeOf(w))] == nil {
				o.set(w, nil)
			}
		}
	}
	for _, name := range found.Order {
		if o.get(name) == nil && (all || wants(attributes, name)) {
			property := name
			if !all {
				property = propertyName(wanted, name)
			}
			o.set(property, attributeValue(name, found.Values[name]))
		}
	}
	return o, nil
}

// spelling is the attribute's name as the directory spelled it.
func spelling(a ad.Attributes, name string) string {
	for _, n := range a.Order {
		if strings.EqualFold(n, name) {
			return n
		}
	}
	return name
}

// propertyName is the attribute's name as it was asked for.
func propertyName(wanted []string, attr string) string {
	for _, w := range wanted {
		if strings.EqualFold(attributeOf(w), attr) {
			return w
		}
	}
	return attr
}

// attributeValue is a value of the script's language: a number where the text is
// one, an array where there are several.
func attributeValue(name string, values [][]byte) any {
	var list []any
	for _, v := range values {
		text := valueText(name, v)
		if n, ok := number(text); ok && len(text) < 19 {
			list = append(list, n)
		} else {
			list = append(list, text)
		}
	}
	return unflat(list)
}

// nameOf is the value of the first component of a distinguished name.
func nameOf(dn string) string {
	name, err := adproto.ParseDN(dn)
	if err != nil {
		return dn
	}
	return name.Name()
}

// classOf is the class of a kind, as ObjectClass shows it.
func classOf(k ad.Kind) string {
	switch k {
	case ad.KindGMSA:
		return "msDS-GroupManagedServiceAccount"
	case ad.KindSMSA:
		return "msDS-ManagedServiceAccount"
	case ad.KindComputer:
		return "computer"
	case ad.KindUser:
		return "user"
	case ad.KindGroup:
		return "group"
	}
	return "object"
}
