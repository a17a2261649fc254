// Package provision makes the objects of a new domain, the only one of its forest, as
// Active Directory makes them ([MS-ADTS] 6.1.1, revision of 2024-11-19): the head of the
// domain and of the configuration, containers with their well-known GUIDs, accounts and
// groups with their RIDs, the controller itself, and the first root key.
//
// What is made is data, in objects.ldif, groups.tsv and rights.tsv beside this file. The
// descriptors there are those of AD's own objects; each object's is computed from its
// class and parent as for any other object. Left out is what serves Windows alone: group
// policies and whatever would point clients to them, IPsec, DFS, display specifiers, zones.
// The schema partition is the directory's own.
//
// AdminSDHolder's descriptor is given to the administrators' accounts and groups that are
// made here; who becomes one later gets it from directory.ProtectAdministrators.
//
// Read [Objects] first.
package provision
