//! Runs the controllers and the scheduler against any API server (`KUBECONFIG`), with a pretended node that says
//! every pod runs as soon as it is bound: to try controllers with no kubelet.
//!
//! `cargo run -p runner --example controllers [NODES]`

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use runner::{Accounts, Options, Settings};
use serde_json::json;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let mut config = kube::Config::infer().await?;
    config.read_timeout = None;
    let client = kube::Client::try_from(config.clone())?;
    let as_user = move |user: &str| {
        let mut config = config.clone();
        config.auth_info.impersonate = Some(user.to_string());
        kube::Client::try_from(config)
    };
    let count: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1);
    for at in 0..count {
        register(&client, &format!("pretended-{at}")).await?;
    }
    let settings = Settings { root_ca: Some("pretended".into()), ..Settings::default() };
    let manager = as_user("system:kube-controller-manager")?;
    let scheduler = as_user("system:kube-scheduler")?;
    let accounts = Accounts::new(move |name| Ok(as_user(&format!("system:serviceaccount:kube-system:{name}"))?));
    let options =
        Options { settings: Arc::new(settings), leader_identity: None, accounts: Some(accounts), ..Options::default() };
    let stop = CancellationToken::new();
    let work = runner::run_control_plane(manager, scheduler, options, stop.clone());
    let control_plane = tokio::spawn(work);
    let pods = tokio::spawn(run_pods(client.clone()));
    tokio::signal::ctrl_c().await?;
    stop.cancel();
    pods.abort();
    control_plane.await??;
    Ok(())
}

async fn register(client: &kube::Client, name: &str) -> Result<(), kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
    }))
    .map_err(kube::Error::SerdeError)?;
    if let Err(kube::Error::Api(status)) = nodes.create(&PostParams::default(), &node).await {
        println!("node {name}: {status}");
    }
    let size = json!({"cpu": "8", "memory": "16Gi", "pods": "500", "ephemeral-storage": "100Gi"});
    let status = json!({"status": {
        "capacity": size, "allocatable": size,
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "pretended",
                        "lastHeartbeatTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()}],
    }});
    nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await?;
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    let name = name.to_string();
    tokio::spawn(async move {
        loop {
            let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
            let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
                "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now}});
            let how = PatchParams::apply("pretended").force();
            if let Err(error) = leases.patch(&name, &how, &Patch::Apply(&lease)).await {
                println!("lease {name}: {error}");
            }
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    });
    Ok(())
}

/// Says of each bound pod that it runs, and lets each deleted pod go.
async fn run_pods(client: kube::Client) {
    let pods: Api<Pod> = Api::all(client.clone());
    let mut events = watcher(pods, watcher::Config::default()).boxed();
    loop {
        match events.try_next().await {
            Ok(Some(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod))) => {
                if let Err(error) = step(&client, &pod).await {
                    println!("pod {}: {error}", pod.name_any());
                }
            }
            Ok(_) => {}
            Err(error) => println!("watch: {error}"),
        }
    }
}

async fn step(client: &kube::Client, pod: &Pod) -> Result<(), kube::Error> {
    let ours = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).is_some_and(|n| n.starts_with("pretended-"));
    if !ours {
        return Ok(());
    }
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    if pod.metadata.deletion_timestamp.is_some() {
        let now = DeleteParams { grace_period_seconds: Some(0), ..Default::default() };
        return api.delete(&name, &now).await.map(|_| ());
    }
    if pod.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Pending") {
        return Ok(());
    }
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let ends = pod.metadata.annotations.as_ref().and_then(|a| a.get("pretended/exit"));
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    let status = match ends {
        None => json!({"phase": "Running", "podIP": "10.244.0.9", "podIPs": [{"ip": "10.244.0.9"}], "startTime": now,
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": now},
                {"type": "Ready", "status": "True", "lastTransitionTime": now}]}),
        Some(code) => {
            let code: i32 = code.parse().unwrap_or(0);
            let ended = containers.map(|c| {
                json!({"name": c.name, "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"terminated": {"exitCode": code, "finishedAt": now, "startedAt": now}}})
            });
            json!({"phase": if code == 0 { "Succeeded" } else { "Failed" }, "startTime": now,
                "containerStatuses": ended.collect::<Vec<_>>()})
        }
    };
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&json!({"status": status}))).await.map(|_| ())
}
