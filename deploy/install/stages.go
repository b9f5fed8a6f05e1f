package install

import "k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

// Stages returns the objects in the order in which they are made: namespaces,
// what has no pods, Redis, functions, functions that are reached from outside,
// what calls functions. Those of a stage work only with those of the stages
// before, and go before them. So nothing is reached from outside that calls a
// function which has not heard of the token yet.
func Stages(objects []*unstructured.Unstructured) [][]*unstructured.Unstructured {
	stages := make([][]*unstructured.Unstructured, lastStage+2)
	for _, object := range objects {
		at := stage(object)
		if at == lastStage || isFunction(object) && opensFunction(object) {
			at++
		}
		stages[at] = append(stages[at], object)
	}
	return stages
}
