package directory

import (
	"reflect"
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
)

func positions() []position {
	return []position{
		{kind: atWalk}, {kind: atWalk, path: []string{"Users"}}, {kind: atWalk, path: []string{"One", "", "Ü,=\x00"}},
		{kind: atIndex, guid: dtyp.GUID{1, 2, 3}},
		{kind: atSchema}, {kind: atSchema, next: 820},
		{kind: atSorted, sorted: sortable{guid: dtyp.GUID{4}, absent: true}},
		{kind: atSorted, sorted: sortable{guid: dtyp.GUID{4}, key: []byte("a key")}},
		{kind: atSorted, sorted: sortable{guid: dtyp.GUID{4}, key: []byte{}}},
	}
}

func TestPositionsComeBack(t *testing.T) {
	for _, p := range positions() {
		got, err := parsePosition(p.encode())
		if err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("%+v came back as %+v: %v", p, got, err)
		}
	}
}

// FuzzPosition: what is read writes the same bytes again; nothing else is read.
func FuzzPosition(f *testing.F) {
	for _, p := range positions() {
		f.Add(p.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parsePosition(b)
		if err != nil {
			return
		}
		again, err := parsePosition(p.encode())
		if err != nil || !reflect.DeepEqual(p, again) {
			t.Fatalf("%x: %+v became %+v: %v", b, p, again, err)
		}
	})
}
