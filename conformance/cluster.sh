# A cluster of the runners' own, sourced by them: its directories, ports and addresses disturb no other on the machine, and a
# second one of the same name waits for the first to end.
# Two nodes, both for any pod: one here, one on a second host that is a network namespace; $nodes=1 leaves the second out.
# Needs $windlass (the binary) and $work (a directory). $cluster and $ports make another of it, $left_out are parts it does
# without (windlass up --disable), and the function `beside`, if there is one, starts what takes their place, as soon as the
# cluster's certificates are there.

nodes=${nodes:-2}
cluster=${cluster:-suite}
ports=${ports:-16}
host=wl$cluster-2
subnet=${subnet:-172.29.250}
address=127.0.0.1
[ "$nodes" = 1 ] || address=$subnet.1
registry_address=$address:${ports}000
started=()
ranges=${ranges:-10.191 10.192}
cluster_range=${ranges% *}.0.0/16
service_range=${ranges#* }.0.0/16
cluster_flags=(
  --data-dir "$work/data" --run-dir "$work/run" --pod-logs-dir "$work/logs" --kubeconfig "$work/admin.conf" --no-merge-kubeconfig
  --config "$work/windlass.yaml" --node-name "$cluster" --secure-port "${ports}443" --kubelet-port "${ports}250"
  --bridge "wl${cluster}0" --cgroup-root "/windlass-$cluster" --cluster-cidr "$cluster_range" --service-cidr "$service_range"
  --proxy-healthz-bind-address "127.0.0.1:${ports}256" --proxy-metrics-bind-address "127.0.0.1:${ports}249"
)

[ "$nodes" = 1 ] || cluster_flags+=(--node-ip "$address")
second_flags=(
  --data-dir "$work/data-2" --run-dir "$work/run-2" --pod-logs-dir "$work/logs-2" --config "$work/windlass.yaml"
  --node-name "$cluster-2" --node-ip "$subnet.2" --kubelet-port "${ports}250" --bridge "wl${cluster}1"
  --cgroup-root "/windlass-$cluster-2"
)

exec {turn}>"${TMPDIR:-/tmp}/windlass-$cluster.lock"
flock -n "$turn" || { echo "waiting for the end of another cluster named $cluster" >&2; flock "$turn"; }

# Becomes a program, in the background, that does not hold the lock: a runner may be killed before what it started.
apart() { exec "$@" {turn}>&-; }

# focus_on FILE: a pattern of the specs' names in it, one a line
focus_on() { sed -e 's/[][\.*^$(){}?+|/]/\\&/g' "$1" | paste -sd'|'; }

# A program on the second host.
there() { nsenter --net="/run/netns/$host" "$@"; }

# Makes the second host, builds what the suite's images are made of, where it is missing, and serves them to both.
serve_images() {
  local bin=$PWD/bin
  ./build.sh agnhost nonewprivs sample-apiserver etcd images
  # Made again when its recipe is another.
  local userland
  userland=$bin/userland-$(sha256sum userland.sh | cut -c1-12).tar
  [ -f "$userland" ] || ./userland.sh "$userland"
  "$bin/images" build "$bin" "$userland" "$work/images"
  [ "$nodes" = 1 ] || ../scripts/host.sh up "$host" "$subnet"
  apart "$bin/images" serve "$work/images" "$registry_address" >"$work/registry.log" 2>&1 &
  registry=$!
  until grep -qs '^serving' "$work/registry.log"; do
    kill -0 "$registry" || { cat "$work/registry.log"; return 1; }
    sleep 0.2
  done
}

# Starts the second node, by an invitation of the first.
join_cluster() {
  local invitation
  until read -r -a invitation < <("$windlass" token create "${cluster_flags[@]}" 2>"$work/token.log"); do
    kill -0 "$node" || { cat "$work/token.log" "$work/node.log"; return 1; }
    sleep 0.2
  done
  apart nsenter --net="/run/netns/$host" "$windlass" "${invitation[@]:1}" "${second_flags[@]}" >"$work/join.log" 2>"$work/node-2.log" &
  second=$!
  await grep -qs 'is a node of' "$work/join.log"
}

# Whether there are so many nodes, each of them ready and for any pod.
ready_nodes() { # COUNT
  local each='{range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{.spec.taints}{"\n"}{end}'
  [ "$(bin/kubectl --kubeconfig "$work/admin.conf" get nodes -o "jsonpath=$each" 2>/dev/null | grep -cx True)" = "$1" ]
}

# Fails, with what they wrote last, unless everything runs that was started.
all_run() {
  local program
  for program in "$node" ${second:-} "${started[@]}"; do
    kill -0 "$program" 2>/dev/null || { tail -n 20 "$work"/*.log; return 1; }
  done
}

# Waits for a command to succeed, for as long as everything runs.
await() { # COMMAND...
  until "$@"; do
    all_run || return 1
    sleep 0.2
  done
}

# Starts the nodes and waits until pods may be put on them.
start_cluster() {
  cat >"$work/windlass.yaml" <<YAML
compaction-interval: ${COMPACTION:-60}
# The disk is shared with whatever else is on the machine: a share of its size says nothing of what the specs need.
eviction-hard: memory.available<100Mi,nodefs.available<1Gi,imagefs.available<1Gi
registries:
  - host: registry.k8s.io
    endpoints: [{host: "$registry_address", plain_http: true}]
    endpoints_only: true
YAML
  apart "$windlass" up ${left_out:+--disable "$left_out"} "${cluster_flags[@]}" >"$work/up.log" 2>"$work/node.log" &
  node=$!
  if declare -F beside >/dev/null; then
    await grep -qs certificates "$work/up.log"
    beside
  fi
  await ready_nodes 1
  [ "$nodes" = 1 ] || join_cluster
  await ready_nodes "$nodes"
}

# Ends a program that was started: by a signal that it may heed, and if it does not, by one that it cannot.
end() { # PROCESS
  local tried
  kill "$1" 2>/dev/null || return 0
  for tried in {1..50}; do
    kill -0 "$1" 2>/dev/null || return 0
    sleep 0.2
  done
  kill -KILL "$1" 2>/dev/null || true
}

# Takes away everything that was started. Fails, and leaves the files that `windlass reset` needs, where a node could not be
# taken away.
stop_cluster() {
  local at failed=0
  # The latest first, as one may need another to end.
  for ((at = ${#started[@]} - 1; at >= 0; at--)); do end "${started[at]}"; done
  if [ -n "${second:-}" ]; then
    there "$windlass" reset -y "${second_flags[@]}" >>"$work/join.log" 2>&1 || { failed=1; tail -n 5 "$work/join.log"; }
  fi
  if [ -n "${node:-}" ]; then
    "$windlass" reset -y "${cluster_flags[@]}" >>"$work/up.log" 2>&1 || { failed=1; tail -n 5 "$work/up.log"; }
  fi
  [ -z "${registry:-}" ] || kill "$registry" 2>/dev/null || true
  if [ "$failed" = 1 ]; then
    echo "cluster.sh: a node was not taken away; its files stay in $work" >&2
    return 1
  fi
  wait
  [ "$nodes" = 1 ] || ../scripts/host.sh down "$host"
}
