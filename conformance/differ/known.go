package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// difference is one that is known: as many requests as are counted, whose names match, differ in as many places that match.
type difference struct {
	line   int
	known  extent
	name   *regexp.Regexp
	place  *regexp.Regexp
	reason string
	found  extent
}

// extent is how far a difference goes: the requests that have it, and the places of their answers in which they do.
type extent struct{ requests, places int }

func (extent extent) String() string {
	return fmt.Sprintf("%d\t%d", extent.requests, extent.places)
}

// reason is why some requests are answered otherwise.
type reason struct {
	Requests int    `json:"requests"`
	Reason   string `json:"reason"`
}

// readKnown reads lines of `requests<TAB>places<TAB>names<TAB>differences<TAB>reason`: how many requests whose names match the
// first regular expression, as a whole, differ in how many places in a way that the second one finds (see part.String), and why.
func readKnown(file string) ([]*difference, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var known []*difference
	for number, line := range strings.Split(string(content), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		one, err := parseKnown(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, number+1, err)
		}
		one.line = number
		known = append(known, one)
	}
	return known, nil
}

func parseKnown(line string) (*difference, error) {
	fields := strings.Split(line, "\t")
	if len(fields) != 5 {
		return nil, fmt.Errorf("%d fields, not the five of requests, places, names, differences, reason", len(fields))
	}
	requests, err := strconv.Atoi(fields[0])
	if err != nil {
		return nil, err
	}
	places, err := strconv.Atoi(fields[1])
	if err != nil {
		return nil, err
	}
	name, err := regexp.Compile("^(?:" + fields[2] + ")$")
	if err != nil {
		return nil, err
	}
	if fields[2] == ".*" && fields[3] == "." {
		return nil, fmt.Errorf("every request and every place: such a difference would hide all others")
	}
	place, err := regexp.Compile(fields[3])
	if err != nil {
		return nil, err
	}
	return &difference{known: extent{requests, places}, name: name, place: place, reason: fields[4]}, nil
}

// assign counts for each known difference the requests that have it. A place in which answers differ belongs to the first
// known difference that matches it; what belongs to none is answered, a line each.
func assign(known []*difference, outcomes []outcome) []string {
	var unknown []string
	for _, outcome := range outcomes {
		seen := map[*difference]bool{}
		for _, part := range outcome.parts {
			text := part.String()
			index := slices.IndexFunc(known, func(one *difference) bool {
				return one.name.MatchString(outcome.name) && one.place.MatchString(text)
			})
			if index < 0 {
				unknown = append(unknown, outcome.name+"\n  "+text)
				continue
			}
			one := known[index]
			one.found.places++
			if !seen[one] {
				seen[one] = true
				one.found.requests++
			}
		}
	}
	return unknown
}

// byReason adds up the requests of each reason, in the order of the file.
func byReason(known []*difference) []*reason {
	var all []*reason
	for _, one := range known {
		index := slices.IndexFunc(all, func(found *reason) bool { return found.Reason == one.reason })
		if index < 0 {
			index = len(all)
			all = append(all, &reason{Reason: one.reason})
		}
		all[index].Requests += one.found.requests
	}
	return all
}

// recount writes the numbers found into the file, and leaves out what is gone.
func recount(file string, known []*difference) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	lines := strings.Split(string(content), "\n")
	for _, one := range slices.Backward(known) {
		if one.found.requests == 0 {
			lines = slices.Delete(lines, one.line, one.line+1)
			continue
		}
		rest := strings.SplitN(lines[one.line], "\t", 3)[2]
		lines[one.line] = one.found.String() + "\t" + rest
	}
	return os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o644)
}

// hold fails when differences are not as known: there are others, or more, or fewer. With anyNumber only others fail.
func hold(known []*difference, unknown []string, anyNumber bool) error {
	for _, text := range unknown {
		fmt.Println("new difference:", text)
	}
	wrong := len(unknown)
	for _, one := range known {
		if !anyNumber && one.found != one.known {
			fmt.Printf("known difference: %d requests in %d places, not %d in %d: %s: %s: %s\n", one.found.requests, one.found.places,
				one.known.requests, one.known.places, one.name, one.place, one.reason)
			wrong++
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d differences are not as known", wrong)
	}
	return nil
}
