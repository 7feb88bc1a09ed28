package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

type conclusion struct {
	show                        int
	known, result, commit, date string
}

type count struct {
	Name     string `json:"name"`
	Requests int    `json:"requests"`
	Agreed   int    `json:"agreed"`
}

// difference is one that is known: the requests whose names match differ, as many as are counted, for a reason.
type difference struct {
	Requests int    `json:"requests"`
	Names    string `json:"names"`
	Reason   string `json:"reason"`
	// Any number of them differs: what they see hangs on the moment.
	any bool
}

// conclude prints and writes what was found. Differences beyond the known ones fail, as do known ones that are gone.
func conclude(outcomes []outcome, how conclusion) error {
	areas := counted(outcomes)
	agreed := 0
	for _, area := range areas {
		agreed += area.Agreed
	}
	showGroups(outcomes, how.show)
	for _, area := range areas {
		fmt.Printf("%-40s %5d of %5d\n", area.Name, area.Agreed, area.Requests)
	}
	fmt.Printf("%d of %d requests answered as upstream\n", agreed, len(outcomes))
	var known []difference
	if how.known != "" {
		var err error
		if known, err = readKnown(how.known); err != nil {
			return err
		}
	}
	if how.result != "" {
		content, err := json.MarshalIndent(map[string]any{
			"commit": how.commit, "date": how.date, "requests": len(outcomes), "agreed": agreed, "areas": areas, "known": known,
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
	return hold(known, outcomes)
}

func counted(outcomes []outcome) []*count {
	var areas []*count
	byName := map[string]*count{}
	for _, outcome := range outcomes {
		area := byName[outcome.area]
		if area == nil {
			area = &count{Name: outcome.area}
			byName[outcome.area] = area
			areas = append(areas, area)
		}
		area.Requests++
		if !outcome.differs() {
			area.Agreed++
		}
	}
	return areas
}

// own are the parts of a difference that are a request's own, not its cause's.
var own = regexp.MustCompile(`"[^"]*"|\d+`)

// showGroups prints differences of one cause as one: an example, and how many are like it.
func showGroups(outcomes []outcome, show int) {
	groups := map[string][]outcome{}
	for _, outcome := range outcomes {
		if outcome.differs() {
			_, request, _ := strings.Cut(outcome.name, ": ")
			key := own.ReplaceAllString(outcome.upstream.difference(outcome.ours), "*")
			if outcome.area != "leaves" {
				key = request + key
			}
			groups[key] = append(groups[key], outcome)
		}
	}
	sorted := make([][]outcome, 0, len(groups))
	for _, group := range groups {
		sorted = append(sorted, group)
	}
	slices.SortFunc(sorted, func(a, b []outcome) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a[0].name, b[0].name)
	})
	for _, group := range sorted[:min(show, len(sorted))] {
		example := group[0]
		fmt.Printf("--- %d like: %s\n%s %s\n%s\n", len(group), example.name, example.step.method, example.step.path,
			example.upstream.difference(example.ours))
	}
}

// readKnown reads lines of `count<TAB>regular expression<TAB>reason`, with `*` for any count.
func readKnown(file string) ([]difference, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var known []difference
	for number, line := range strings.Split(strings.TrimSpace(string(content)), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.Split(line, "\t")
		if len(parts) != 3 {
			return nil, fmt.Errorf("%s:%d: not `count, names, reason`", file, number+1)
		}
		one := difference{Names: parts[1], Reason: parts[2], any: parts[0] == "*"}
		if !one.any {
			if one.Requests, err = strconv.Atoi(parts[0]); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, number+1, err)
			}
		}
		known = append(known, one)
	}
	return known, nil
}

// hold compares the differences found with the known ones: the first that a request's name matches counts it.
func hold(known []difference, outcomes []outcome) error {
	patterns := make([]*regexp.Regexp, len(known))
	for index, one := range known {
		pattern, err := regexp.Compile("^(?:" + one.Names + ")$")
		if err != nil {
			return err
		}
		patterns[index] = pattern
	}
	found := make([]int, len(known))
	wrong := 0
	for _, outcome := range outcomes {
		if !outcome.differs() {
			continue
		}
		index := slices.IndexFunc(patterns, func(pattern *regexp.Regexp) bool { return pattern.MatchString(outcome.name) })
		if index < 0 {
			fmt.Println("new difference:", outcome.name)
			wrong++
			continue
		}
		found[index]++
	}
	for index, one := range known {
		if !one.any && found[index] != one.Requests {
			fmt.Printf("known difference: %d requests, not %d: %s\n", found[index], one.Requests, one.Names)
			wrong++
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%d differences are not as known", wrong)
	}
	return nil
}
