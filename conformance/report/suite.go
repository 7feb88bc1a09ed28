package main

import (
	"cmp"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Paths from conformance/, where the programs of this directory are started.
const (
	passingFile = "passing.txt"
	waitsFile   = "waits.tsv"
	page        = "../docs/conformance.md"
)

// suiteFile holds one run of the suite: the whole one on record, or that of a part, which the environment places elsewhere.
var suiteFile = cmp.Or(os.Getenv("SUITE_RESULT"), "results/suite.json")

// Spec is one conformance spec of a run.
type Spec struct {
	Name    string  `json:"name"`
	Passed  bool    `json:"passed"`
	Seconds float64 `json:"seconds"`
	// Cause is the first line of a failure that says something.
	Cause string `json:"cause,omitempty"`
}

// Suite is one run.
type Suite struct {
	Commit  string  `json:"commit"`
	Date    string  `json:"date"`
	Seconds float64 `json:"seconds"`
	// ParallelSeconds is the part of them in which several specs ran at once.
	ParallelSeconds float64 `json:"parallelSeconds"`
	Nodes           int     `json:"nodes"`
	Workers         int     `json:"workers"`
	Specs           []Spec  `json:"specs"`
}

type junit struct {
	Suites []struct {
		Cases []struct {
			Name    string  `xml:"name,attr"`
			Status  string  `xml:"status,attr"`
			Seconds float64 `xml:"time,attr"`
			Failure *struct {
				Message string `xml:"message,attr"`
				Text    string `xml:",chardata"`
			} `xml:"failure"`
			Error *struct {
				Message string `xml:"message,attr"`
			} `xml:"error"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// readSuite keeps a run of the suite.
func readSuite(arguments []string) error {
	flags := flag.NewFlagSet("suite", flag.ContinueOnError)
	var run Suite
	flags.StringVar(&run.Commit, "commit", "", "commit that ran")
	flags.StringVar(&run.Date, "date", "", "day of the run")
	flags.Float64Var(&run.Seconds, "seconds", 0, "wall time")
	flags.Float64Var(&run.ParallelSeconds, "parallel", 0, "wall time of the specs that ran at once")
	flags.IntVar(&run.Nodes, "nodes", 1, "nodes of the cluster")
	flags.IntVar(&run.Workers, "workers", 1, "specs at the same time")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	specs, err := readSpecs(flags.Args())
	if err != nil {
		return err
	}
	run.Specs = specs
	return keep(suiteFile, run)
}

// keep writes a result.
func keep(file string, result any) error {
	content, err := json.MarshalIndent(result, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, append(content, '\n'), 0o644)
}

// readSpecs gives the conformance specs that ran, sorted by name. A spec in several files counts by its last one. It is an error
// if none ran, or if what goes before and after all specs failed.
func readSpecs(files []string) ([]Spec, error) {
	specs := map[string]Spec{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var read junit
		if err := xml.Unmarshal(content, &read); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, suite := range read.Suites {
			for _, found := range suite.Cases {
				if found.Status == "skipped" || found.Status == "pending" {
					continue
				}
				if !strings.HasPrefix(found.Name, "[It] ") {
					if found.Status != "passed" {
						return nil, fmt.Errorf("%s: %s %s", file, found.Name, found.Status)
					}
					continue
				}
				if !strings.Contains(found.Name, "[Conformance]") {
					continue
				}
				spec := Spec{Name: plainName(found.Name), Passed: found.Status == "passed", Seconds: found.Seconds}
				if found.Failure != nil {
					spec.Cause = cause(found.Failure.Message + "\n" + found.Failure.Text)
				} else if found.Error != nil {
					spec.Cause = cause(found.Error.Message)
				}
				specs[spec.Name] = spec
			}
		}
	}
	if len(specs) == 0 {
		return nil, errors.New("no conformance spec ran")
	}
	var found []Spec
	for _, spec := range specs {
		found = append(found, spec)
	}
	slices.SortFunc(found, func(a, b Spec) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

// plainName is a spec's name as upstream's list has it: without Ginkgo's node type and its trailing labels.
func plainName(name string) string {
	name = strings.TrimPrefix(name, "[It] ")
	if end := strings.Index(name, "[Conformance]"); end >= 0 {
		return name[:end+len("[Conformance]")]
	}
	return name
}

var (
	noise  = regexp.MustCompile(`^(\[FAILED\]|\[PANICKED\]|Unexpected error:|<.*>: *\{?|occurred|s: .*|Timed out after .*|In \[.*|Expected|.{0,60}: *)?$`)
	moving = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|-[0-9]{2,5}\b|0x[0-9a-f]+|\b[a-z0-9]{5,10}-[a-z0-9]{5}\b`)
)

// cause is the first line of a failure that says something, without what changes from run to run.
func cause(message string) string {
	for _, line := range strings.Split(message, "\n") {
		line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "[FAILED]"))
		if !noise.MatchString(line) {
			line = moving.ReplaceAllString(line, "*")
			if len(line) > 180 {
				line = line[:180]
			}
			return line
		}
	}
	return "no message"
}

func suite() (Suite, error) {
	var run Suite
	content, err := os.ReadFile(suiteFile)
	if err != nil {
		return run, err
	}
	return run, json.Unmarshal(content, &run)
}

// regressions says which specs of a list did not pass in the last run. Without a list it is about the part of passing.txt that
// ran.
func regressions(list string) error {
	outcome, err := outcomes()
	if err != nil {
		return err
	}
	if list != "" {
		return passedAll(list, outcome)
	}
	names, err := listed(passingFile)
	if err != nil {
		return err
	}
	ran := slices.DeleteFunc(names, func(name string) bool { return outcome[name].Name == "" })
	return passed(ran, outcome)
}

// passedAll fails, and says which, unless every spec of a list passed: to be left out of the run is no excuse.
func passedAll(list string, outcome map[string]Spec) error {
	names, err := listed(list)
	if err != nil {
		return err
	}
	return passed(names, outcome)
}

func passed(names []string, outcome map[string]Spec) error {
	failed := 0
	for _, name := range names {
		if spec := outcome[name]; !spec.Passed {
			fmt.Printf("not passed: %s: %s\n", name, cmp.Or(spec.Cause, "did not run"))
			failed++
		}
	}
	fmt.Printf("suite result: %d passed; %d failed\n", len(names)-failed, failed)
	if failed > 0 {
		return fmt.Errorf("%d of %d specs did not pass", failed, len(names))
	}
	return nil
}

// quickSeconds is how long a spec may take that runs with every change.
const quickSeconds = 60

func quick() error {
	names, err := listed(passingFile)
	if err != nil {
		return err
	}
	outcome, err := outcomes()
	if err != nil {
		return err
	}
	for _, name := range names {
		if spec, ran := outcome[name]; ran && spec.Seconds < quickSeconds {
			fmt.Println(name)
		}
	}
	return nil
}

// outcomes is what the last run says, by the specs' names.
func outcomes() (map[string]Spec, error) {
	run, err := suite()
	if err != nil {
		return nil, err
	}
	return byName(run.Specs), nil
}

func byName(specs []Spec) map[string]Spec {
	named := map[string]Spec{}
	for _, spec := range specs {
		named[spec.Name] = spec
	}
	return named
}

func accept() error {
	run, err := suite()
	if err != nil {
		return err
	}
	names, err := listed(passingFile)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	for _, spec := range run.Specs {
		if spec.Passed {
			names = append(names, spec.Name)
		}
	}
	slices.Sort(names)
	text := strings.Join(slices.Compact(names), "\n") + "\n"
	return os.WriteFile(passingFile, []byte(text), 0o644)
}

// listed gives the lines of a file; of a list of specs, one name each.
func listed(file string) ([]string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSpace(string(content)), "\n"), nil
}
