// Package rows keeps the entries of the directory in a store: what an entry is
// in bytes, and the rows beside it by which it is found.
//
//	e GUID                     the entry: its place, name, times, values
//	c GUID                     nothing; its revision is uSNCreated
//	d parent-GUID RDN          the entry of that name below the parent
//	i attribute key GUID       nothing; an entry with that value, its name too, and a
//	                           tombstone or replica with one that is unique among others
//	u attribute key            the only entry with that value
//	f link source target data  a link, forward, in the order of its targets
//	b link target source data  the same link, backward
//	p GUID name                what belongs to the entry and is no attribute
//	m name                     a fact about the whole directory
//
// A link is two rows and never part of an entry, so that a group with a hundred
// thousand members is changed by as little as one with two. The revision of row
// e is uSNChanged: nobody has to know it before the commit. All rows of one
// change are written in one transaction, which the store limits ([store.MaxOps]);
// what can need more says so.
//
// It knows attributes and how values compare, but not what a caller may do,
// which classes there are, or what a valid object is: that is the directory's.
// Read [Table] first.
package rows
