#!/usr/bin/env bash
# Builds upstream's own clients from their Go modules into conformance/bin.
set -euo pipefail
cd "$(dirname "$0")/../conformance"
kubernetes=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${kubernetes#v1.}
minor=${minor%%.*}
version=k8s.io/component-base/version
mkdir -p bin
CGO_ENABLED=0 go build -o bin/kubectl \
  -ldflags "-s -w -X $version.gitVersion=$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=$minor" \
  k8s.io/kubernetes/cmd/kubectl
