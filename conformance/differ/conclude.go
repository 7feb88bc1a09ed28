package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

type conclusion struct {
	show                        int
	known, result, commit, date string
	// recount writes the numbers found into the file of known differences.
	recount bool
	// part says that not all requests were sent, so that no numbers are to be expected.
	part bool
}

type count struct {
	Name     string `json:"name"`
	Requests int    `json:"requests"`
	Agreed   int    `json:"agreed"`
}

// conclude prints what was found. Differences beyond the known ones fail, as do known ones that are gone, and answers in which
// two upstream servers differ. Only what does not fail is written.
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
	var known []*difference
	if how.known != "" {
		var err error
		if known, err = readKnown(how.known); err != nil {
			return err
		}
	}
	unknown := assign(known, outcomes)
	if err := wavering(outcomes); err != nil {
		return err
	}
	if how.recount {
		if err := recount(how.known, known); err != nil {
			return err
		}
	}
	if how.known != "" {
		if err := hold(known, unknown, how.part || how.recount); err != nil {
			return err
		}
	}
	if how.result == "" {
		return nil
	}
	content, err := json.MarshalIndent(map[string]any{
		"commit": how.commit, "date": how.date, "requests": len(outcomes), "agreed": agreed, "areas": areas, "known": byReason(known),
	}, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(how.result, append(content, '\n'), 0o644)
}

// wavering fails where two upstream servers answered differently.
func wavering(outcomes []outcome) error {
	wavered := 0
	for _, outcome := range outcomes {
		for _, part := range outcome.wavering {
			fmt.Printf("two upstream servers differ: %s\n  %s\n", outcome.name, part)
		}
		wavered += min(1, len(outcome.wavering))
	}
	if wavered > 0 {
		return fmt.Errorf("%d answers differ between two upstream servers", wavered)
	}
	return nil
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
var own = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|\d+`)

// partsShown and valueShown, in bytes, bound what is printed of an example.
const (
	partsShown = 6
	valueShown = 500
)

// showGroups prints differences of one cause as one: an example, and how many are like it.
func showGroups(outcomes []outcome, show int) {
	groups := map[string][]outcome{}
	for _, outcome := range outcomes {
		if !outcome.differs() {
			continue
		}
		var key strings.Builder
		for _, part := range outcome.parts {
			key.WriteString(part.place + own.ReplaceAllString(part.upstream+"|"+part.ours, "*") + "\n")
		}
		groups[key.String()] = append(groups[key.String()], outcome)
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
		fmt.Printf("--- %d like: %s\n%s\n", len(group), example.name, example.step.line())
		for _, part := range example.parts[:min(partsShown, len(example.parts))] {
			part.upstream, part.ours = part.upstream[:min(valueShown, len(part.upstream))], part.ours[:min(valueShown, len(part.ours))]
			fmt.Println(" ", part)
		}
		if more := len(example.parts) - partsShown; more > 0 {
			fmt.Printf("  ... %d more\n", more)
		}
	}
}
