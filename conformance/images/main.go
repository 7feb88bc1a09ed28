// Command images assembles the images that upstream's end-to-end suite runs, from Go programs and Debian packages, and
// serves them as a registry on one address under upstream's repository names.
//
//	images build BIN USERLAND DIR   programs from BIN, a Debian root file system (tar) as USERLAND; OCI layouts into DIR
//	images serve DIR ADDRESS        serves what was built, without TLS, until it is ended
package main

import (
	"fmt"
	"os"
)

func main() {
	arguments := os.Args[1:]
	var failed error
	switch {
	case len(arguments) == 4 && arguments[0] == "build":
		failed = build(arguments[1], arguments[2], arguments[3])
	case len(arguments) == 3 && arguments[0] == "serve":
		failed = serve(arguments[1], arguments[2])
	default:
		failed = fmt.Errorf("usage: images build BIN USERLAND DIR | images serve DIR ADDRESS")
	}
	if failed != nil {
		fmt.Fprintln(os.Stderr, "images:", failed)
		os.Exit(1)
	}
}
