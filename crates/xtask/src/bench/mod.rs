//! `cargo xtask bench up`: how fast a node starts and runs pods, and what it takes; beside upstream's figures.

mod http;
mod node;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use node::{Node, Setup};

const PODS: &str = "/api/v1/namespaces/default/pods";

const GRACE: Duration = Duration::from_secs(2);

/// One line of the table. `None` where upstream has no such figure.
struct Figure {
    what: &'static str,
    measured: f64,
    target: f64,
    upstream: Option<f64>,
    unit: &'static str,
}

/// Measures everything and answers the table.
///
/// # Errors
/// The node does not start, or a pod does not do what it should.
pub fn up(binary: PathBuf, kubectl: PathBuf, samples: usize) -> Result<String> {
    let directory = std::env::temp_dir().join(format!("windlass-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let binary = binary.canonicalize().with_context(|| binary.display().to_string())?;
    let setup = Setup { binary, kubectl, directory };
    let measured = figures(&setup, samples);
    // Whatever happened, nothing is left behind.
    setup.down()?;
    std::fs::remove_dir_all(&setup.directory)?;
    Ok(table(&measured?))
}

fn figures(setup: &Setup, samples: usize) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut add = |what, measured, target, upstream, unit| {
        eprintln!("{what}: {measured:.2} {unit}");
        figures.push(Figure { what, measured, target, upstream, unit });
    };
    let size = std::fs::metadata(&setup.binary)?.len() as f64 / 1e6;
    add("binary", size, 60.0, None, "MB");
    let (mut empty, mut existing) = (Vec::new(), Vec::new());
    for _ in 0..samples.min(5) {
        setup.down()?;
        let (node, took) = setup.up()?;
        empty.push(took);
        node.stop()?;
        let (node, took) = setup.up()?;
        existing.push(took);
        node.stop()?;
    }
    add("exec to node Ready, empty data directory", millis(median(empty)), 1500.0, Some(2800.0), "ms");
    add("exec to node Ready, existing data directory", millis(median(existing)), 700.0, Some(2800.0), "ms");
    let (node, _) = setup.up()?;
    let (_proxy, server) = setup.proxy()?;
    // The first pod also waits for the image and for the namespace's account.
    one_pod(server, "first")?;
    let mut runs = Vec::new();
    for number in 0..samples {
        runs.push(one_pod(server, &format!("one-{number}"))?);
    }
    let (created, deleted): (Vec<_>, Vec<_>) = runs.into_iter().unzip();
    add("pod create to Running, median", millis(median(created)), 100.0, Some(489.0), "ms");
    add("delete to gone, beyond the process's own exit, median", millis(median(deleted)), 100.0, Some(520.0), "ms");
    many_pods(server, "few", 10)?;
    std::thread::sleep(Duration::from_secs(10));
    add("RSS with 10 pods", mb(node.memory()?.rss_kib), 80.0, None, "MB");
    for number in 0..10 {
        gone(server, &format!("few-{number}"))?;
    }
    let took = many_pods(server, "many", 100)?;
    add("100 pods created at once, all Running", took.as_secs_f64(), 4.0, Some(18.8), "s");
    for (what, measured, target, upstream, unit) in idle(setup, &node, server)? {
        add(what, measured, target, upstream, unit);
    }
    node.stop()?;
    Ok(figures)
}

type Idle = (&'static str, f64, f64, Option<f64>, &'static str);

/// What a node with 100 pods takes while nothing happens.
fn idle(setup: &Setup, node: &Node, server: SocketAddr) -> Result<Vec<Idle>> {
    std::thread::sleep(Duration::from_secs(15));
    let (before, begun) = (node.processor()?, Instant::now());
    let writes = (syncs(server)?, renewals(server)?);
    std::thread::sleep(Duration::from_secs(30));
    let writes = (syncs(server)? - writes.0, renewals(server)? - writes.1);
    let used = (node.processor()? - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    let (count, holders) = node.holders(&setup.binary)?;
    eprintln!("{count} processes hold the pods");
    Ok(vec![
        ("idle with 100 pods, of one core", used * 100.0, 1.0, Some(10.7), "%"),
        ("syncs of the store, a renewal of the node's lease", writes.0 / writes.1, 1.0, None, ""),
        ("RSS with 100 pods", mb(node.memory()?.rss_kib), 100.0, Some(789.0), "MB"),
        ("what outlives the node, a pod, proportional share", mb(holders.pss_kib) / 100.0, 1.0, Some(13.4), "MB"),
        ("what outlives the node, a pod, resident", mb(holders.rss_kib) / 100.0, 1.0, Some(13.4), "MB"),
    ])
}

fn manifest(name: &str) -> String {
    // As the first process of its namespace, `sleep` ends by SIGKILL only, when its grace period is over; the kubelet gives
    // no less than two seconds (kubernetes pkg/kubelet/kuberuntime: minimumGracePeriodInSeconds).
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": GRACE.as_secs(), "containers": [{
            "name": "sleep", "image": "windlass.local/toolbox:v1", "imagePullPolicy": "IfNotPresent",
            "command": ["sleep", "86400"],
        }]},
    })
    .to_string()
}

/// The time from the creation's first byte to the watch's word that the pod runs, and from its deletion to the word
/// that it is gone, less the grace that its process lives on.
fn one_pod(server: SocketAddr, name: &str) -> Result<(Duration, Duration)> {
    let mut events = http::watch(server, &format!("{PODS}?watch=1&fieldSelector=metadata.name%3D{name}"))?;
    let begun = Instant::now();
    http::call(server, "POST", PODS, &manifest(name))?;
    until(&mut events, |event| event["object"]["status"]["phase"] == "Running")?;
    let created = begun.elapsed();
    let begun = Instant::now();
    http::call(server, "DELETE", &format!("{PODS}/{name}"), "")?;
    until(&mut events, |event| event["type"] == "DELETED")?;
    Ok((created, begun.elapsed().saturating_sub(GRACE)))
}

/// Deletes a pod and waits until it is gone.
fn gone(server: SocketAddr, name: &str) -> Result<()> {
    let mut events = http::watch(server, &format!("{PODS}?watch=1&fieldSelector=metadata.name%3D{name}"))?;
    http::call(server, "DELETE", &format!("{PODS}/{name}"), "")?;
    until(&mut events, |event| event["type"] == "DELETED")
}

/// How often the store's log was synced so far.
fn syncs(server: SocketAddr) -> Result<f64> {
    counted(server, |line| line.starts_with("etcd_disk_wal_fsync_duration_seconds_count"))
}

/// How often a Lease was updated so far.
fn renewals(server: SocketAddr) -> Result<f64> {
    counted(server, |line| {
        line.starts_with("apiserver_request_total") && line.contains("\"leases\"") && line.contains("verb=\"PUT\"")
    })
}

/// The sum of the API server's samples whose line `wanted` picks.
fn counted(server: SocketAddr, wanted: impl Fn(&str) -> bool) -> Result<f64> {
    let text = http::text(server, "/metrics")?;
    let values = text.lines().filter(|line| wanted(line)).filter_map(|line| line.rsplit(' ').next());
    values.map(|value| value.parse::<f64>().with_context(|| value.to_owned())).sum()
}

fn until(events: &mut impl Iterator<Item = Result<Value>>, done: impl Fn(&Value) -> bool) -> Result<()> {
    for event in events {
        if done(&event?) {
            return Ok(());
        }
    }
    bail!("the watch ended too early")
}

/// Creates pods over eight connections; the time until the last of them runs.
fn many_pods(server: SocketAddr, prefix: &'static str, count: usize) -> Result<Duration> {
    let events = http::watch(server, &format!("{PODS}?watch=1"))?;
    let begun = Instant::now();
    let makers: Vec<_> = (0..8)
        .map(|maker| {
            std::thread::spawn(move || {
                (maker..count).step_by(8).try_for_each(|number| {
                    http::call(server, "POST", PODS, &manifest(&format!("{prefix}-{number}"))).map(drop)
                })
            })
        })
        .collect();
    let mut running = std::collections::BTreeSet::new();
    for event in events {
        let object = &event?["object"];
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if name.starts_with(prefix) && object["status"]["phase"] == "Running" {
            running.insert(name.to_owned());
        }
        if running.len() == count {
            break;
        }
    }
    let took = begun.elapsed();
    for maker in makers {
        maker.join().map_err(|_| anyhow::anyhow!("a maker of pods failed"))??;
    }
    Ok(took)
}

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort();
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn mb(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}

fn table(figures: &[Figure]) -> String {
    let mut text = String::from(
        "| what | Windlass | target | | upstream | upstream / Windlass |\n|---|---:|---:|---|---:|---:|\n",
    );
    for Figure { what, measured, target, upstream, unit } in figures {
        let met = if measured <= target { "met" } else { "missed" };
        let beside = upstream.map_or(("".to_owned(), "".to_owned()), |upstream| {
            (format!("{upstream} {unit}"), format!("{:.1}", upstream / measured))
        });
        text.push_str(&format!(
            "| {what} | {measured:.2} {unit} | {target} {unit} | {met} | {} | {} |\n",
            beside.0, beside.1
        ));
    }
    text
}
