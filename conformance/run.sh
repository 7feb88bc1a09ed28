#!/usr/bin/env bash
# Runs upstream's conformance suite against a fresh cluster. A run of the whole suite writes docs/conformance.md.
#   AREA=sig-apps  one area   FOCUS=regex  specs by name   PARALLEL=n  workers (12)   WINDLASS=path  a binary built already
#   LIST=file      exactly the specs of a file, one name a line
#   QUICK=1        the specs of passing.txt that take less than a minute, in twelve minutes at most; what fails and passes
#                  at once after is a flake
# Leaves what JUnit readers want in bin/junit. Fails when a spec of passing.txt does not pass.
set -euo pipefail
cd "$(dirname "$0")"
. ./binary.sh
workers=${PARALLEL:-12}
work=$(mktemp -d "${TMPDIR:-/tmp}/windlass-suite-XXXXXX")
./build.sh kubectl e2e.test ginkgo
go build -o bin/report ./report
. ./cluster.sh
finish() {
  local status=$?
  stop_cluster || exit 1
  [ -n "${KEEP:-}" ] || rm -rf "$work"
  exit "$status"
}
trap finish EXIT
serve_images
start_cluster

focus=${FOCUS:-}
attempts=1 limit=10800
if [ -n "${QUICK:-}" ]; then
  bin/report quick >"$work/quick.txt"
  LIST=$work/quick.txt attempts=2 limit=720
fi
[ -z "${LIST:-}" ] || focus=$(focus_on "$LIST")
labels="Conformance${AREA:+ && $AREA}"
flags=(
  --provider=skeleton --kubeconfig="$work/admin.conf" --kubectl-path="$PWD/bin/kubectl" --allowed-not-ready-nodes=-1
  --minStartupPods=-1 --disable-log-dump
)
# Two runs, since a spec marked [Serial] wants the cluster for itself.
begun=$(date +%s)
suite() { # NAME WORKERS GINKGO-FLAG...
  local name=$1 count=$2
  shift 2
  mkdir -p "$work/$name"
  # No time left is told as a second: to Ginkgo none is no limit.
  local left=$((begun + limit - $(date +%s)))
  [ "$left" -gt 0 ] || left=1
  TMPDIR=$work bin/ginkgo --nodes="$count" --no-color --timeout="${left}s" --silence-skips --flake-attempts="$attempts" \
    ${focus:+--focus="$focus"} "$@" bin/e2e.test -- "${flags[@]}" --report-dir="$work/$name" >"$work/$name.log" 2>&1 || true
  grep -E '^Ran [0-9]+ of' "$work/$name.log" || { tail -30 "$work/$name.log"; return 1; }
}
suite parallel "$workers" --label-filter="$labels && !Serial"
parallel=$(($(date +%s) - begun))
suite serial 1 --label-filter="$labels && Serial"
seconds=$(($(date +%s) - begun))
rm -rf bin/junit
mkdir -p bin/junit
for name in parallel serial; do cp -r "$work/$name" "bin/junit/$name"; done
part=${AREA:-}$focus
[ -z "$part" ] || export SUITE_RESULT=$work/suite.json
bin/report suite -commit "$commit" -date "$(date +%F)" -seconds "$seconds" -parallel "$parallel" -nodes "$nodes" -workers "$workers" \
  "$work"/*/junit_*.xml
grep -hE '^ *\[FAIL' "$work"/*.log | sort -u || true
grep -hA1 'FLAKEY TEST' "$work"/*.log || true
echo "$(cat "$work"/*.log | grep -c 'FLAKEY TEST') flakes"
[ -n "$part" ] || bin/report write
list=${LIST:-}
[ -n "$part" ] || list=passing.txt
bin/report regressions ${list:+"$list"}
