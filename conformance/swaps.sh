# What swap.sh knows of each of upstream's components: which part of ours it replaces, how it is started, and which specs
# lean on it.

# programs_of COMPONENT: what is built of upstream
programs_of() {
  case $1 in
    etcd) echo kube-apiserver etcdctl ;;
    *) echo "$1" ;;
  esac
}

# part_of COMPONENT: what `windlass up --disable` leaves out
part_of() {
  case $1 in
    kube-scheduler) echo scheduler ;;
    kube-controller-manager) echo controllers ;;
    kube-proxy) echo proxy ;;
  esac
}

# note_of COMPONENT: what its run is
note_of() {
  case $1 in
    kubectl) echo "upstream's client with nothing of ours left out" ;;
    etcd) echo "upstream's kube-apiserver and etcdctl on our store, by etcd's protocol; the specs go through that API server, pods run on our node" ;;
    *) echo "in the place of ours, which is left out" ;;
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
    etcd)
      command=(bin/kube-apiserver --secure-port "${ports}444" --etcd-servers "https://127.0.0.1:${ports}379"
        --etcd-cafile "$pki/etcd/ca.crt" --etcd-certfile "$pki/apiserver-etcd-client.crt" --etcd-keyfile "$pki/apiserver-etcd-client.key"
        --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" --client-ca-file "$pki/ca.crt"
        --service-account-key-file "$pki/sa.pub" --service-account-signing-key-file "$pki/sa.key"
        --service-account-issuer https://kubernetes.default.svc.cluster.local --service-cluster-ip-range "$service_range"
        --kubelet-client-certificate "$pki/apiserver-kubelet-client.crt" --kubelet-client-key "$pki/apiserver-kubelet-client.key"
        --kubelet-certificate-authority "$pki/ca.crt" --kubelet-preferred-address-types InternalIP
        --authorization-mode Node,RBAC --allow-privileged --endpoint-reconciler-type none)
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
      echo '\[sig-apps\] Deployment|ReplicaSet should|Job should|CronJob should replace|Garbage collector|ResourceQuota should create a ResourceQuota|EndpointSlice should|DisruptionController should (create|update)|ServiceAccounts should (mount|run through)|Namespaces .* should ensure that all|StatefulSet .*should perform rolling updates'
      ;;
    kube-proxy)
      echo 'Services should|Proxy .*should proxy through a service|Networking Granular Checks|EndpointSlice should create Endpoints|DNS should provide DNS for services'
      ;;
    etcd)
      echo 'Watchers should|should return chunks|ConfigMap should (be consumable via environment|run through)|Secrets should (patch|be consumable via)|Pods should (be submitted|get a host IP|be updated)|RollingUpdateDeployment should delete old|ReplicaSet should serve|Job should (delete a job|run a job to completion when tasks sometimes)|Garbage collector should delete (pods|RS)|ResourceQuota should create a ResourceQuota and capture the life of a (pod|configMap)|CustomResourceDefinition Watch|creating/deleting custom resource|Lease API|Events should|Services should serve a basic endpoint|ServiceAccounts should (mount|run through)|FieldValidation should'
      ;;
    kubectl)
      echo '\[sig-cli\] Kubectl'
      ;;
  esac
}
