package kdc

import (
	"crypto/sha256"
	"sync"

	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// maxOpened bounds one generation of opened TGTs, of about 8 KiB each.
const maxOpened = 1024

// openedTGTs keeps TGTs that were decrypted and whose PACs were verified, by their
// ciphertexts: a client asks for one service after the other with the same one. What
// changes, the time and the directory, is judged each time. It keeps two generations, so
// that what is in use stays.
type openedTGTs struct {
	mu sync.Mutex
	// Both are guarded by mu.
	young, old map[ticketKey]opened
}

type ticketKey [sha256.Size]byte

// opened is a TGT with the key that opened it. The ticket is shared and not changed.
type opened struct {
	key    *crypto.Key
	ticket *shownTicket
}

// find is the TGT of that ciphertext, if it was opened with that key.
func (o *openedTGTs) find(k ticketKey, key *crypto.Key) (*shownTicket, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t, ok := o.young[k]
	if !ok {
		if t, ok = o.old[k]; ok {
			o.put(k, t)
		}
	}
	if !ok || !t.key.Equal(key) {
		return nil, false
	}
	return t.ticket, true
}

func (o *openedTGTs) keep(k ticketKey, t opened) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.put(k, t)
}

// put adds to the young generation; the caller holds mu.
func (o *openedTGTs) put(k ticketKey, t opened) {
	if o.young == nil || len(o.young) >= maxOpened {
		o.young, o.old = map[ticketKey]opened{}, o.young
	}
	o.young[k] = t
}
