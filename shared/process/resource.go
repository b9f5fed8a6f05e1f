package process

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pulumi/pulumi/pkg/v3/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
)

const (
	// cleanup is how long the end of a failed start may take, whoever waits.
	cleanup = 20 * time.Second
	// logWait is how long the last words of a program may take to get to the log.
	logWait = 2 * time.Second
)

// Check tells what is wrong with the inputs, each by its property. What is not
// known yet, in a preview, is not complained of.
func (p *Provider) Check(_ context.Context, r plugin.CheckRequest) (plugin.CheckResponse, error) {
	if r.URN.Type() != Type {
		return plugin.CheckResponse{}, fmt.Errorf("there is no resource %s, only %s", r.URN.Type(), Type)
	}
	in, failures := parseInputs(r.News)
	known := !plain(r.News["command"]).ContainsUnknowns() && !plain(r.News["files"]).ContainsUnknowns()
	if len(failures) == 0 && known {
		if _, err := in.executable(""); err != nil {
			failures = append(failures, plugin.CheckFailure{Property: "command", Reason: err.Error()})
		}
	}
	return plugin.CheckResponse{Properties: r.News, Failures: failures}, nil
}

// Diff asks for a replacement when the program would be another, or when it
// ended by itself. The old one goes first, as both have the same directory.
func (p *Provider) Diff(_ context.Context, r plugin.DiffRequest) (plugin.DiffResponse, error) {
	older, newer := plainMap(r.OldInputs), plainMap(r.NewInputs)
	var keys []resource.PropertyKey
	for _, key := range []resource.PropertyKey{"command", "args", "env", "files"} {
		if !slices.Contains(r.IgnoreChanges, string(key)) && !older[key].DeepEquals(newer[key]) {
			keys = append(keys, key)
		}
	}
	pl, err := p.store.place(r.ID, r.URN)
	if err != nil {
		return plugin.DiffResponse{}, err
	}
	rec, err := pl.current(r.OldOutputs)
	if err != nil {
		return plugin.DiffResponse{}, err
	}
	if !rec.running() {
		keys = append(keys, "pid")
	}
	if len(keys) == 0 {
		return plugin.DiffResponse{Changes: plugin.DiffNone}, nil
	}
	return plugin.DiffResponse{
		Changes: plugin.DiffSome, ReplaceKeys: keys, ChangedKeys: keys, DeleteBeforeReplace: true,
	}, nil
}

// Create starts the program and returns when its port answers. What an
// interrupted Create left is stopped first. After an error nothing runs.
func (p *Provider) Create(ctx context.Context, r plugin.CreateRequest) (plugin.CreateResponse, error) {
	if r.Preview {
		return plugin.CreateResponse{Properties: unknownOutputs(r.Properties)}, nil
	}
	ctx, end := p.begin(ctx)
	defer end()
	in, failures := parseInputs(r.Properties)
	if len(failures) > 0 {
		return plugin.CreateResponse{}, fmt.Errorf("%s %s", failures[0].Property, failures[0].Reason)
	}
	pl, err := p.store.place("", r.URN)
	if err != nil {
		return plugin.CreateResponse{}, err
	}
	if err := p.remove(ctx, pl, record{}); err != nil {
		return plugin.CreateResponse{}, err
	}
	rec, err := p.launch(ctx, pl, in)
	if err != nil {
		return plugin.CreateResponse{}, err
	}
	return plugin.CreateResponse{ID: pl.id(), Properties: rec.outputs(r.Properties)}, nil
}

// launch starts a program in a place that is empty, and leaves it empty if
// that fails.
func (p *Provider) launch(ctx context.Context, pl place, in inputs) (rec record, err error) {
	if rec, err = p.store.reserve(ctx, pl, p.challengeOf(pl)); err != nil {
		return record{}, err
	}
	var s *started
	defer func() {
		if err == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
		defer cancel()
		stopErr := stop(ctx, rec, 0)
		err = pl.explain(ctx, err, s)
		err = errors.Join(err, stopErr)
		if stopErr == nil {
			err = errors.Join(err, p.store.remove(ctx, pl))
		}
	}()
	if err = writeFiles(pl.work(), in); err != nil {
		return rec, err
	}
	if s, err = start(ctx, pl, in, rec, p.maxOutput); err != nil {
		return rec, err
	}
	rec.PID, rec.Start = s.process.pid, s.process.start
	if err = pl.save(rec); err != nil {
		return rec, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, in.readyTimeout,
		fmt.Errorf("%w on port %d after %v", errNotReady, rec.Port, in.readyTimeout))
	defer cancel()
	return rec, waitReady(ctx, s.process, rec.Port, s.ended)
}

// explain adds to an error how the program ended and what it said last.
func (pl place) explain(ctx context.Context, err error, s *started) error {
	if s == nil {
		return err
	}
	// A child that got away may hold the log open.
	ctx, cancel := context.WithTimeout(ctx, logWait)
	defer cancel()
	for _, done := range []chan struct{}{s.ended, s.logged} {
		select {
		case <-done:
		case <-ctx.Done():
			return err
		}
	}
	if errors.Is(err, errEnded) {
		how := "exit status 0"
		if s.err != nil {
			how = s.err.Error()
		}
		err = fmt.Errorf("%w: %s", err, how)
	}
	if tail := pl.tail(); tail != "" {
		return fmt.Errorf("%w; its last output:\n%s", err, tail)
	}
	return fmt.Errorf("%w; it printed nothing", err)
}

// Read returns a program that runs, and no id for one that does not. Without
// an id it is found by the URN: so the engine learns what became of a Create
// that was interrupted. Such a program is waited for and, if it does not get
// ready, stopped.
func (p *Provider) Read(ctx context.Context, r plugin.ReadRequest) (plugin.ReadResponse, error) {
	ctx, end := p.begin(ctx)
	defer end()
	pl, err := p.store.place(r.ID, r.URN)
	if err != nil {
		return plugin.ReadResponse{}, err
	}
	rec, err := pl.current(r.State)
	if err != nil {
		return plugin.ReadResponse{}, err
	}
	if r.ID == "" {
		rec, err = p.adopt(ctx, pl, rec, r.Inputs)
	}
	if err != nil || !rec.running() {
		return plugin.ReadResponse{}, err
	}
	return plugin.ReadResponse{ReadResult: plugin.ReadResult{
		ID: pl.id(), Inputs: r.Inputs, Outputs: rec.outputs(r.Inputs),
	}}, nil
}

// adopt finds the program of an interrupted start and finishes the start.
func (p *Provider) adopt(ctx context.Context, pl place, rec record, props resource.PropertyMap) (record, error) {
	if err := pl.started(ctx, rec); err != nil {
		return record{}, err
	}
	found, err := rec.findUnrecorded()
	if err != nil {
		return record{}, err
	}
	if !found.running() {
		return record{}, p.remove(ctx, pl, found)
	}
	if found != rec {
		if err := pl.save(found); err != nil {
			return record{}, err
		}
	}
	in, _ := parseInputs(props)
	ready, cancel := context.WithTimeoutCause(ctx, in.readyTimeout, errNotReady)
	defer cancel()
	err = waitReady(ready, found.process(), found.Port, nil)
	if errors.Is(err, errNotReady) || errors.Is(err, errEnded) {
		return record{}, p.remove(ctx, pl, found)
	}
	return found, err
}

// Update has nothing to do: whatever matters is a replacement.
func (p *Provider) Update(_ context.Context, r plugin.UpdateRequest) (plugin.UpdateResponse, error) {
	out := r.OldOutputs.Copy()
	maps.Copy(out, r.NewInputs)
	return plugin.UpdateResponse{Properties: out}, nil
}

// Delete stops the program and its children and removes its directory. It may
// be called again, and when nothing runs.
func (p *Provider) Delete(ctx context.Context, r plugin.DeleteRequest) (plugin.DeleteResponse, error) {
	ctx, end := p.begin(ctx)
	defer end()
	pl, err := p.store.place(r.ID, r.URN)
	if err == nil {
		err = p.remove(ctx, pl, recordOf(r.Outputs))
	}
	if err != nil {
		return plugin.DeleteResponse{Status: resource.StatusUnknown}, err
	}
	return plugin.DeleteResponse{}, nil
}

// remove stops what is recorded of a place, or else what fallback names, and
// removes the directory.
func (p *Provider) remove(ctx context.Context, pl place, fallback record) error {
	rec, ok, err := pl.load()
	if err != nil {
		return err
	}
	if !ok {
		rec = fallback
	}
	if err := pl.started(ctx, rec); err != nil {
		return err
	}
	if err := stop(ctx, rec, grace); err != nil {
		return fmt.Errorf("stop %s: %w", pl.id(), err)
	}
	return p.store.remove(ctx, pl)
}

// Sweep stops every program of the identity and removes its directories. It
// may be called again, and when there is nothing.
func (p *Provider) Sweep(ctx context.Context, identity ctf.Identity) error {
	ctx, end := p.begin(ctx)
	defer end()
	places, err := p.store.placesOf(string(identity))
	if err != nil {
		return fmt.Errorf("sweep %s: %w", identity, err)
	}
	var errs []error
	for _, pl := range places {
		if err := p.remove(ctx, pl, record{}); err != nil {
			errs = append(errs, fmt.Errorf("sweep %s: %w", identity, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return p.store.removeIdentity(ctx, string(identity))
}
