package secret

import (
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// material is what must not be seen anywhere; leaks knows its printed forms.
const material = "Tr0ub4dor&3-hunter2"

var leaks = []string{
	material,
	hex.EncodeToString([]byte(material)),
	strings.ToUpper(hex.EncodeToString([]byte(material))),
	strings.Trim(fmt.Sprintf("%d", []byte(material)), "[]"), // decimal, as %v prints a slice
	strings.Trim(fmt.Sprintf("%o", []byte(material)), "[]"), // octal
	strings.Trim(fmt.Sprintf("%b", []byte(material)), "[]"),
	"VHIwdWI0ZG9yJjMtaHVudGVyMg", // base64
	fmt.Sprintf("% x", material),
	fmt.Sprintf("%#v", []byte(material)),
}

func leaksIn(s string) bool {
	for _, l := range leaks {
		if strings.Contains(s, l) {
			return true
		}
	}
	return false
}

type holder struct {
	Name   string
	Key    Bytes
	Ptr    *Bytes
	hidden Bytes
	Any    any
}

func forms() map[string]any {
	b := Copy([]byte(material))
	h := holder{Name: "h", Key: b, Ptr: &b, hidden: b, Any: b}
	return map[string]any{
		"value":             b,
		"pointer":           &b,
		"struct":            h,
		"struct pointer":    &h,
		"slice":             []Bytes{b, b},
		"array":             [2]Bytes{b, b},
		"map":               map[string]Bytes{"k": b},
		"slice of pointers": []*Bytes{&b},
		"nested":            map[string][]holder{"k": {h}},
		"error":             fmt.Errorf("with key %v", b),
	}
}

func TestFmtNeverPrints(t *testing.T) {
	for name, v := range forms() {
		for c := 'a'; c <= 'z'; c++ {
			for _, verb := range []rune{c, c - 'a' + 'A'} {
				for _, flags := range []string{"", "+", "#", " ", "-40", "040", ".3", "#+"} {
					format := "%" + flags + string(verb)
					if out := fmt.Sprintf(format, v); leaksIn(out) {
						t.Errorf("%s with %s prints the secret: %s", name, format, out)
					}
				}
			}
		}
		if out := fmt.Sprint(v) + fmt.Sprintln(v); leaksIn(out) {
			t.Errorf("%s prints the secret: %s", name, out)
		}
	}
	if got := fmt.Sprintf("%v %s %#v %x", New([]byte("k")), New([]byte("k")), New([]byte("k")), New([]byte("k"))); got != strings.Repeat(placeholder+" ", 3)+placeholder {
		t.Errorf("a secret prints as %q", got)
	}
}

// TestLeakDetector shows that the tests of this file would see a leak.
func TestLeakDetector(t *testing.T) {
	for _, format := range []string{"%s", "%v", "%x", "%X", "%d", "% x", "%#v", "%o", "%b"} {
		if out := fmt.Sprintf(format, []byte(material)); !leaksIn(out) {
			t.Errorf("%s of the bare bytes goes unnoticed: %s", format, out)
		}
	}
}

type keyed struct{ Key Bytes }

func TestEncodersRefuse(t *testing.T) {
	b := Copy([]byte(material))
	for name, v := range map[string]any{
		"value":   b,
		"pointer": &b,
		"struct":  keyed{b},
		"slice":   []Bytes{b},
		"map":     map[string]Bytes{"k": b},
	} {
		encoders := map[string]func() ([]byte, error){
			"json": func() ([]byte, error) { return json.Marshal(v) },
			"yaml": func() ([]byte, error) { return yaml.Marshal(v) },
			"gob": func() ([]byte, error) {
				var buf bytes.Buffer
				err := gob.NewEncoder(&buf).Encode(v)
				return buf.Bytes(), err
			},
		}
		if name != "map" { // encoding/xml has no maps
			encoders["xml"] = func() ([]byte, error) { return xml.Marshal(v) }
		}
		for encoder, encode := range encoders {
			out, err := encode()
			if !errors.Is(err, ErrMarshal) && (err == nil || !strings.Contains(err.Error(), ErrMarshal.Error())) {
				t.Errorf("%s of a %s: error %v, want ErrMarshal", encoder, name, err)
			}
			if leaksIn(string(out)) || (err != nil && leaksIn(err.Error())) {
				t.Errorf("%s of a %s leaks: %s %v", encoder, name, out, err)
			}
		}
	}
}

func TestSlogNeverPrints(t *testing.T) {
	for name, v := range forms() {
		for handler, make := range map[string]func(*bytes.Buffer) slog.Handler{
			"text": func(w *bytes.Buffer) slog.Handler { return slog.NewTextHandler(w, nil) },
			"json": func(w *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(w, nil) },
		} {
			var buf bytes.Buffer
			log := slog.New(make(&buf))
			log.With("with", v).WithGroup("g").Error("message", "key", v)
			log.Error("message", slog.Any("any", v), slog.Group("group", "k", v))
			if leaksIn(buf.String()) {
				t.Errorf("%s handler prints a %s: %s", handler, name, &buf)
			}
			if !strings.Contains(buf.String(), "message") {
				t.Errorf("%s handler printed nothing", handler)
			}
		}
	}
}

func TestEqual(t *testing.T) {
	a := New([]byte("one"))
	for name, c := range map[string]struct {
		o    Bytes
		want bool
	}{
		"itself":          {a, true},
		"the same bytes":  {New([]byte("one")), true},
		"another byte":    {New([]byte("onf")), false},
		"a prefix":        {New([]byte("on")), false},
		"a longer secret": {New([]byte("one1")), false},
		"the empty one":   {Bytes{}, false},
	} {
		if a.Equal(c.o) != c.want || c.o.Equal(a) != c.want {
			t.Errorf("%s: Equal is not %v both ways", name, c.want)
		}
	}
	if !(Bytes{}).Equal(New(nil)) {
		t.Error("two empty secrets must be equal")
	}
}

func TestOwnership(t *testing.T) {
	b := []byte("key")
	owned, copied := New(b), Copy(b)
	b[0] = 'K'
	if string(owned.Reveal()) != "Key" || string(copied.Reveal()) != "key" {
		t.Errorf("New must own (%q), Copy must copy (%q)", owned.Reveal(), copied.Reveal())
	}
	clone := owned.Clone()
	alias := owned
	owned.Destroy()
	if !bytes.Equal(alias.Reveal(), make([]byte, 3)) || !bytes.Equal(b, make([]byte, 3)) {
		t.Errorf("Destroy left %q in a copy of the value, %q in memory", alias.Reveal(), b)
	}
	if string(clone.Reveal()) != "Key" {
		t.Errorf("Destroy reached the clone: %q", clone.Reveal())
	}
	if owned.Len() != 3 || owned.IsZero() {
		t.Error("a destroyed secret keeps its length")
	}
}

func TestEmpty(t *testing.T) {
	for name, b := range map[string]Bytes{"zero value": {}, "New(nil)": New(nil), "Copy of nothing": Copy([]byte{}), "clone": Bytes{}.Clone()} {
		if b.Len() != 0 || !b.IsZero() || b.Reveal() != nil {
			t.Errorf("%s is not empty", name)
		}
		b.Destroy()
	}
}
