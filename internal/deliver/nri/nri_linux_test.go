package nri

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/net/multiplex"
	"github.com/containerd/ttrpc"
	"go.uber.org/goleak"
)

// engine is the engine's side of one connection: what internal/deliver/engine does with
// containerd, here without one, for the race detector and for leaks.
type engine struct {
	registered chan *api.RegisterPluginRequest
}

func (e engine) RegisterPlugin(_ context.Context, r *api.RegisterPluginRequest) (*api.Empty, error) {
	e.registered <- r
	return &api.Empty{}, nil
}

func (engine) UpdateContainers(context.Context, *api.UpdateContainersRequest) (*api.UpdateContainersResponse, error) {
	return &api.UpdateContainersResponse{}, nil
}

// accept takes one connection of the plug-in and gives what calls it.
func accept(t *testing.T, l net.Listener) (*ttrpc.Client, func()) {
	t.Helper()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	mux := multiplex.Multiplex(conn)
	toPlugin, err := mux.Open(multiplex.PluginServiceConn)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := mux.Listen(multiplex.RuntimeServiceConn)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	e := engine{make(chan *api.RegisterPluginRequest, 1)}
	api.RegisterRuntimeService(server, e)
	done := make(chan error, 1)
	go func() { done <- server.Serve(context.Background(), listener) }()
	client := ttrpc.NewClient(toPlugin)
	if r := <-e.registered; r.GetPluginName() != "gmsa" || r.GetPluginIdx() != "50" {
		t.Errorf("registered %v", r)
	}
	return client, func() {
		client.Close()
		mux.Close()
		listener.Close()
		server.Close()
		<-done
	}
}

func TestThePluginAdjustsWhatIsAnnotated(t *testing.T) {
	defer goleak.VerifyNone(t)
	socket := filepath.Join(t.TempDir(), "nri.sock")
	p := &Plugin{Socket: socket, Hook: "/usr/libexec/gmsa/gmsa-hook", HookSocket: "/run/gmsa/hook.sock", Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); p.Run(ctx) }()
	l, err := net.Listen("unix", socket) // the engine comes after the agent
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, runtime := range []string{"containerd", "cri-o"} { // a connection for each
		client, hangUp := accept(t, l)
		plugin := api.NewPluginClient(client)
		c, err := plugin.Configure(t.Context(), &api.ConfigureRequest{RuntimeName: runtime})
		if events := api.EventMask(c.GetEvents()); err != nil || !events.IsSet(api.Event_CREATE_CONTAINER) || events.IsSet(api.Event_REMOVE_CONTAINER) {
			t.Errorf("configured %v, %v", c, err)
		}
		if r, err := plugin.Synchronize(t.Context(), &api.SynchronizeRequest{More: true}); err != nil || !r.GetMore() {
			t.Errorf("synchronized %v, %v", r, err)
		}
		create := func(annotations map[string]string) *api.ContainerAdjustment {
			t.Helper()
			r, err := plugin.CreateContainer(t.Context(), &api.CreateContainerRequest{
				Pod: &api.PodSandbox{Annotations: annotations}, Container: &api.Container{Name: "app"},
			})
			if err != nil {
				t.Error(err)
			}
			return r.GetAdjust()
		}
		for name, annotations := range map[string]map[string]string{
			"no annotation": nil, "another container's": {"dev.gmsa.credentialspec/db": "webapp01"}, "none for this one": {"dev.gmsa.credentialspec": "webapp01", "dev.gmsa.credentialspec/app": ""},
		} {
			if a := create(annotations); a != nil {
				t.Errorf("%s, %s: adjusted %v", runtime, name, a)
			}
		}
		a := create(map[string]string{"dev.gmsa.credentialspec": "webapp01:keytab"})
		if env := a.GetEnv(); len(env) == 0 || env[0].GetKey() != "KRB5CCNAME" || env[0].GetValue() != "FILE:/run/gmsa/..data/ccache" {
			t.Errorf("%s: environment %v", runtime, env)
		}
		var args string
		if hooks := a.GetHooks().GetCreateRuntime(); len(hooks) == 1 {
			args = strings.Join(hooks[0].GetArgs(), " ")
		}
		want := "gmsa-hook createRuntime --socket /run/gmsa/hook.sock --spec webapp01:keytab --by-annotation"
		if runtime == "cri-o" { // which has the hook from its directory of hooks
			want = ""
		}
		if args != want || len(a.GetHooks().GetPoststop()) != len(a.GetHooks().GetCreateRuntime()) {
			t.Errorf("%s: hooks %v", runtime, a.GetHooks())
		}
		hangUp()
	}
	cancel()
	<-ended
}
