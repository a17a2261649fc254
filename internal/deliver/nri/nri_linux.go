// Package nri gives the pods of Kubernetes their identity by an annotation: it is a
// plug-in of the Node Resource Interface, by which containerd lets a container's
// configuration be changed while it makes the container.
//
// It puts the hook of package ocihook and the environment into the containers that are
// annotated, and judges nothing: the agent does, when the hook calls. An engine makes its
// containers without a plug-in that is not connected, so that nobody should rely on this
// package alone: what gmsa runtime install sets up beside it does not start the container
// then.
//
// The protocol is https://github.com/containerd/nri, version 0.8, of containerd 1.7 and
// later; its generated messages and its multiplexer are used, and its stub is not,
// because that ends the process with the connection. Read [Plugin.Run].
package nri

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/net/multiplex"
	"github.com/containerd/ttrpc"

	"github.com/opengmsa/opengmsa/internal/deliver/ocihook"
	"github.com/opengmsa/opengmsa/internal/lease"
)

const (
	// DefaultSocket is where engines wait for plug-ins.
	DefaultSocket = api.DefaultSocketPath

	// name and index identify the plug-in to engines; plug-ins are called in the order
	// of their indexes.
	name  = "gmsa"
	index = "50"

	hookTimeout = 10 // seconds

	// retry is how soon the plug-in connects again: between the start of an engine and
	// this much later it makes containers without the plug-in.
	retry = 250 * time.Millisecond
	// registrationTimeout bounds the registration; engines bound it by 5 s too.
	registrationTimeout = 5 * time.Second
)

// Plugin is the plug-in.
type Plugin struct {
	// Socket is the engine's.
	Socket string
	// Hook is the program gmsa-hook, and HookSocket where the agent waits for it.
	Hook, HookSocket string
	Log              *slog.Logger
}

// Run connects to the engine, and again whenever the connection ends, until ctx does.
func (p *Plugin) Run(ctx context.Context) {
	said := ""
	for {
		err := p.serve(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED): // no engine, or none with NRI
		case err != nil && err.Error() != said: // once
			said = err.Error()
			p.Log.Warn("NRI", slog.String("socket", p.Socket), slog.Any("error", err))
		case err == nil:
			said = ""
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retry):
		}
	}
}

// serve is one connection, from its registration to its end.
func (p *Plugin) serve(ctx context.Context) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", p.Socket)
	if err != nil {
		return err
	}
	mux := multiplex.Multiplex(conn)
	defer mux.Close()
	defer context.AfterFunc(ctx, func() { mux.Close() })()
	listener, err := mux.Listen(multiplex.PluginServiceConn)
	if err != nil {
		return err
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		return err
	}
	defer server.Close()
	api.RegisterPluginService(server, &service{p: p})
	toEngine, err := mux.Open(multiplex.RuntimeServiceConn)
	if err != nil {
		return err
	}
	// The listener, which gives out one connection, does not end with it by itself.
	client := ttrpc.NewClient(toEngine, ttrpc.WithOnClose(func() { listener.Close() }))
	defer client.Close()
	// The engine calls the plug-in while it registers it.
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ctx, listener) // it ends with the connection, whatever it says of that
	}()
	if err = p.register(ctx, client); err != nil {
		listener.Close()
	}
	<-served
	if err == nil && ctx.Err() == nil {
		p.Log.Info("NRI: the engine has gone", slog.String("socket", p.Socket))
	}
	return err
}

func (p *Plugin) register(ctx context.Context, client *ttrpc.Client) error {
	ctx, cancel := context.WithTimeout(ctx, registrationTimeout)
	defer cancel()
	_, err := api.NewRuntimeClient(client).RegisterPlugin(ctx, &api.RegisterPluginRequest{PluginName: name, PluginIdx: index})
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	return nil
}

// service answers an engine: api.PluginService.
type service struct {
	p *Plugin
	// hooks: the engine puts in none by itself. CRI-O is set up to, by the annotation.
	hooks bool
}

// Configure learns which engine it is, and asks to be called for new containers alone.
func (s *service) Configure(_ context.Context, r *api.ConfigureRequest) (*api.ConfigureResponse, error) {
	s.hooks = !strings.Contains(r.GetRuntimeName(), "cri-o")
	s.p.Log.Info("NRI: connected", slog.String("engine", r.GetRuntimeName()), slog.String("version", r.GetRuntimeVersion()))
	var events api.EventMask
	events.Set(api.Event_CREATE_CONTAINER)
	return &api.ConfigureResponse{Events: int32(events)}, nil
}

// CreateContainer adjusts a container that is annotated.
func (s *service) CreateContainer(_ context.Context, r *api.CreateContainerRequest) (*api.CreateContainerResponse, error) {
	spec := ocihook.SpecOf(r.GetPod().GetAnnotations(), r.GetContainer().GetName())
	if spec == "" {
		return &api.CreateContainerResponse{}, nil
	}
	adjust := &api.ContainerAdjustment{}
	for _, e := range lease.Env(lease.MountPoint) {
		key, value, _ := strings.Cut(e, "=")
		adjust.AddEnv(key, value)
	}
	if s.hooks {
		adjust.AddHooks(&api.Hooks{
			CreateRuntime: s.p.hook(ocihook.CreateRuntime, "--spec", spec, "--by-annotation"),
			Poststop:      s.p.hook(ocihook.Poststop),
		})
	}
	return &api.CreateContainerResponse{Adjust: adjust}, nil
}

// hook is an entry of the OCI configuration, as that of a CDI device.
func (p *Plugin) hook(stage string, args ...string) []*api.Hook {
	return []*api.Hook{{
		Path: p.Hook, Args: append([]string{filepath.Base(p.Hook), stage, "--socket", p.HookSocket}, args...),
		Env: []string{"GOTRACEBACK=none"}, Timeout: api.Int(hookTimeout),
	}}
}

// Synchronize hears of the containers that there are: they have what they have.
func (s *service) Synchronize(_ context.Context, r *api.SynchronizeRequest) (*api.SynchronizeResponse, error) {
	return &api.SynchronizeResponse{More: r.GetMore()}, nil
}

// Shutdown, UpdateContainer, StopContainer and StateChange are not asked for.
func (*service) Shutdown(context.Context, *api.Empty) (*api.Empty, error) { return &api.Empty{}, nil }

// UpdateContainer is part of api.PluginService.
func (*service) UpdateContainer(context.Context, *api.UpdateContainerRequest) (*api.UpdateContainerResponse, error) {
	return &api.UpdateContainerResponse{}, nil
}

// StopContainer is part of api.PluginService.
func (*service) StopContainer(context.Context, *api.StopContainerRequest) (*api.StopContainerResponse, error) {
	return &api.StopContainerResponse{}, nil
}

// StateChange is part of api.PluginService.
func (*service) StateChange(context.Context, *api.StateChangeEvent) (*api.Empty, error) {
	return &api.Empty{}, nil
}
