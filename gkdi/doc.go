// Package gkdi derives group keys from KDS root keys: from a root key to the
// seed of an interval, and from there to the password of a group Managed
// Service Account. It implements the computations and structures of
// [MS-GKDI] revision 13.0 and the password rule of [MS-ADTS] 3.1.1.4.5.39.
//
// It is not a Key Distribution Service: it stores nothing, asks nobody and
// knows no clock. The Windows RPC interface (ISDKey) is not here either; its
// answers are, as [GetKey] and [GroupKeyEnvelope].
//
// A key belongs to an interval of ten hours, named by a [KeyID] of three
// levels. Seeds are chained downwards, so that who holds the seed of an
// interval can compute those before it, within one L0 epoch, and none after it:
//
//	root key ─► L0 ─► L1(31) ─► L1(30) ─► … ─► L1(0)       with the target SD
//	                    │          │              │         mixed in at L1(31)
//	                    ▼          ▼              ▼
//	                  L2(31)     L2(31)         L2(31)
//	                    ▼          ▼              ▼
//	                  L2(0)      L2(0)          L2(0)
//
// Read [Password] first, then [DeriveSeed]; a server that derives often keeps
// a [Cache].
package gkdi
