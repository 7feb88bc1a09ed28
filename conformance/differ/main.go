// Command differ sends the same requests to two Kubernetes API servers and compares what they answer: status, the headers
// that matter and the body, after what must differ (uids, revisions, times, generated names) was made equal.
//
//	differ -a KUBECONFIG -b KUBECONFIG [-only REGEXP] [-show N] [-answers FILE] [-known FILE] [-result FILE -commit C -date D]
//
// With the kubeconfigs of two servers of the same kind it proves that the comparison itself finds no differences.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"sync"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "differ:", err)
		os.Exit(1)
	}
}

func run() error {
	a := flag.String("a", "", "kubeconfig of the reference")
	b := flag.String("b", "", "kubeconfig of the server compared with it")
	only := flag.String("only", "", "only requests whose name matches")
	show := flag.Int("show", 20, "groups of differences to print, the largest first")
	answers := flag.String("answers", "", "file to write every differing request and its two answers to, a JSON object a line")
	known := flag.String("known", "", "file of differences that are known")
	result := flag.String("result", "", "file to write the figures to")
	commit := flag.String("commit", "", "commit that is compared")
	date := flag.String("date", "", "day of the comparison")
	flag.Parse()
	reference, err := connect(*a)
	if err != nil {
		return err
	}
	compared, err := connect(*b)
	if err != nil {
		return err
	}
	scripts, err := batteries(reference)
	if err != nil {
		return err
	}
	if *only != "" {
		wanted, err := regexp.Compile(*only)
		if err != nil {
			return err
		}
		var kept []script
		for _, script := range scripts {
			if wanted.MatchString(script.area + ": " + script.name) {
				kept = append(kept, script)
			}
		}
		scripts = kept
	}
	outcomes := runScript(reference, compared, setUp())
	// What lives is seen by everything else: it comes last.
	for _, lives := range []bool{false, true} {
		phase := slices.Clone(scripts)
		phase = slices.DeleteFunc(phase, func(script script) bool { return script.alive() != lives })
		outcomes = append(outcomes, compare(reference, compared, phase)...)
	}
	if *answers != "" {
		if err := writeAnswers(*answers, outcomes); err != nil {
			return err
		}
	}
	return conclude(outcomes, conclusion{show: *show, known: *known, result: *result, commit: *commit, date: *date})
}

// outcome is one request's, in the order of the scripts.
type outcome struct {
	area, name string
	step       step
	upstream   normalAnswer
	ours       normalAnswer
}

func (outcome outcome) differs() bool { return !outcome.upstream.equal(outcome.ours) }

// workers send requests at once. Many of them wait: for a revision that does not come, for a watch that ends.
const workers = 16

// compare runs every script against both servers. Scripts are independent of one another, steps of a script are not.
func compare(a, b *server, scripts []script) []outcome {
	results := make([][]outcome, len(scripts))
	next := make(chan int)
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for index := range next {
				results[index] = runScript(a, b, scripts[index])
			}
		})
	}
	for index := range scripts {
		next <- index
	}
	close(next)
	running.Wait()
	return slices.Concat(results...)
}

func runScript(a, b *server, script script) []outcome {
	var all []outcome
	for _, step := range script.steps {
		var answers [2]normalAnswer
		var pair sync.WaitGroup
		for index, server := range []*server{a, b} {
			pair.Go(func() { answers[index] = normalize(server.send(step)) })
		}
		pair.Wait()
		all = append(all, outcome{area: script.area, name: script.name + ": " + step.what, step: step, upstream: answers[0], ours: answers[1]})
	}
	return all
}

// writeAnswers keeps what both said to the requests that differ, for a closer look.
func writeAnswers(file string, outcomes []outcome) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	for _, outcome := range outcomes {
		if !outcome.differs() {
			continue
		}
		if err := encoder.Encode(map[string]any{
			"name": outcome.name, "method": outcome.step.method, "path": outcome.step.path, "body": string(outcome.step.body),
			"upstream": outcome.upstream, "ours": outcome.ours,
		}); err != nil {
			return err
		}
	}
	return os.WriteFile(file, text.Bytes(), 0o644)
}
