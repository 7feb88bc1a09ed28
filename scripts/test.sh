#!/usr/bin/env bash
# Installs what the tests need, builds the clients they drive, and runs every test of the workspace.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/packages.sh build test
scripts/clients.sh
scripts/kernel.sh
export KUBECTL=$PWD/conformance/bin/kubectl
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
cargo test --locked --workspace --all-targets --no-fail-fast 2>&1 | tee "$log" || status=$?
# One closing line for all the test programs together.
awk '/^test result:/ { for (i = 1; i <= NF; i++) { if ($i == "passed;") p += $(i-1); if ($i == "failed;") f += $(i-1); if ($i == "ignored;") s += $(i-1) } }
     END { printf "%d passed, %d failed, %d skipped\n", p, f, s }' "$log"
exit "$status"
