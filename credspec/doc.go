// Package credspec reads, checks and writes credential specs: the JSON files
// that name the gMSAs of a container, as Microsoft's CredentialSpec module
// makes them and Docker, Kubernetes (windows.k8s.io/v1 GMSACredentialSpec) and
// Windows consume them. It also reads the references to them, such as
// file://NAME.json.
//
// It reads no file and asks no domain: whether the named account exists, or
// may be used, is for others to find out. A credential spec names an account,
// it never grants one.
//
// There is no published schema. What is accepted here is the union of what the
// consumers above accept; what is written is what all of them accept. Keys are
// matched exactly first and without regard to case second, with a warning:
// nothing published says whether Windows folds case, and Kubernetes does not.
//
// Read [Parse] first, then [Spec.Accounts].
package credspec
