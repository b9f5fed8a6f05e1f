package redis_test

import (
	"fmt"
	"testing"

	"github.com/mayfly-ctf/mayfly/shared/ctf"
	"github.com/mayfly-ctf/mayfly/shared/redis/redistest"
)

func BenchmarkInstance(b *testing.B) {
	for _, stored := range []int{10, 10000} {
		b.Run(fmt.Sprint(stored), func(b *testing.B) {
			e := newEnv(b, redistest.Start(b))
			c := e.create(b, newChallenge("c"))
			for n := range stored {
				e.reserve(b, c, ctf.SourceID(fmt.Sprint(n)))
			}
			e.started(b, c, alice)
			for b.Loop() {
				_, err := e.store.Instance(b.Context(), c, alice)
				check(b, err)
			}
		})
	}
}

func BenchmarkClaim(b *testing.B) {
	e := newEnv(b, redistest.Start(b))
	c := newChallenge("c")
	c.Pool.Min = 1 << 40
	e.create(b, c)
	n := 0
	for b.Loop() {
		b.StopTimer()
		e.deploy(b, c.Key, e.pooled(b, c.Key))
		n++
		b.StartTimer()
		if r := e.reserve(b, c.Key, ctf.SourceID(fmt.Sprint(n))); !r.Claimed {
			b.Fatal("not claimed")
		}
	}
}

func BenchmarkUpdateOfAThousand(b *testing.B) {
	e := newEnv(b, redistest.Start(b))
	c := e.create(b, newChallenge("c"))
	for n := range 1000 {
		e.started(b, c, ctf.SourceID(fmt.Sprint(n)))
	}
	for b.Loop() {
		_, err := e.store.UpdateChallenge(b.Context(), c, ctf.ChallengeChange{})
		check(b, err)
	}
}
