# What swap.sh knows of each of upstream's components: which part of ours it replaces, how it is started, and which specs
# lean on it.

# part_of COMPONENT: what `windlass up --disable` leaves out
part_of() {
  case $1 in
    kube-scheduler) echo scheduler ;;
    kube-controller-manager) echo controllers ;;
    kube-proxy) echo proxy ;;
  esac
}

# command_of COMPONENT: sets $command; nothing for what the specs start themselves
command_of() {
  local pki=$work/data/pki
  command=()
  case $1 in
    kube-scheduler)
      command=(bin/kube-scheduler --kubeconfig "$(kubeconfig system:kube-scheduler)" --leader-elect=false
        --bind-address 127.0.0.1 --secure-port "${ports}259" --cert-dir "$work")
      ;;
    kube-controller-manager)
      command=(bin/kube-controller-manager --kubeconfig "$(kubeconfig system:kube-controller-manager)" --leader-elect=false
        --bind-address 127.0.0.1 --secure-port "${ports}257" --cert-dir "$work" --use-service-account-credentials
        --service-account-private-key-file "$pki/sa.key" --root-ca-file "$pki/ca.crt"
        --cluster-signing-cert-file "$pki/ca.crt" --cluster-signing-key-file "$pki/ca.key"
        --allocate-node-cidrs --cluster-cidr "$cluster_range" --service-cluster-ip-range "$service_range")
      ;;
    kube-proxy)
      command=(bin/kube-proxy --kubeconfig "$(kubeconfig system:kube-proxy)" --proxy-mode nftables --cluster-cidr "$cluster_range"
        --hostname-override "$cluster" --healthz-bind-address "127.0.0.1:${ports}256"
        --metrics-bind-address "127.0.0.1:${ports}249" --conntrack-max-per-core 0)
      ;;
  esac
}

# specs_of COMPONENT: a pattern of their names
specs_of() {
  case $1 in
    kube-scheduler)
      echo 'SchedulerPredicates.*(NodeSelector is respected|resource limits of pods|no conflict between pods)|SchedulerPreemption.*(basic preemption|lower priority pod preemption)|RollingUpdateDeployment should delete old|ReplicationController should serve a basic image|should run and stop simple daemon'
      ;;
    kube-controller-manager)
      echo 'Deployment|ReplicaSet should|Job should|CronJob should replace|Garbage collector|ResourceQuota should create a ResourceQuota|EndpointSlice should|DisruptionController should (create|update)|ServiceAccounts should (mount|run through)|Namespaces .* should ensure that all|StatefulSet .*should perform rolling updates'
      ;;
    kube-proxy)
      echo 'Services should|Proxy .*should proxy through a service|Networking Granular Checks|EndpointSlice should create Endpoints|DNS should provide DNS for services'
      ;;
    kubectl)
      echo '\[sig-cli\] Kubectl'
      ;;
  esac
}
