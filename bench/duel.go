//go:build linux

package main

import (
	"fmt"
	"time"
)

// A contender is a server and one operation on it, of which the server's processor time
// is measured.
type contender struct {
	name string
	pid  int
	do   func(i int) error
	aim  aim
	// share is which part of a round's operations it does, where they take long: 1/share.
	share int
}

// duel measures the processor time that servers take for an operation, in five rounds in
// which they take turns, so that what else happens on the machine meets all of them.
func duel(r *run, n int, contenders ...contender) []figure {
	figures := make([]figure, len(contenders))
	rates := make([]sample, len(contenders))
	for i, c := range contenders {
		figures[i] = figure{name: c.name, unit: "us", aim: c.aim}
		atATime(r, n/max(c.share, 1)/4, c.do) // connections, derived keys, code
	}
	for range 5 {
		for i, c := range contenders {
			n := n / max(c.share, 1)
			used, begin := cpuOfServer(r, c.pid), time.Now()
			atATime(r, n, c.do)
			figures[i].rounds = append(figures[i].rounds, us(cpuOfServer(r, c.pid)-used)/float64(n))
			rates[i] = append(rates[i], float64(n)/time.Since(begin).Seconds())
		}
	}
	for i := range figures {
		figures[i].note = fmt.Sprintf("%s/s, %d at a time", number(rates[i].median()), workers)
		r.add(figures[i])
	}
	return figures
}

// against is how many times as much the first takes as the second, round by round.
func against(name string, ours, theirs figure) figure {
	f := figure{name: name, unit: "times"}
	for i := range ours.rounds {
		f.rounds = append(f.rounds, ours.rounds[i]/theirs.rounds[i])
	}
	return f
}

// eachWith gives every one of the operations that run at a time a value of its own, such
// as a connection.
func eachWith[T any](values []T, do func(v T, i int) error) func(int) error {
	idle := make(chan T, len(values))
	for _, v := range values {
		idle <- v
	}
	return func(i int) error {
		v := <-idle
		defer func() { idle <- v }()
		return do(v, i)
	}
}

// perWorker makes such values.
func perWorker[T any](make func() T) (values []T) {
	for range workers {
		values = append(values, make())
	}
	return values
}
