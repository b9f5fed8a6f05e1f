package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/mayfly-ctf/mayfly/shared/scenario/registry"
)

// A registryServer is an OCI registry on loopback, for scenarios that are
// tried on this machine.
type registryServer struct {
	Address string
	server  *http.Server
	done    chan error
}

// startRegistry serves what is kept in dir. The port is part of every
// reference to it, so it is to stay the same from run to run.
func startRegistry(ctx context.Context, address, dir string) (*registryServer, error) {
	handler, err := registry.New(context.WithoutCancel(ctx), dir)
	if err != nil {
		return nil, fmt.Errorf("open the registry: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for the registry: %w; choose another port with --registry-port", err)
	}
	s := &registryServer{
		Address: listener.Addr().String(),
		server:  &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second},
		done:    make(chan error, 1),
	}
	go func() { s.done <- s.server.Serve(listener) }()
	return s, nil
}

// Stop ends the registry once its requests are answered, or ctx ends.
func (s *registryServer) Stop(ctx context.Context) {
	if err := s.server.Shutdown(ctx); err != nil {
		_ = s.server.Close() // a request that outlasts ctx is cut off
	}
	<-s.done
}
