# A cluster of the suite's own, sourced by the runners: its directories, ports and addresses disturb no other on the machine.
# Needs $windlass (the binary) and $work (a directory).

registry_port=15000
nodes=1
cluster_flags=(
  --data-dir "$work/data" --run-dir "$work/run" --pod-logs-dir "$work/logs" --kubeconfig "$work/admin.conf" --no-merge-kubeconfig
  --config "$work/windlass.yaml" --node-name suite --secure-port 16443 --kubelet-port 16250 --bridge wlsuite0
  --cgroup-root /windlass-suite --cluster-cidr 10.191.0.0/16 --service-cidr 10.192.0.0/16
)

# Builds what the suite's images are made of, where it is missing, and serves them.
serve_images() {
  local bin=$PWD/bin
  ./build.sh agnhost nonewprivs sample-apiserver etcd images
  [ -f "$bin/userland.tar" ] || ./userland.sh "$bin/userland.tar"
  "$bin/images" build "$bin" "$bin/userland.tar" "$work/images"
  "$bin/images" serve "$work/images" 127.0.0.1:$registry_port >"$work/registry.log" 2>&1 &
  registry=$!
  until grep -q '^serving' "$work/registry.log"; do
    kill -0 "$registry" || { cat "$work/registry.log"; return 1; }
    sleep 0.2
  done
}

# Starts the node and waits until pods may be put on it.
start_cluster() {
  cat >"$work/windlass.yaml" <<YAML
compaction-interval: ${COMPACTION:-60}
registries:
  - host: registry.k8s.io
    endpoints: [{host: "127.0.0.1:$registry_port"}]
    endpoints_only: true
YAML
  "$windlass" up "${cluster_flags[@]}" >"$work/up.log" 2>"$work/node.log" &
  node=$!
  until grep -q 'Ready' "$work/up.log"; do
    kill -0 "$node" || { cat "$work/up.log" "$work/node.log"; return 1; }
    sleep 0.2
  done
  until [ -z "$(bin/kubectl --kubeconfig "$work/admin.conf" get nodes -o 'jsonpath={.items[*].spec.taints}')" ]; do
    sleep 0.2
  done
}

# Takes away everything that was started.
stop_cluster() {
  [ -n "${node:-}" ] && "$windlass" reset -y "${cluster_flags[@]}" >>"$work/up.log" 2>&1
  [ -n "${registry:-}" ] && kill "$registry" 2>/dev/null
  wait
}
