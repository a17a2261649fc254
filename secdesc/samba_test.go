package secdesc

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"os/exec"
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/lab"
	"pgregory.net/rapid"
)

// samba asks Samba's own code about security descriptors.
type samba struct {
	enc *json.Encoder
	dec *bufio.Scanner
}

type sambaAnswer struct {
	Hex, SDDL, Error string
}

func startSamba(t *testing.T) *samba {
	lab.Need(t, "samba-tool") // brings Samba's Python modules
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "testdata/samba_sddl.py")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	dec := bufio.NewScanner(out)
	dec.Buffer(nil, 1<<20)
	return &samba{enc: json.NewEncoder(in), dec: dec}
}

func (s *samba) ask(t rapid.TB, question map[string]string) sambaAnswer {
	t.Helper()
	if err := s.enc.Encode(question); err != nil {
		t.Fatal(err)
	}
	if !s.dec.Scan() {
		t.Fatalf("Samba's Python ended: %v", s.dec.Err())
	}
	var a sambaAnswer
	if err := json.Unmarshal(s.dec.Bytes(), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// compare wants Samba to read our bytes as we do, to print them as we do, and
// us to read Samba's bytes as it does.
func (s *samba) compare(t rapid.TB, sd SecurityDescriptor) {
	t.Helper()
	ours, err := sd.SDDLIn(domain, domain)
	if err != nil {
		t.Fatal(err)
	}
	b, err := sd.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	read := s.ask(t, map[string]string{"hex": hex.EncodeToString(b)})
	if read.Error != "" || read.SDDL != ours {
		t.Fatalf("Samba prints our bytes as\n%s %s, we as\n%s", read.SDDL, read.Error, ours)
	}
	written := s.ask(t, map[string]string{"sddl": ours})
	if written.Error != "" {
		t.Fatalf("Samba does not read %s: %s", ours, written.Error)
	}
	theirs, err := hex.DecodeString(written.Hex)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := Parse(theirs)
	if err != nil {
		t.Fatalf("we do not read Samba's bytes of %s: %v", ours, err)
	}
	if again, err := parsed.SDDLIn(domain, domain); err != nil || again != ours {
		t.Fatalf("through Samba's bytes %s becomes %s, error %v", ours, again, err)
	}
}

// TestSambaSDDL reads the default descriptors of the schema that Samba ships,
// and compares with Samba.
func TestSambaSDDL(t *testing.T) {
	s := startSamba(t)
	for _, text := range []string{userDefault, "O:SYD:(A;;FRFW;;;S-1-5-9)", "O:BAG:BAD:AI(A;CIID;GA;;;SY)S:PAI(AU;CISA;WPWDWO;;;WD)", "D:(A;;FA;;;SY)(A;;FR;;;BA)"} {
		theirs := s.ask(t, map[string]string{"sddl": text})
		if theirs.Error != "" {
			t.Fatalf("Samba does not read %s: %s", text, theirs.Error)
		}
		sd, err := ParseSDDL(text, domain, domain)
		if err != nil {
			t.Fatal(err)
		}
		if ours, err := sd.SDDLIn(domain, domain); err != nil || ours != theirs.SDDL {
			t.Errorf("Samba prints\n%s, we\n%s, error %v", theirs.SDDL, ours, err)
		}
		s.compare(t, sd)
	}
}

// TestSambaAliases compares the names of SIDs. Samba does not know those of
// the newest versions of Windows.
func TestSambaAliases(t *testing.T) {
	s := startSamba(t)
	known := 0
	for _, a := range sidAliases {
		theirs := s.ask(t, map[string]string{"sddl": "O:" + a.text})
		if theirs.Error != "" {
			t.Logf("Samba does not know %s", a.text)
			continue
		}
		known++
		b, _ := hex.DecodeString(theirs.Hex)
		sd, err := Parse(b)
		if want := a.resolve(domain, domain); err != nil || sd.Owner != want {
			t.Errorf("%s is %v to Samba and %v to us, error %v", a.text, sd.Owner, want, err)
		}
	}
	if known < 50 {
		t.Errorf("Samba knows %d aliases only", known)
	}
}

func TestSambaRandom(t *testing.T) {
	s := startSamba(t)
	rapid.Check(t, func(t *rapid.T) {
		sd := genDescriptor(t)
		for _, l := range []*ACL{sd.DACL, sd.SACL} {
			if l == nil {
				continue
			}
			l.Revision = RevisionDS // the only one that Samba writes
			for i := range l.ACEs {
				a := &l.ACEs[i]
				a.Flags &^= Critical // which Samba does not know
				if a.Mask == 0 {
					a.Mask = ReadProperty
				}
				a.SID = sambaSID(a.SID)
			}
		}
		sd.Owner, sd.Group = sambaSID(sd.Owner), sambaSID(sd.Group)
		s.compare(t, sd)
	})
}

// sambaSID replaces a SID whose authority Samba prints with fewer than the 12
// digits of [MS-DTYP] 2.4.2.1.
func sambaSID(s dtyp.SID) dtyp.SID {
	if s.Authority() > 1<<32 {
		return dtyp.NewSID(1<<47, s.SubAuthorities()...)
	}
	return s
}
