#!/usr/bin/env bash
# Runs one of upstream's components in the place of ours, beside the rest of ours, and conformance specs that lean on it.
#   WITH=kube-scheduler|kube-controller-manager|kube-apiserver|kubelet|kube-proxy|etcd|kubectl
#   WITH=store  the other way round: an upstream API server on our store, reached by etcd's protocol, through which the specs run
#   WINDLASS=path  a binary built already   PARALLEL=n  workers (6)   KEEP=1  leaves the run's files where they are
set -euo pipefail
cd "$(dirname "$0")"
with=${WITH:?which component of upstream: WITH=kube-scheduler}
specs=swaps/$with.txt
[ -f "$specs" ] || { echo "swap.sh: nothing is known of $with" >&2; exit 2; }
. ./binary.sh
work=$(mktemp -d "${TMPDIR:-/tmp}/windlass-swap-XXXXXX")
cluster=swap nodes=1 ports=27 ranges='10.197 10.198'
. ./swaps.sh
../scripts/packages.sh $(packages_of "$with")
./build.sh kubectl e2e.test ginkgo $(programs_of "$with")
go build -o bin/report ./report
left_out=$(part_of "$with")
. ./cluster.sh
cluster_flags+=($(flags_of "$with"))
config=$work/admin.conf
finish() {
  local status=$?
  stop_cluster || exit 1
  clean_up_after "$with" >>"$work/cleaning.log" 2>&1 || { tail -n 5 "$work/cleaning.log"; exit 1; }
  [ -n "${KEEP:-}" ] || rm -rf "$work"
  exit "$status"
}
trap finish EXIT

serve_images
start_cluster
mkdir -p "$work/report"
flags=(
  --provider=skeleton --kubeconfig="$config" --kubectl-path="$PWD/bin/kubectl" --allowed-not-ready-nodes=-1
  --minStartupPods=-1 --disable-log-dump --report-dir="$work/report"
)
TMPDIR=$work bin/ginkgo --nodes="${PARALLEL:-6}" --no-color --timeout=1h --silence-skips --label-filter=Conformance \
  --focus="$(focus_on "$specs")" bin/e2e.test -- "${flags[@]}" >"$work/specs.log" 2>&1 || true
grep -E '^Ran [0-9]+ of' "$work/specs.log" || { tail -30 "$work/specs.log"; exit 1; }
grep -E '^ *\[FAIL' "$work/specs.log" | sort -u || true
all_run
bin/report swap -with "$with" -list "$specs" -commit "$commit" -date "$(date +%F)" -note "$(note_of "$with")" "$work"/report/junit_*.xml && failed=0 || failed=1
bin/report write
exit "$failed"
