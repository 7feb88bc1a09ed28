// Command report turns what the runs of this directory left in conformance/results into docs/conformance.md, and says
// which specs of conformance/passing.txt no longer pass.
//
//	report suite -commit C -seconds S -nodes N JUNIT...   reads a run of the suite, writes results/suite.json
//	report write                                          writes docs/conformance.md from results/
//	report regressions                                    prints specs of passing.txt that did not pass; fails if there are any
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
	case len(arguments) == 1 && arguments[0] == "write":
		failed = write()
	case len(arguments) == 1 && arguments[0] == "regressions":
		failed = regressions()
	default:
		failed = fmt.Errorf("usage: report suite [flags] JUNIT... | report write | report regressions")
	}
	if failed != nil {
		fmt.Fprintln(os.Stderr, "report:", failed)
		os.Exit(1)
	}
}
