package credspec

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// Scheme says where a referenced credential spec lies.
type Scheme string

// The schemes of Docker's security option.
const (
	SchemeFile     Scheme = "file"     // below Docker's CredentialSpecs directory
	SchemeRegistry Scheme = "registry" // a value of the Windows registry
	SchemeRaw      Scheme = "raw"      // the JSON itself
	SchemeConfig   Scheme = "config"   // the id of a swarm config
)

// Ref is a reference to a credential spec, such as file://contoso_webapp01.json.
type Ref struct {
	Scheme Scheme
	Value  string // what follows ://, not empty
}

// Errors with Docker's own words, which its users search for.
var (
	// ErrRef is returned for a reference of no known scheme or without a value.
	ErrRef = errors.New("invalid credential spec security option - value must be prefixed by 'file://', 'registry://', or 'raw://' followed by a non-empty value")
	// ErrAbsolute is returned for a file:// reference with an absolute path.
	ErrAbsolute = errors.New("invalid credential spec - file:// path cannot be absolute")
)

// ParseRef reads a reference. The scheme is matched without regard to case.
// config:// is known to swarm services alone; elsewhere it is refused in the
// words for any unknown scheme, as Docker does.
func ParseRef(s string, swarm bool) (Ref, error) {
	scheme, value, ok := strings.Cut(s, "://")
	if !ok || value == "" {
		return Ref{}, ErrRef
	}
	r := Ref{Scheme(strings.ToLower(scheme)), value}
	switch r.Scheme {
	case SchemeFile, SchemeRegistry, SchemeRaw:
		return r, nil
	case SchemeConfig:
		if swarm {
			return r, nil
		}
	}
	return Ref{}, ErrRef
}

// ParseSecurityOpts reads the values of --security-opt of a Windows container:
// credentialspec=REF, the key without regard to case. Of several the last
// wins, but each must be valid. No option gives the zero Ref.
func ParseSecurityOpts(opts []string, swarm bool) (Ref, error) {
	var last Ref
	for _, opt := range opts {
		key, value, ok := strings.Cut(opt, "=")
		if !ok {
			return Ref{}, fmt.Errorf("invalid security option: no equals sign in supplied value %s", opt)
		}
		if !strings.EqualFold(key, "credentialspec") {
			return Ref{}, fmt.Errorf("security option not supported: %s", key)
		}
		r, err := ParseRef(value, swarm)
		if err != nil {
			return Ref{}, err
		}
		last = r
	}
	return last, nil
}

// String is the reference as one writes it. The contents of raw:// are left
// out: they may hold a password.
func (r Ref) String() string {
	switch r.Scheme {
	case "":
		return ""
	case SchemeRaw:
		return "raw://…"
	}
	return string(r.Scheme) + "://" + r.Value
}

// Path is the file of a file:// reference, relative to the directory base,
// with slashes and cleaned. Both kinds of slash separate, on any system. It
// fails for an absolute path, a drive letter, and one that leaves base, with
// Docker's words. Whoever opens it must still not follow links out of base
// (os.Root does).
func (r Ref) Path(base string) (string, error) {
	if r.Scheme != SchemeFile {
		return "", ErrRef
	}
	p := strings.ReplaceAll(r.Value, `\`, "/")
	if strings.HasPrefix(p, "/") || len(p) > 1 && p[1] == ':' {
		return "", ErrAbsolute
	}
	if p = path.Clean(p); p == "." || p == ".." || strings.HasPrefix(p, "../") || strings.ContainsRune(p, 0) {
		return "", fmt.Errorf("invalid credential spec - file:// path must be under %s", base)
	}
	return p, nil
}

// maxNameLen bounds a spec's name in bytes, so that file names made of it
// stay below 255.
const maxNameLen = 128

// ErrName is wrapped by every refusal of a credential spec's name.
var ErrName = errors.New("invalid credential spec name")

// CheckName reports whether name may name a credential spec: 1 to 128 letters,
// digits, ".", "_" and "-" of ASCII, with a letter or digit at both ends. Such
// a name is good as a CDI device, as a file name and as a systemd instance;
// that of a Kubernetes object is one if it has small letters only.
func CheckName(name string) error {
	alnum := func(c byte) bool {
		return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
	}
	if name == "" || len(name) > maxNameLen {
		return fmt.Errorf("%w: %s: want 1 to %d characters", ErrName, quote(name), maxNameLen)
	}
	for i := range len(name) {
		c := name[i]
		if !alnum(c) && (i == 0 || i == len(name)-1 || c != '.' && c != '_' && c != '-') {
			return fmt.Errorf("%w: %s: want letters, digits, \".\", \"_\" and \"-\", with a letter or digit at both ends", ErrName, quote(name))
		}
	}
	return nil
}

// NameOfFile is the name of the credential spec that a file of that base name
// holds: without its extension .json, in any case of letters, and escaped as
// EscapeName does. It fails for other extensions, for hidden files, and for
// names that are too long.
func NameOfFile(base string) (string, error) {
	const ext = ".json"
	if len(base) < len(ext) || !strings.EqualFold(base[len(base)-len(ext):], ext) {
		return "", fmt.Errorf("%w: file %s has not the extension %s", ErrName, quote(base), ext)
	}
	name := base[:len(base)-len(ext)]
	if strings.HasPrefix(name, ".") {
		return "", fmt.Errorf("%w: file %s is hidden", ErrName, quote(base))
	}
	name = EscapeName(name)
	return name, CheckName(name)
}

// EscapeName makes a name that CheckName takes: each byte that it would refuse is
// "x-" and two small hex digits, such as contosox-20web for "contoso web". A name that it takes
// stays, so that one file may have the escaped name of another.
func EscapeName(name string) string {
	if CheckName(name) == nil {
		return name
	}
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		inside := i > 0 && i < len(name)-1 && (c == '.' || c == '_' || c == '-')
		if inside || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "x-%02x", c)
	}
	return b.String()
}

// FileName is the file that New-CredentialSpec writes by default:
// NETBIOS_ACCOUNT.json in small letters.
func FileName(netbios, account string) string {
	return strings.ToLower(netbios) + "_" + strings.ToLower(strings.TrimRight(account, "$")) + ".json"
}
