package doctor

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// DefaultTimeout bounds a whole run.
const DefaultTimeout = 10 * time.Second

// node is a check for one subject, and its place in the graph.
type node struct {
	check Check
	facts *Facts
	order int
	// needs and after are waited for; needs must have come out well.
	needs, after []*node

	done   chan struct{}
	result Result // set before done is closed
}

// run asks everything that the nodes ask, each as soon as what it rests on is known.
// Progress is told of each result as it comes, one at a time.
func run(ctx context.Context, nodes []*node, progress func(Result)) []Result {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, n := range nodes {
		wg.Go(func() {
			n.wait()
			n.result = n.ask(ctx)
			close(n.done)
			mu.Lock()
			defer mu.Unlock()
			if progress != nil {
				progress(n.result)
			}
		})
	}
	wg.Wait()
	results := make([]Result, len(nodes))
	for i, n := range nodes {
		results[i] = n.result
	}
	return results
}

// wait returns when all that the node rests on is known. The graph has no circle, so
// every node comes to its turn.
func (n *node) wait() {
	for _, d := range n.needs {
		<-d.done
	}
	for _, d := range n.after {
		<-d.done
	}
}

// ask runs the check unless something below it failed.
func (n *node) ask(ctx context.Context) Result {
	r := Result{Check: n.check.ID, Title: n.check.Title, Subject: n.facts.subject(n.check.Of), Guide: n.check.Guide, order: n.order}
	for _, d := range n.needs {
		switch d.result.Severity {
		case Error:
			return r.skip(d.result.Check, "%s: %s", d.result.Check, d.result.problem())
		case Skipped:
			return r.skip(d.result.Root, "%s", d.result.Reason)
		}
	}
	if ctx.Err() != nil {
		return r.skip("", "no time was left")
	}
	limit := n.check.Limit
	if limit == 0 {
		limit = defaultLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	start := time.Now()
	r.Findings = n.check.run(ctx, n.facts)
	r.Millis = time.Since(start).Milliseconds()
	r.Severity = worst(r.Findings)
	return r
}

func (r Result) skip(root, format string, args ...any) Result {
	r.Severity, r.Root, r.Reason = Skipped, root, fmt.Sprintf(format, args...)
	return r
}

// problem is the worst finding in words.
func (r Result) problem() string {
	for _, f := range r.Findings {
		if f.Severity == r.Severity {
			return f.Problem
		}
	}
	return r.Reason
}

// plan makes the nodes of all checks for all subjects. It panics on a check that
// needs one that comes later or does not exist: the registry is ours.
func plan(checks []Check, subjects map[Scope][]*Facts) []*node {
	var nodes []*node
	byCheck := map[string][]*node{}
	for order, c := range checks {
		for _, f := range subjects[c.Of] {
			n := &node{check: c, facts: f, order: order, done: make(chan struct{})}
			for _, id := range c.Needs {
				n.needs = append(n.needs, related(byCheck, checks[:order], n, id)...)
			}
			for _, id := range c.After {
				n.after = append(n.after, related(byCheck, checks[:order], n, id)...)
			}
			nodes = append(nodes, n)
			byCheck[c.ID] = append(byCheck[c.ID], n)
		}
	}
	return nodes
}

// related are the nodes of a check that concern a node: those of its own subject, or,
// where the check is of another scope, of the subject that its own one belongs to.
func related(byCheck map[string][]*node, before []Check, n *node, id string) []*node {
	if !slices.ContainsFunc(before, func(c Check) bool { return c.ID == id }) {
		panic("doctor: " + n.check.ID + " needs " + id + ", which does not stand before it")
	}
	var list []*node
	for _, d := range byCheck[id] {
		if n.facts.concerns(d.facts, d.check.Of) {
			list = append(list, d)
		}
	}
	return list
}
