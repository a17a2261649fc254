// Package hookapi is what gmsa-hook and the agent say to each other.
//
// The hook is a program of a few hundred lines that container runtimes run as root,
// once for each container, and that should add milliseconds to a start. So it does
// not speak the agent's gRPC: one message goes each way, JSON on a unixpacket
// socket, with descriptors beside it. The hook sends a pidfd of the container's first
// process, so that no number can be taken for another process; the agent sends back
// detached mounts, so that no path has to mean the same to both.
//
// Read [Request], [Reply] and [Call].
package hookapi

import (
	"fmt"
	"strings"
	"time"
)

const (
	// DefaultSocket is where the agent of a host waits for hooks.
	DefaultSocket = "/run/gmsa/hook.sock"

	// Timeout bounds a call, on both sides. A container's start fails within 10 s
	// (Deadline); what is between the two is for the message to reach its reader.
	Timeout = 7 * time.Second
	// EndTimeout bounds the hook's call at a container's end. A start that failed
	// runs that hook too, and its time comes on top.
	EndTimeout = 500 * time.Millisecond
	// Deadline is when a hook gives up whatever it is doing.
	Deadline = 9 * time.Second

	// MaxMessage bounds a message in either direction, in bytes.
	MaxMessage = 64 << 10
	// maxFiles bounds the descriptors beside a message.
	maxFiles = 4
)

// Op is what a hook asks for.
type Op string

const (
	// Attach asks for a lease of a container that is being created. One descriptor
	// comes with it: a pidfd of the container's first process.
	Attach Op = "attach"
	// End says that a container has stopped. The agent knows already, from the
	// pidfd; this only hastens it.
	End Op = "end"
)

// Request is a hook's message.
type Request struct {
	Op Op `json:"op"`
	// Container is the runtime's name for the container. It is for people to read,
	// and to end the container's lease by.
	Container string `json:"container"`
	// CredentialSpec is the name of a credential spec.
	CredentialSpec string `json:"credentialSpec,omitempty"`
	// ByAnnotation says that an annotation of the container named the spec: podman
	// gives a container the annotations of its image, so that it may be the image
	// that asks.
	ByAnnotation bool `json:"byAnnotation,omitempty"`
	// Keytab asks for the account's keys beside its tickets.
	Keytab bool `json:"keytab,omitempty"`
	// Namespace and Pod are those of Kubernetes, as the CRI of containerd names them in the
	// container's annotations. Other engines' users can write the same: who believes it
	// looks at the engine first.
	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	// UID and GID are the user of the container's program, as ids of the
	// container. The agent maps them by the user namespace of the process.
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
	// Owner is whom the files are for, where that is somebody else: an image may start
	// as root and become another user.
	Owner *Owner `json:"owner,omitempty"`
}

// Owner is whom a lease's files are for, as ids of the container.
type Owner struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
	// Group may read the files too.
	Group bool `json:"group,omitempty"`
}

// Reply is the agent's message.
type Reply struct {
	// Lease is the id of the lease, empty in the reply to [End].
	Lease string `json:"lease,omitempty"`
	// Mounts are what to attach: one for each descriptor beside the message, in the
	// same order. Each is complete, and read-only, when it is sent.
	Mounts []Mount `json:"mounts,omitempty"`
	// Failure says why there is no lease; nil for success.
	Failure *Failure `json:"failure,omitempty"`
}

// Mount says where a detached mount belongs.
type Mount struct {
	// Target is an absolute path of the container.
	Target string `json:"target"`
	// Directory tells a directory from a file.
	Directory bool `json:"directory,omitempty"`
}

// Failure is why a container gets no identity, for whoever starts it.
type Failure struct {
	Message string   `json:"message"`
	Hints   []string `json:"hints,omitempty"`
}

// Error is the message with its hints, each on a line: a runtime passes on what a
// hook prints, and nobody else shows the hints.
func (f *Failure) Error() string {
	var b strings.Builder
	b.WriteString(f.Message)
	for _, h := range f.Hints {
		fmt.Fprintf(&b, "\nhint: %s", h)
	}
	return b.String()
}
