// Command differ sends the same requests to two Kubernetes API servers and compares what they answer: status, the headers
// that matter and the body, after what must differ (uids, revisions, times, generated names) was made equal.
//
//	differ -a KUBECONFIG -b KUBECONFIG [-only REGEXP] [-show N] [-known FILE] [-result FILE -commit C -date D]
//
// With the kubeconfigs of two servers of the same kind it proves that the comparison itself finds no differences.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
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
	show := flag.Int("show", 20, "differences to print")
	known := flag.String("known", "", "file of names of requests known to differ")
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
			if wanted.MatchString(script.name) {
				kept = append(kept, script)
			}
		}
		scripts = kept
	}
	outcomes := runScript(reference, compared, setUp())
	outcomes = append(outcomes, compare(reference, compared, scripts)...)
	return conclude(outcomes, conclusion{show: *show, known: *known, result: *result, commit: *commit, date: *date})
}

// outcome is one request's, in the order of the scripts.
type outcome struct {
	area, name string
	// difference is empty where both answered alike.
	difference string
}

// compare runs every script against both servers. Scripts are independent of one another, steps of a script are not.
func compare(a, b *server, scripts []script) []outcome {
	results := make([][]outcome, len(scripts))
	next := make(chan int)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for index := range next {
				results[index] = runScript(a, b, scripts[index])
			}
		})
	}
	for index := range scripts {
		next <- index
	}
	close(next)
	workers.Wait()
	var all []outcome
	for _, result := range results {
		all = append(all, result...)
	}
	return all
}

func runScript(a, b *server, script script) []outcome {
	var all []outcome
	for number, step := range script.steps {
		name := fmt.Sprintf("%s#%d %s", script.name, number+1, step.what)
		var answers [2]answer
		var pair sync.WaitGroup
		for index, server := range []*server{a, b} {
			pair.Go(func() { answers[index] = server.send(step) })
		}
		pair.Wait()
		all = append(all, outcome{area: script.area, name: name, difference: difference(step, answers[0], answers[1])})
	}
	return all
}

type conclusion struct {
	show                        int
	known, result, commit, date string
}

// conclude prints and writes what was found. Differences beyond the known ones fail, as do known ones that are gone.
func conclude(outcomes []outcome, how conclusion) error {
	type count struct {
		Name     string `json:"name"`
		Requests int    `json:"requests"`
		Agreed   int    `json:"agreed"`
	}
	var areas []*count
	byName := map[string]*count{}
	differing := map[string]bool{}
	agreed := 0
	for _, outcome := range outcomes {
		area := byName[outcome.area]
		if area == nil {
			area = &count{Name: outcome.area}
			byName[outcome.area] = area
			areas = append(areas, area)
		}
		area.Requests++
		if outcome.difference == "" {
			area.Agreed++
			agreed++
			continue
		}
		differing[outcome.name] = true
		if len(differing) <= how.show {
			fmt.Printf("--- %s\n%s\n", outcome.name, outcome.difference)
		}
	}
	for _, area := range areas {
		fmt.Printf("%-40s %5d of %5d\n", area.Name, area.Agreed, area.Requests)
	}
	fmt.Printf("%d of %d requests answered as upstream\n", agreed, len(outcomes))
	if how.result != "" {
		content, err := json.MarshalIndent(map[string]any{
			"commit": how.commit, "date": how.date, "requests": len(outcomes), "agreed": agreed, "areas": areas,
		}, "", " ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(how.result, append(content, '\n'), 0o644); err != nil {
			return err
		}
	}
	if how.known == "" {
		return nil
	}
	return hold(how.known, differing)
}

// hold compares the differences found with the file of known ones, whose lines are `name<TAB>reason`.
func hold(file string, differing map[string]bool) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	listed := map[string]bool{}
	gone := 0
	for _, line := range strings.Split(strings.TrimSpace(string(content)), "\n") {
		name, _, _ := strings.Cut(line, "\t")
		listed[name] = true
		if name != "" && !differing[name] {
			fmt.Println("known difference is gone:", name)
			gone++
		}
	}
	grown := 0
	for name := range differing {
		if !listed[name] {
			fmt.Println("new difference:", name)
			grown++
		}
	}
	if gone+grown > 0 {
		return fmt.Errorf("%d known differences are gone, %d are new: mend %s", gone, grown, file)
	}
	return nil
}
