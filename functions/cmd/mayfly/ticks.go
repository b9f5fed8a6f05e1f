package main

import (
	"context"
	"errors"
	"fmt"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/spf13/cobra"

	"github.com/mayfly-ctf/mayfly/shared/events"
)

// newTickCommand returns the command that wakes the function of that name
// once, by hand or from cron.
func newTickCommand(name, short, long string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     name,
		Short:   short,
		Long:    long,
		Example: "  mayfly " + name + "\n  mayfly " + name + " --url http://mayfly.example:8080",
		Args:    cobra.NoArgs,
	}
	c := newClient(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		_, err := await(cmd.Context(), c, "waiting for "+name, workLimit, func(ctx context.Context) (struct{}, error) {
			sender, err := cloudevents.NewClientHTTP()
			if err != nil {
				return struct{}{}, fmt.Errorf("make a CloudEvents client: %w", err)
			}
			err = events.Send(ctx, sender, c.url+"/"+name, newTick("/mayfly/cli"))
			if _, answered := errors.AsType[*events.RefusedError](err); err != nil && !answered && ctx.Err() == nil {
				err = unreachableError{url: c.url, err: err}
			}
			return struct{}{}, err
		})
		return err
	}
	return cmd
}
