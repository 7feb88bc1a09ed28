package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
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
	// Known are the reasons of the other requests' differences. A request can differ for several.
	Known []struct {
		Reason   string `json:"reason"`
		Requests int    `json:"requests"`
	} `json:"known"`
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
	if len(run.Known) > 0 {
		text.WriteString("\n| the others differ because | requests |\n|---|---:|\n")
	}
	for _, known := range run.Known {
		fmt.Fprintf(text, "| %s | %d |\n", cell(known.Reason), known.Requests)
	}
	text.WriteString("\n")
	return nil
}

// Swap is one run with a component of upstream in the place of ours.
type Swap struct {
	With   string `json:"with"`
	Commit string `json:"commit"`
	Date   string `json:"date"`
	// Note says what the row is.
	Note  string `json:"note"`
	Specs []Spec `json:"specs"`
}

// readSwap keeps a run of the specs of a list. It is an error if one of them did not run and pass.
func readSwap(arguments []string) error {
	flags := flag.NewFlagSet("swap", flag.ContinueOnError)
	var run Swap
	flags.StringVar(&run.With, "with", "", "component of upstream")
	flags.StringVar(&run.Commit, "commit", "", "commit that ran")
	flags.StringVar(&run.Date, "date", "", "day of the run")
	flags.StringVar(&run.Note, "note", "", "what the row is")
	list := flags.String("list", "", "specs that were to run")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	specs, err := readSpecs(flags.Args())
	if err != nil {
		return err
	}
	run.Specs = specs
	if err := keep("results/swap-"+run.With+".json", run); err != nil {
		return err
	}
	return passedAll(*list, byName(specs))
}

func swapSection(text *strings.Builder) error {
	files, err := filepath.Glob("results/swap-*.json")
	if err != nil || len(files) == 0 {
		return err
	}
	text.WriteString("## Upstream's components in the place of ours\n\nWhat runs beside each is ours, where the row says nothing else.\n\n")
	text.WriteString("| component | specs passed | ran | commit | what it is |\n|---|---:|---:|---|---|\n")
	var failed strings.Builder
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var run Swap
		if err := json.Unmarshal(content, &run); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		passed := 0
		for _, spec := range run.Specs {
			if spec.Passed {
				passed++
			} else {
				fmt.Fprintf(&failed, "| %s | %s | %s |\n", run.With, cell(spec.Name), cell(spec.Cause))
			}
		}
		fmt.Fprintf(text, "| %s | %d | %d | %s, %s | %s |\n", run.With, passed, len(run.Specs), run.Commit, run.Date, cell(run.Note))
	}
	if failed.Len() > 0 {
		text.WriteString("\n| with | failed | what it said |\n|---|---|---|\n" + failed.String())
	}
	text.WriteString("\n")
	return nil
}
