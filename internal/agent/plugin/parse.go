package plugin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/opengmsa/opengmsa/secret"
)

// inlinePlugin takes the credentials from the input: domain:user:password, the
// form of Microsoft's sample plug-in. The password may contain colons.
type inlinePlugin struct{}

func (inlinePlugin) Fetch(_ context.Context, input secret.Bytes) (Credentials, error) {
	parts := bytes.SplitN(input.Reveal(), []byte(":"), 3)
	if len(parts) != 3 {
		return Credentials{}, fmt.Errorf("%w: the input has not the form domain:user:password", ErrFetch)
	}
	return credentials(string(parts[0]), string(parts[1]), secret.Copy(parts[2])), nil
}

// fields is a stored identity as JSON: AWS's secrets have these names, and so
// have Rancher's. A "domain" is understood too. Other members are ignored.
type fields struct {
	Username   string `json:"username"`
	Password   string `json:"password"`
	DomainName string `json:"domainName"`
	Domain     string `json:"domain"`
}

func (f fields) credentials() Credentials {
	domain := f.DomainName
	if domain == "" {
		domain = f.Domain
	}
	return credentials(domain, f.Username, secret.New([]byte(f.Password)))
}

// parseStored reads what file-like stores contain: the JSON object of
// [fields], or one line domain\user:password. Spaces around JSON and one line
// end after the line do not count. The error never quotes b.
func parseStored(b []byte) (Credentials, error) {
	if trimmed := bytes.TrimSpace(b); bytes.HasPrefix(trimmed, []byte("{")) {
		var f fields
		if json.Unmarshal(trimmed, &f) != nil {
			// The decoder's error would quote the value that it stumbles over.
			return Credentials{}, fmt.Errorf("%w: the stored value begins with { and is no JSON object of strings", ErrFetch)
		}
		return f.credentials(), nil
	}
	user, password, ok := bytes.Cut(trimLine(b), []byte(":"))
	if !ok || !bytes.ContainsAny(user, `\@`) {
		return Credentials{}, fmt.Errorf(`%w: the stored value is neither domain\user:password nor a JSON object with username and password`, ErrFetch)
	}
	return credentials("", string(user), secret.Copy(password)), nil
}

// trimLine removes one line end.
func trimLine(b []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
}

// checkEntry wants one component of a path: what a spec's author writes names
// an entry of a directory and nothing else.
func checkEntry(name string) error {
	if name == "" || len(name) > 255 || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\\:\x00") {
		return fmt.Errorf("%w: the input is not the name of an entry: it is empty, begins with a dot, or has a slash, backslash or colon", ErrFetch)
	}
	return nil
}
