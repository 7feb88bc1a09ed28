//! Streams through the API server: logs, exec, attach, copies, forwarded ports.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use crate::Shared;
use crate::node::{IMAGE, Namespace, eventually};

pub const TESTS: &[(&str, Shared)] = &[
    ("logs_follow_a_running_container", logs),
    ("exec_gives_output_input_and_exit_code", exec),
    ("exec_with_a_terminal_is_a_terminal", terminal),
    ("attach_reads_a_running_container", attach),
    ("cp_copies_both_ways", copy),
    ("port_forward_reaches_a_service", forward),
    ("proxy_reaches_pods_services_and_nodes", proxy),
    ("proxy_shows_a_pod_no_certificate", proxy_shows_no_certificate),
];

fn sleeper(ns: &Namespace, script: &str) {
    ns.run_script("main", script, "    stdin: true\n");
    ns.kubectl(&["wait", "--for=condition=Ready", "pod/main", "--timeout=60s"]);
}

fn logs(ns: &Namespace) {
    sleeper(ns, "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.2; done");
    let mut child = ns.command(&["logs", "-f", "main"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "line 5"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(ns.kubectl(&["logs", "main", "--tail=1"]).lines().count(), 1);
}

fn exec(ns: &Namespace) {
    sleeper(ns, "exec sleep infinity");
    assert_eq!(ns.kubectl(&["exec", "main", "--", "sh", "-c", "echo to $0", "you"]), "to you\n");
    assert_eq!(ns.with_input(&["exec", "-i", "main", "--", "cat"], "given\n").unwrap(), "given\n");
    let output = ns.command(&["exec", "main", "--", "sh", "-c", "echo sorry >&2; exit 7"]).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(7), "{words}");
    assert!(words.contains("sorry") && words.contains("command terminated with exit code 7"), "{words}");
}

/// `kubectl exec -it` at a real terminal: echo, line editing by the terminal in the container, Ctrl-C.
fn terminal(ns: &Namespace) {
    use rustix::fs::{Mode, OFlags};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    sleeper(ns, "exec sleep infinity");
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap();
    let end = || rustix::fs::open(&path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let mut command = ns.command(&["exec", "-it", "main", "--", "sh"]);
    let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    drop(command);
    let mut screen = std::fs::File::from(master);
    let mut keys = screen.try_clone().unwrap();
    let (send, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 1024];
        // The other end is closed when kubectl has ended, which reads as an error.
        while let Ok(count @ 1..) = screen.read(&mut bytes) {
            if send.send(String::from_utf8_lossy(&bytes[..count]).into_owned()).is_err() {
                break;
            }
        }
    });
    let mut seen = String::new();
    let mut until = |what: &str| {
        while !seen.contains(what) {
            let more = lines.recv_timeout(crate::node::PATIENCE);
            seen += &more.unwrap_or_else(|_| panic!("no {what:?} on the screen: {seen:?}"));
        }
        std::mem::take(&mut seen)
    };
    keys.write_all(b"readlink /proc/self/fd/0 /proc/self/fd/1 && echo is-a-\"terminal\"\n").unwrap();
    let shown = until("is-a-terminal");
    assert!(shown.contains("echo is-a-\"terminal\""), "what is typed is not echoed: {shown:?}");
    assert_eq!(shown.matches("/dev/pts/0\r\n").count(), 2, "{shown:?}");
    keys.write_all(b"sleep 1000\n").unwrap();
    until("sleep 1000");
    eventually("the command runs", || ns.kubectl(&["exec", "main", "--", "ps"]).contains("sleep 1000").then_some(()));
    keys.write_all(b"\x03").unwrap();
    keys.write_all(b"echo sent-$((1+1))\n").unwrap();
    until("sent-2");
    keys.write_all(b"exit 5\n").unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(5));
}

fn attach(ns: &Namespace) {
    sleeper(ns, "while read line; do echo heard $line; done");
    let mut child = ns.command(&["attach", "-i", "main"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"hello\n").unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "heard hello"));
    drop(input);
    child.kill().unwrap();
    child.wait().unwrap();
}

fn copy(ns: &Namespace) {
    sleeper(ns, "exec sleep infinity");
    let place = tempfile::tempdir().unwrap();
    let (there, back) = (place.path().join("there"), place.path().join("back"));
    std::fs::write(&there, "carried\n").unwrap();
    ns.kubectl(&["cp", there.to_str().unwrap(), "main:/tmp/file"]);
    ns.kubectl(&["cp", "main:/tmp/file", back.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(&back).unwrap(), "carried\n");
}

fn forward(ns: &Namespace) {
    ns.run_script("main", "exec web -m forwarded", "");
    ns.kubectl(&["wait", "--for=condition=Ready", "pod/main", "--timeout=60s"]);
    ns.kubectl(&["label", "pod/main", "app=main"]);
    ns.kubectl(&["expose", "pod/main", "--port=80", "--target-port=8080"]);
    let mut child = ns.command(&["port-forward", "service/main", ":80"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let port: u16 = first.split("127.0.0.1:").nth(1).and_then(|t| t.split(' ').next()?.parse().ok()).expect(&first);
    let answer = eventually("the forwarded port answers", || {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(answer.contains("forwarded, pod main"), "{answer} ({IMAGE})");
}

fn proxy(ns: &Namespace) {
    ns.run_script("hello", "exec web -m proxied", "    ports: [{containerPort: 8080}]\n    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}\n");
    ns.kubectl(&["wait", "--for=condition=Ready", "pod/hello", "--timeout=60s"]);
    ns.kubectl(&["label", "pod/hello", "app=hello"]);
    ns.kubectl(&["expose", "pod/hello", "--port=80", "--target-port=8080"]);
    let raw = |path: &str| ns.try_kubectl(&["get", "--raw", path]);
    let base = format!("/api/v1/namespaces/{}", ns.name);
    let service = format!("{base}/services/hello:80/proxy/");
    let answer = eventually("the service has an endpoint", || raw(&service).ok());
    assert_eq!(answer, "proxied, pod hello\n");
    for path in ["services/hello/proxy/", "services/http:hello:80/proxy/", "pods/hello/proxy/", "pods/hello:8080/proxy"]
    {
        assert_eq!(raw(&format!("{base}/{path}")).unwrap(), "proxied, pod hello\n", "{path}");
    }
    assert!(raw(&format!("{base}/pods/hello/proxy/a/b/?c=d")).is_err());
    assert!(ns.kubectl(&["logs", "hello"]).contains("GET /a/b/ 404"), "the slash at the end goes on");
    let refused = |path: &str| raw(&format!("{base}/{path}")).unwrap_err().trim().to_owned();
    assert!(refused("services/hello:81/proxy/").contains("no service port 81 found for service \"hello\""));
    assert!(refused("services/hello:web/proxy/").contains("no endpoints available for service \"hello\""));
    assert!(refused("pods/ftp:hello:21/proxy/").contains("invalid pod request \"ftp:hello:21\""));
    assert!(refused("pods/hello:1/proxy/").contains("error trying to reach service: dial tcp"));

    let node = "/api/v1/nodes/node-1/proxy";
    assert_eq!(raw(&format!("{node}/healthz")).unwrap(), "ok");
    assert!(raw(&format!("{node}/metrics")).unwrap().contains("kubelet_running_pods"));
}

/// A pod may not borrow the API server's certificate: on the node's network its port may be the kubelet's.
fn proxy_shows_no_certificate(ns: &Namespace) {
    ns.run_script("host", "exec sleep infinity", "  hostNetwork: true\n");
    ns.kubectl(&["wait", "--for=condition=Ready", "pod/host", "--timeout=60s"]);
    let port = ns.value("node/node-1", "{.status.daemonEndpoints.kubeletEndpoint.Port}");
    let path = format!("/api/v1/namespaces/{}/pods/https:host:{port}/proxy/pods", ns.name);
    let words = ns.refused(&["get", "--raw", &path]);
    assert!(words.contains("Unauthorized") || words.contains("must be logged in"), "{words}");
}
