#!/usr/bin/env bash
# Builds upstream's own programs that the tests drive.
set -euo pipefail
exec "$(dirname "$0")/../conformance/build.sh" kubectl etcd etcdctl
