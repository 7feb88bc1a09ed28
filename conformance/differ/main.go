// Command differ sends the same requests to two Kubernetes API servers and compares what they answer: status, the headers
// that matter and the body, after what must differ (uids, revisions, times, generated names) was made equal.
//
//	differ -a KUBECONFIG [-again KUBECONFIG] -b KUBECONFIG [-only REGEXP] [-show N] [-answers FILE]
//	       [-known FILE [-recount]] [-result FILE -commit C -date D]
//
// A second server of the reference's kind, -again, is sent everything too: where the two do not agree, what must differ was
// not made equal, and the comparison proves nothing. So they must agree entirely.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
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
	again := flag.String("again", "", "kubeconfig of a second server of the reference's kind, which must agree entirely")
	b := flag.String("b", "", "kubeconfig of the server compared with it")
	only := flag.String("only", "", "only requests whose name matches")
	show := flag.Int("show", 20, "groups of differences to print, the largest first")
	answers := flag.String("answers", "", "file to write every differing request and its two answers to, a JSON object a line")
	known := flag.String("known", "", "file of differences that are known: all others fail")
	recount := flag.Bool("recount", false, "write the numbers found into the file of known differences")
	result := flag.String("result", "", "file to write the figures to")
	commit := flag.String("commit", "", "commit that is compared")
	date := flag.String("date", "", "day of the comparison")
	flag.Parse()
	if *result != "" && (*only != "" || *recount) {
		return errors.New("-result is for the whole, as it is known to be: without -only and -recount")
	}
	servers, err := connectAll(*a, *b, *again)
	if err != nil {
		return err
	}
	scripts, err := batteries(servers[0])
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
	outcomes := runScript(servers, setUp())
	for phase := range phases {
		now := slices.DeleteFunc(slices.Clone(scripts), func(script script) bool { return script.phase() != phase })
		outcomes = append(outcomes, compare(servers, now)...)
	}
	if *answers != "" {
		if err := writeAnswers(*answers, outcomes); err != nil {
			return err
		}
	}
	return conclude(outcomes, conclusion{
		show: *show, known: *known, recount: *recount, part: *only != "", result: *result, commit: *commit, date: *date,
	})
}

// connectAll connects with the reference, the server compared with it, and the second reference if there is one.
func connectAll(a, b, again string) ([]*server, error) {
	var servers []*server
	for _, kubeconfig := range []string{a, b, again} {
		if kubeconfig == "" {
			continue
		}
		server, err := connect(kubeconfig)
		if err != nil {
			return nil, err
		}
		servers = append(servers, server)
	}
	return servers, nil
}

// outcome is one request's, in the order of the scripts.
type outcome struct {
	area, name string
	step       step
	upstream   normalAnswer
	ours       normalAnswer
	// parts are where the two differ, wavering is where two upstream servers do.
	parts, wavering []part
}

func (outcome outcome) differs() bool { return len(outcome.parts) > 0 }

// workers send requests at once. Many of them wait: for a revision that does not come, for a watch that ends.
const workers = 16

// compare runs every script against all servers. Scripts are independent of one another, steps of a script are not.
func compare(servers []*server, scripts []script) []outcome {
	results := make([][]outcome, len(scripts))
	next := make(chan int)
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for index := range next {
				results[index] = runScript(servers, scripts[index])
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

func runScript(servers []*server, script script) []outcome {
	var all []outcome
	for _, step := range script.steps {
		answers := make([]normalAnswer, len(servers))
		var sent sync.WaitGroup
		for index, server := range servers {
			sent.Go(func() { answers[index] = normalize(server.send(step)) })
		}
		sent.Wait()
		one := outcome{
			area: script.area, name: script.name + ": " + step.what, step: step, upstream: answers[0], ours: answers[1],
			parts: answers[0].differences(answers[1]),
		}
		if len(answers) > 2 {
			one.wavering = answers[0].differences(answers[2])
		}
		all = append(all, one)
	}
	return all
}

// writeAnswers keeps what both said to the requests that differ, for a closer look.
func writeAnswers(file string, outcomes []outcome) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	for _, outcome := range outcomes {
		if !outcome.differs() && len(outcome.wavering) == 0 {
			continue
		}
		if err := encoder.Encode(map[string]any{
			"name": outcome.name, "request": outcome.step.line(), "body": string(outcome.step.body),
			"upstream": outcome.upstream, "ours": outcome.ours, "parts": texts(outcome.parts), "wavering": texts(outcome.wavering),
		}); err != nil {
			return err
		}
	}
	return os.WriteFile(file, text.Bytes(), 0o644)
}

func texts(parts []part) []string {
	all := make([]string, len(parts))
	for index, part := range parts {
		all[index] = part.String()
	}
	return all
}
