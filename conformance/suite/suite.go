//go:build tools

// Package suite keeps upstream's end-to-end suite among the module's dependencies: it is built as a test, which no
// `tool` line of go.mod can say.
package suite

import _ "k8s.io/kubernetes/test/e2e"
