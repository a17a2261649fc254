package secdesc

// Mask is an access mask, [MS-DTYP] 2.4.3: one bit for each right.
type Mask uint32

// Rights of objects in the directory, [MS-ADTS] 5.1.3.2. The names in
// brackets are those of SDDL.
const (
	CreateChild   Mask = 1 << 0 // [CC] create a child object of the class in ObjectType
	DeleteChild   Mask = 1 << 1 // [DC] delete a child object
	ListContents  Mask = 1 << 2 // [LC] list the children
	SelfWrite     Mask = 1 << 3 // [SW] validated write, which ObjectType names
	ReadProperty  Mask = 1 << 4 // [RP] read the property or property set in ObjectType
	WriteProperty Mask = 1 << 5 // [WP] write it
	DeleteTree    Mask = 1 << 6 // [DT] delete the object and all below it
	ListObject    Mask = 1 << 7 // [LO] see this object, where list-object mode is on
	ControlAccess Mask = 1 << 8 // [CR] the control access right in ObjectType
)

// Standard rights of every kind of object, [MS-DTYP] 2.4.3.
const (
	Delete               Mask = 1 << 16 // [SD]
	ReadControl          Mask = 1 << 17 // [RC] read the descriptor but its SACL
	WriteDAC             Mask = 1 << 18 // [WD] change the DACL
	WriteOwner           Mask = 1 << 19 // [WO] take ownership
	Synchronize          Mask = 1 << 20
	AccessSystemSecurity Mask = 1 << 24 // read and write the SACL
	MaximumAllowed       Mask = 1 << 25 // in a request: all that is granted
)

// Generic rights, [MS-DTYP] 2.4.3: [MapGeneric] says what they stand for.
const (
	GenericAll     Mask = 1 << 28 // [GA]
	GenericExecute Mask = 1 << 29 // [GX]
	GenericWrite   Mask = 1 << 30 // [GW]
	GenericRead    Mask = 1 << 31 // [GR]
)

// What the generic rights mean for an object in the directory, [MS-ADTS]
// 5.1.3.2.
const (
	DirectoryRead    = ReadControl | ListContents | ReadProperty | ListObject
	DirectoryWrite   = ReadControl | SelfWrite | WriteProperty
	DirectoryExecute = ReadControl | ListContents
	// FullControl is every right in the directory, 0xf01ff.
	FullControl = Delete | ReadControl | WriteDAC | WriteOwner |
		CreateChild | DeleteChild | ListContents | SelfWrite | ReadProperty |
		WriteProperty | DeleteTree | ListObject | ControlAccess
)

// MapGeneric replaces the generic rights in m by those of the directory.
func MapGeneric(m Mask) Mask {
	for _, g := range [...]struct{ generic, specific Mask }{
		{GenericAll, FullControl},
		{GenericExecute, DirectoryExecute},
		{GenericWrite, DirectoryWrite},
		{GenericRead, DirectoryRead},
	} {
		if m&g.generic != 0 {
			m = m&^g.generic | g.specific
		}
	}
	return m
}

// Has reports whether all of want are in m.
func (m Mask) Has(want Mask) bool { return m&want == want }

// String is m as SDDL writes it; "0x0" for no right.
func (m Mask) String() string {
	if m == 0 {
		return "0x0"
	}
	return formatRights(m, rightNames)
}
