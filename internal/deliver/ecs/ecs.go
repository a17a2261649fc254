// Package ecs serves the interface of Amazon's credentials-fetcher, by which the Amazon
// ECS agent and its tools ask for the Kerberos tickets of tasks.
//
// Its leases are the credential guard's, with a directory of links in the place where
// those tools look:
//
//	/var/credentials-fetcher/krbdir/ID/ACCOUNT -> /run/gmsa/leases/LEASE
//
// The ECS agent has ID/ACCOUNT mounted into a container as a whole, at
// /var/credentials-fetcher/krbdir, where a task's KRB5CCNAME names the file krb5cc. The
// mount is of the lease's own directory, so that renewal shows in the container, and
// nothing but links lies on the disk. They are all that this package remembers.
//
// What it does not do is AWS: the calls with ARNs say so. Read [Server].
package ecs

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/lease"
	"github.com/opengmsa/opengmsa/secret"
)

const (
	// maxSpecs bounds the credential specs of a request; a task of ECS has ten
	// containers at most.
	maxSpecs = 16
	// maxCredential bounds a user's name and a password, in bytes. Windows takes
	// passwords of 256 characters.
	maxCredential = 1024
	// idLength is that of credentials-fetcher's lease ids before they are hex.
	idLength = 10
)

// Guard is the agent as this package needs it.
type Guard interface {
	// LeaseTask makes a lease of a raw credential spec that lasts until EndTask, and
	// gives its directory, which has the cache as krb5cc. The passwords are read by
	// the host or, where there is one, by the reader.
	LeaseTask(ctx context.Context, spec []byte, owner lease.Owner, reader *lease.Reader) (lease.Lease, string, error)
	// RenewTasks takes the password of a reader, for the leases that it reads.
	RenewTasks(context.Context, lease.Reader) ([]lease.ID, error)
	// EndTask ends a lease, if it is there.
	EndTask(lease.ID)
}

// Server answers the calls. Who may make them is for its listener.
type Server struct {
	UnimplementedCredentialsFetcherServiceServer
	// Guard makes the leases.
	Guard Guard
	// Directory has a directory for each lease; its parents are root's.
	Directory string
	// Owner is whom the files of all leases belong to: no call names one.
	Owner lease.Owner
}

// HealthCheck answers.
func (s Server) HealthCheck(context.Context, *HealthCheckRequest) (*HealthCheckResponse, error) {
	return &HealthCheckResponse{Status: "OK"}, nil
}

// AddKerberosLease leases the accounts of credential specs as the host.
func (s Server) AddKerberosLease(ctx context.Context, r *CreateKerberosLeaseRequest) (*CreateKerberosLeaseResponse, error) {
	id, paths, err := s.add(ctx, r.GetCredspecContents(), nil)
	if err != nil {
		return nil, err
	}
	return &CreateKerberosLeaseResponse{LeaseId: id, CreatedKerberosFilePaths: paths}, nil
}

// AddNonDomainJoinedKerberosLease leases them by a user that the caller brings.
func (s Server) AddNonDomainJoinedKerberosLease(ctx context.Context, r *CreateNonDomainJoinedKerberosLeaseRequest) (*CreateNonDomainJoinedKerberosLeaseResponse, error) {
	reader, err := readerOf(r.GetUsername(), r.GetPassword(), r.GetDomain())
	if err != nil {
		return nil, err
	}
	defer reader.Password.Destroy()
	id, paths, err := s.add(ctx, r.GetCredspecContents(), &reader)
	if err != nil {
		return nil, err
	}
	return &CreateNonDomainJoinedKerberosLeaseResponse{LeaseId: id, CreatedKerberosFilePaths: paths}, nil
}

// RenewNonDomainJoinedKerberosLease brings the user's password of now, for all leases
// that it reads. The tickets are renewed without it as long as the agent runs and the
// password stays.
func (s Server) RenewNonDomainJoinedKerberosLease(ctx context.Context, r *RenewNonDomainJoinedKerberosLeaseRequest) (*RenewNonDomainJoinedKerberosLeaseResponse, error) {
	reader, err := readerOf(r.GetUsername(), r.GetPassword(), r.GetDomain())
	if err != nil {
		return nil, err
	}
	defer reader.Password.Destroy()
	ids, err := s.Guard.RenewTasks(ctx, reader)
	if err != nil {
		return nil, err
	}
	links, err := s.links("*")
	if err != nil {
		return nil, err
	}
	reply := &RenewNonDomainJoinedKerberosLeaseResponse{}
	for _, l := range links {
		if slices.Contains(ids, l.lease) {
			reply.RenewedKerberosFilePaths = append(reply.RenewedKerberosFilePaths, l.path)
		}
	}
	return reply, nil
}

// leaseID is the form of the ids that AddKerberosLease gives.
var leaseID = regexp.MustCompile(`^[0-9a-f]{20}$`)

// DeleteKerberosLease ends a lease.
func (s Server) DeleteKerberosLease(_ context.Context, r *DeleteKerberosLeaseRequest) (*DeleteKerberosLeaseResponse, error) {
	id := r.GetLeaseId()
	if !leaseID.MatchString(id) {
		return nil, usage("a lease id has %d lower-case hex digits", 2*idLength)
	}
	links, err := s.links(id)
	if err != nil {
		return nil, err
	}
	if len(links) == 0 {
		return nil, &agentapi.Failure{Kind: agentapi.Kind_KIND_NOT_FOUND, Message: "there is no lease " + id}
	}
	reply := &DeleteKerberosLeaseResponse{LeaseId: id}
	for _, l := range links {
		s.Guard.EndTask(l.lease)
		reply.DeletedKerberosFilePaths = append(reply.DeletedKerberosFilePaths, l.path)
	}
	return reply, os.RemoveAll(filepath.Join(s.Directory, id))
}

// AddKerberosArnLease needs AWS.
func (s Server) AddKerberosArnLease(context.Context, *KerberosArnLeaseRequest) (*CreateKerberosArnLeaseResponse, error) {
	return nil, noAWS()
}

// RenewKerberosArnLease needs AWS.
func (s Server) RenewKerberosArnLease(context.Context, *RenewKerberosArnLeaseRequest) (*RenewKerberosArnLeaseResponse, error) {
	return nil, noAWS()
}

func noAWS() error {
	return &agentapi.Failure{
		Kind: agentapi.Kind_KIND_FAILED, Message: "AWS is not configured: this agent resolves no ARNs",
		Hints: []string{"AddKerberosLease takes the credential spec itself, AddNonDomainJoinedKerberosLease a user's name and password with it"},
	}
}

func usage(format string, a ...any) error {
	return &agentapi.Failure{Kind: agentapi.Kind_KIND_USAGE, Message: fmt.Sprintf(format, a...)}
}

// readerOf checks what names a user. No message repeats any of it.
func readerOf(user, password, domain string) (lease.Reader, error) {
	if user == "" || password == "" || domain == "" {
		return lease.Reader{}, usage("username, password and domain are all needed")
	}
	if len(user) > maxCredential || len(password) > maxCredential || len(domain) > maxCredential {
		return lease.Reader{}, usage("username, password and domain have at most %d bytes", maxCredential)
	}
	return lease.Reader{User: user, Domain: domain, Password: secret.Copy([]byte(password))}, nil
}

// add makes a lease for each spec and the links to them, or nothing.
func (s Server) add(ctx context.Context, specs []string, reader *lease.Reader) (id string, paths []string, err error) {
	if len(specs) == 0 || len(specs) > maxSpecs {
		return "", nil, usage("%d credential specs, want 1 to %d", len(specs), maxSpecs)
	}
	id, err = newID()
	if err != nil {
		return "", nil, err
	}
	dir := filepath.Join(s.Directory, id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", nil, err
	}
	var made []lease.Lease
	defer func() {
		if err == nil {
			return
		}
		for _, l := range made {
			s.Guard.EndTask(l.ID)
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	for _, spec := range specs {
		l, target, err := s.Guard.LeaseTask(ctx, []byte(spec), s.Owner, reader)
		if err != nil {
			return "", nil, err
		}
		made = append(made, l)
		path := filepath.Join(dir, l.Accounts[0].Name)
		if err := os.Symlink(target, path); errors.Is(err, fs.ErrExist) {
			return "", nil, usage("two of the credential specs are of the account %s", l.Accounts[0].Name)
		} else if err != nil {
			return "", nil, err
		}
		paths = append(paths, path)
	}
	return id, paths, nil
}

func newID() (string, error) {
	var b [idLength]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	return hex.EncodeToString(b[:]), nil
}

// link is one account of a lease.
type link struct {
	path  string
	lease lease.ID
}

// links reads the links of a lease, or of all with "*".
func (s Server) links(id string) ([]link, error) {
	paths, err := filepath.Glob(filepath.Join(s.Directory, id, "*"))
	if err != nil {
		return nil, err
	}
	var list []link
	for _, path := range paths {
		target, err := os.Readlink(path)
		if err != nil {
			continue // not ours
		}
		if id, err := lease.ParseID(filepath.Base(target)); err == nil {
			list = append(list, link{path, id})
		}
	}
	return list, nil
}

// Sweep removes what led to leases that ended without us: at a boot, all.
func (s Server) Sweep() error {
	links, err := s.links("*")
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range links {
		if _, err := os.Stat(l.path); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, os.Remove(l.path))
			_ = os.Remove(filepath.Dir(l.path)) // once it is empty
		}
	}
	return errors.Join(errs...)
}
