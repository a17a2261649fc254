package krb5

// TicketFlags are the flags of a ticket, RFC 4120, Section 5.3: bit 0 of the
// specification is the most significant bit.
type TicketFlags uint32
