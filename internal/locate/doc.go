// Package locate finds the domain controllers of one domain, best first: from
// the addresses that the configuration names or from DNS ([MS-ADTS] 6.3.2, RFC
// 2782), each confirmed by a netlogon ping over UDP or TCP ([MS-ADTS] 6.3.3).
//
// What DNS and the ping say is a hint: nothing here is authenticated. A
// controller's name must lie in the configured domain, and whoever connects
// demands Kerberos' mutual authentication or a certificate for exactly that
// name; reverse look-ups play no part.
//
// It speaks no Kerberos and keeps no connection. Read [Config] and
// [Locator.Controllers] first.
package locate
