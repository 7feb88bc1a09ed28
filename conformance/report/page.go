package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"
)

// total is how many conformance specs v1.37 has.
const total = 462

var sig = regexp.MustCompile(`^\[(sig-[a-z-]+)\]`)

func area(name string) string {
	if found := sig.FindStringSubmatch(name); found != nil {
		return found[1]
	}
	return "other"
}

// write makes the page from every result there is.
func write() error {
	var text strings.Builder
	text.WriteString("# Conformance\n\nWritten by `make conformance`, `make differ` and `make swap` from what they measured; not by hand.\n\n")
	for _, section := range []func(*strings.Builder) error{suiteSection, oracleSection, swapSection} {
		if err := section(&text); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return os.WriteFile(page, []byte(text.String()), 0o644)
}

func suiteSection(text *strings.Builder) error {
	run, err := suite()
	if err != nil {
		return err
	}
	type count struct{ passed, failed int }
	areas := map[string]*count{}
	passed := 0
	for _, spec := range run.Specs {
		found := areas[area(spec.Name)]
		if found == nil {
			found = &count{}
			areas[area(spec.Name)] = found
		}
		if spec.Passed {
			found.passed++
			passed++
		} else {
			found.failed++
		}
	}
	fmt.Fprintf(text, "## Upstream's suite, v1.37\n\n**%d of %d** specs pass (%d ran), on %d node(s) with the embedded store, in %s: those that may run together in %s with %d workers, the others one by one; commit %s, %s. Its images are assembled from upstream's test programs and Debian's packages, and served under upstream's names.\n\n",
		passed, total, len(run.Specs), run.Nodes, duration(run.Seconds), duration(run.ParallelSeconds), run.Workers, run.Commit, run.Date)
	text.WriteString("| area | passed | failed | total |\n|---|---:|---:|---:|\n")
	var names []string
	for name := range areas {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		found := areas[name]
		fmt.Fprintf(text, "| %s | %d | %d | %d |\n", name, found.passed, found.failed, found.passed+found.failed)
	}
	if passed < len(run.Specs) {
		text.WriteString("\n| failed | what it said |\n|---|---|\n")
		for _, spec := range run.Specs {
			if !spec.Passed {
				fmt.Fprintf(text, "| %s | %s |\n", cell(spec.Name), cell(spec.Cause))
			}
		}
	}
	slowest := append([]Spec{}, run.Specs...)
	sort.SliceStable(slowest, func(a, b int) bool { return slowest[a].Seconds > slowest[b].Seconds })
	reasons, err := waits()
	if err != nil {
		return err
	}
	if err := reasons.holdsFor(run.Specs); err != nil {
		return err
	}
	text.WriteString("\n| slowest | seconds | what it waits for |\n|---|---:|---|\n")
	for _, spec := range slowest[:min(10, len(slowest))] {
		fmt.Fprintf(text, "| %s | %.0f | %s |\n", cell(spec.Name), spec.Seconds, cell(reasons.of(spec.Name)))
	}
	text.WriteString("\n")
	return nil
}

// wait is what specs of these names wait for.
type wait struct {
	names  *regexp.Regexp
	reason string
}

type waitList []wait

// of is a spec's reason, the first of the list.
func (list waitList) of(name string) string {
	for _, one := range list {
		if one.names.MatchString(name) {
			return one.reason
		}
	}
	return "not looked into"
}

// holdsFor fails when a line is about none of the specs, and so would never be told.
func (list waitList) holdsFor(specs []Spec) error {
	for _, one := range list {
		if !slices.ContainsFunc(specs, func(spec Spec) bool { return one.names.MatchString(spec.Name) }) {
			return fmt.Errorf("%s: no spec matches %s", waitsFile, one.names)
		}
	}
	return nil
}

// waits reads lines of `regular expression<TAB>reason`.
func waits() (waitList, error) {
	lines, err := listed(waitsFile)
	if err != nil {
		return nil, err
	}
	var list waitList
	for number, line := range lines {
		if strings.HasPrefix(line, "#") {
			continue
		}
		names, reason, both := strings.Cut(line, "\t")
		pattern, err := regexp.Compile(names)
		if err != nil || !both {
			return nil, fmt.Errorf("%s:%d: not `names<TAB>reason`", waitsFile, number+1)
		}
		list = append(list, wait{pattern, reason})
	}
	return list, nil
}

func duration(seconds float64) time.Duration {
	return time.Duration(seconds * float64(time.Second)).Round(time.Second)
}

// cell makes text fit a table.
func cell(text string) string {
	return strings.NewReplacer("|", "\\|", "<", "&lt;", ">", "&gt;").Replace(text)
}
