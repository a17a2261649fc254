// Package schema knows what may stand in the directory: the attributes and
// classes of Active Directory, the syntaxes of values, how values compare, and
// what an object of given classes must and may have ([MS-ADTS] 3.1.1.2,
// revision of 2024-11-19; [MS-ADA1] to [MS-ADA3]; [MS-ADSC]).
//
// The definitions are data, in attributes.tsv and classes.tsv beside this file:
// facts of [MS-ADA*] and [MS-ADSC], one line each, version 88 of the schema
// (Windows Server 2019). They are what gMSAs, users, computers, groups and the
// configuration partition need, and the tables take the rest the same way. A
// reader of the directory sees them as objects of the schema partition; making
// these objects is the directory's work, as are DNs that exist, links and
// access control.
//
// Read [Load] first, then [Syntax] and [Schema.CheckClasses].
package schema
