#!/usr/bin/env bash
# Builds upstream's own clients that the tests drive.
set -euo pipefail
exec "$(dirname "$0")/../conformance/build.sh" kubectl
