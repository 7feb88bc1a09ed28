package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// Oracle is what `make differ` found.
type Oracle struct {
	Commit   string `json:"commit"`
	Date     string `json:"date"`
	Requests int    `json:"requests"`
	Agreed   int    `json:"agreed"`
	// Areas are counted apart, in the order of the run.
	Areas []struct {
		Name     string `json:"name"`
		Requests int    `json:"requests"`
		Agreed   int    `json:"agreed"`
	} `json:"areas"`
}

func oracleSection(text *strings.Builder) error {
	content, err := os.ReadFile("results/oracle.json")
	if err != nil {
		return err
	}
	var run Oracle
	if err := json.Unmarshal(content, &run); err != nil {
		return err
	}
	fmt.Fprintf(text, "## Upstream's answers\n\n**%d of %d** requests answered as upstream (%.1f %%); commit %s, %s.\n\n",
		run.Agreed, run.Requests, 100*float64(run.Agreed)/float64(max(run.Requests, 1)), run.Commit, run.Date)
	text.WriteString("| requests | as upstream | of |\n|---|---:|---:|\n")
	for _, area := range run.Areas {
		fmt.Fprintf(text, "| %s | %d | %d |\n", cell(area.Name), area.Agreed, area.Requests)
	}
	text.WriteString("\n")
	return nil
}

// Swap is one run with a component of upstream in the place of ours.
type Swap struct {
	With   string `json:"with"`
	Commit string `json:"commit"`
	Date   string `json:"date"`
	Passed int    `json:"passed"`
	Ran    int    `json:"ran"`
	Note   string `json:"note,omitempty"`
}

func swapSection(text *strings.Builder) error {
	content, err := os.ReadFile("results/swaps.json")
	if err != nil {
		return err
	}
	var runs []Swap
	if err := json.Unmarshal(content, &runs); err != nil {
		return err
	}
	text.WriteString("## Upstream's components in the place of ours\n\n| component | specs passed | ran | commit | note |\n|---|---:|---:|---|---|\n")
	for _, run := range runs {
		fmt.Fprintf(text, "| %s | %d | %d | %s | %s |\n", run.With, run.Passed, run.Ran, run.Commit, cell(run.Note))
	}
	text.WriteString("\n")
	return nil
}
