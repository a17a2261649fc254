// Package audit judges who can use the managed service accounts of a domain, and what
// of that should not be so: from an inventory that was read once ([ad.Session.Inventory])
// to a report as values and as a page of HTML. It asks nobody anything and changes
// nothing; every finding has its evidence and the command that mends it.
//
// Read [Judge] first.
package audit
