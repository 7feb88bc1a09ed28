// Command report turns what the runs of this directory left in conformance/results into docs/conformance.md, and says
// which specs of conformance/passing.txt no longer pass.
//
//	report suite -commit C -seconds S -nodes N JUNIT...   reads a run of the suite, writes results/suite.json
//	report swap -with NAME -commit C JUNIT...             reads a run with a component of upstream, writes results/swap-NAME.json
//	report write                                          writes docs/conformance.md from results/
//	report regressions [LIST]                             prints specs of LIST that did not run and pass, or of passing.txt those that ran
//	                                                      and did not pass; fails if there are any
//	report accept                                         adds what passed in the run to passing.txt
//	report quick                                          prints the specs of passing.txt that took less than a minute
package main

import (
	"fmt"
	"os"
)

func main() {
	var failed error
	arguments := os.Args[1:]
	switch {
	case len(arguments) > 1 && arguments[0] == "suite":
		failed = readSuite(arguments[1:])
	case len(arguments) > 1 && arguments[0] == "swap":
		failed = readSwap(arguments[1:])
	case len(arguments) == 1 && arguments[0] == "write":
		failed = write()
	case len(arguments) == 1 && arguments[0] == "regressions":
		failed = regressions("")
	case len(arguments) == 2 && arguments[0] == "regressions":
		failed = regressions(arguments[1])
	case len(arguments) == 1 && arguments[0] == "accept":
		failed = accept()
	case len(arguments) == 1 && arguments[0] == "quick":
		failed = quick()
	default:
		failed = fmt.Errorf("usage: report suite [flags] JUNIT... | report swap [flags] JUNIT... | report write | regressions | accept | quick")
	}
	if failed != nil {
		fmt.Fprintln(os.Stderr, "report:", failed)
		os.Exit(1)
	}
}
