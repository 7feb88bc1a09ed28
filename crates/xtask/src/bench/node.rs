//! A node of the measurement's own: its directories, ports and addresses, so that it disturbs no other on the machine.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub struct Setup {
    pub binary: PathBuf,
    pub kubectl: PathBuf,
    pub directory: PathBuf,
}

pub struct Node {
    process: Child,
    /// Kept open, so that the node can go on printing.
    _output: BufReader<ChildStdout>,
}

impl Setup {
    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg(verb);
        for (flag, name) in
            [("--data-dir", "data"), ("--run-dir", "run"), ("--kubeconfig", "kubeconfig"), ("--pod-logs-dir", "logs")]
        {
            command.arg(flag).arg(self.directory.join(name));
        }
        command.args(["--no-merge-kubeconfig", "--secure-port", "17443", "--kubelet-port", "17250"]);
        command.args(["--bridge", "wlbench0", "--cgroup-root", "/windlass-bench", "--node-name", "bench"]);
        command.args(["--cluster-cidr", "10.181.0.0/16", "--service-cidr", "10.182.0.0/16"]);
        command.stdin(Stdio::null());
        command
    }

    /// Starts the node; answers how long that took until it was Ready.
    pub fn up(&self) -> Result<(Node, Duration)> {
        let begun = Instant::now();
        let mut process = self.command("up").stdout(Stdio::piped()).spawn().context("cannot start windlass")?;
        let mut output = BufReader::new(process.stdout.take().context("no standard output")?);
        let mut line = String::new();
        while output.read_line(&mut line)? > 0 {
            if line.contains("node") && line.trim_end().ends_with("Ready") {
                return Ok((Node { process, _output: output }, begun.elapsed()));
            }
            line.clear();
        }
        bail!("windlass up ended: {}", process.wait()?)
    }

    /// Stops the node and takes away everything it made.
    pub fn down(&self) -> Result<()> {
        let status = self.command("down").stdout(Stdio::null()).status()?;
        if !status.success() {
            bail!("windlass down: {status}");
        }
        for name in ["data", "logs"] {
            let path = self.directory.join(name);
            if path.exists() {
                std::fs::remove_dir_all(&path).with_context(|| path.display().to_string())?;
            }
        }
        Ok(())
    }

    /// `kubectl proxy` and where it listens.
    pub fn proxy(&self) -> Result<(Proxy, SocketAddr)> {
        let mut process = Command::new(&self.kubectl)
            .arg("--kubeconfig")
            .arg(self.directory.join("kubeconfig"))
            .args(["proxy", "--port=0"])
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", self.kubectl.display()))?;
        let mut line = String::new();
        let output = process.stdout.take().context("no standard output")?;
        let proxy = Proxy(process);
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().rsplit(' ').next().unwrap_or_default();
        Ok((proxy, address.parse().with_context(|| format!("kubectl proxy said {line:?}"))?))
    }
}

/// Ends with its owner.
pub struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Resident memory: all of it, and with what is shared divided among those who share it.
#[derive(Default, Clone, Copy)]
pub struct Memory {
    pub rss_kib: u64,
    pub pss_kib: u64,
}

impl Memory {
    fn of(pid: &str) -> Result<Memory> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        Ok(Memory { rss_kib: field("Rss:"), pss_kib: field("Pss:") })
    }
}

impl Node {
    /// Ends the process and nothing else: containers go on.
    pub fn stop(mut self) -> Result<()> {
        let status = Command::new("kill").arg(self.process.id().to_string()).status()?;
        if !status.success() {
            bail!("kill: {status}");
        }
        self.process.wait()?;
        Ok(())
    }

    pub fn memory(&self) -> Result<Memory> {
        Memory::of(&self.process.id().to_string())
    }

    /// Processor time used so far.
    pub fn processor(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let (_, fields) = stat.rsplit_once(") ").context("/proc/PID/stat")?;
        let ticks = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
        // Ticks in /proc are hundredths of a second on every Linux.
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Other processes that run the node's binary: what holds containers, and outlives the node.
    pub fn holders(&self, binary: &Path) -> Result<(usize, Memory)> {
        let own = std::fs::metadata(binary)?;
        let (mut count, mut sum) = (0, Memory::default());
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == self.process.id().to_string() || !name.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            // Processes end while one looks.
            let Ok(program) = std::fs::metadata(entry.path().join("exe")) else { continue };
            if (program.dev(), program.ino()) == (own.dev(), own.ino())
                && let Ok(memory) = Memory::of(&name)
            {
                count += 1;
                sum.rss_kib += memory.rss_kib;
                sum.pss_kib += memory.pss_kib;
            }
        }
        Ok((count, sum))
    }
}
