package install

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// ErrNoToken says that everybody could reach Mayfly from outside.
var ErrNoToken = errors.New("the gateway would be public without a token: give one (MAYFLY_TOKEN of `make up`, the secret token of the Pulumi program), or leave it inside of the cluster")

// CheckPublic returns [ErrNoToken] if anything of ours can be reached from
// outside of the cluster and callers need no token.
func CheckPublic(objects []*unstructured.Unstructured, token bool) error {
	if token {
		return nil
	}
	for _, object := range objects {
		if opensFunction(object) {
			return fmt.Errorf("%s: %w", object.GetName(), ErrNoToken)
		}
	}
	return nil
}
