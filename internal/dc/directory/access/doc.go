// Package access says who may do what with an object of the directory, and
// which security descriptor a new object gets ([MS-ADTS] 5.1.3 and 6.1.3,
// revision of 2024-11-19; [MS-DTYP] 2.5.3.4).
//
// Rights are entries of descriptors and nothing else: "may create gMSAs" is an
// entry for CREATE_CHILD with the class's GUID, "writes its own SPNs" one for
// the validated write. The access check itself is secdesc's; here are the object
// trees that the directory asks it about, and inheritance.
//
// It reads no store: whoever changes a descriptor writes those of the objects
// below it. Read [Object] and [Create] first.
package access
