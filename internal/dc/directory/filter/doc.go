// Package filter decides which entries of the directory a search filter takes
// ([MS-ADTS] 3.1.1.3.1.3, revision of 2024-11-19; RFC 4511, Section 4.5.1.7).
//
// A filter is hostile input, and an oracle: who may not read an attribute must
// not learn it from what matches. So evaluation has three values, what a caller
// cannot read is Undefined wherever it stands, and Undefined stays so under
// "not". Some attributes match for nobody.
//
// It reads no store and knows no caller: an [Entry] answers for both. Parsing is
// adproto's. Read [Compile] first, then [Filter.Match] and [Filter.Probes].
package filter
