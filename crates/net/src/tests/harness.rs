//! Namespaces, each with a thread that lives in it. A socket made there belongs to it for ever, so servers and clients
//! can then be used from anywhere; the namespace ends with its thread.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use pods::ports::{Network, PodNetwork};

use crate::netlink::Socket;
use crate::{BridgeConfig, BridgeNetwork, route};

type Job = Box<dyn FnOnce() + Send>;

pub struct Namespace {
    jobs: mpsc::Sender<Job>,
    pub path: PathBuf,
}

impl Namespace {
    pub fn new() -> Namespace {
        let (jobs, work) = mpsc::channel::<Job>();
        let (ready, started) = mpsc::channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace (tests of `net` need root)");
            let mut socket = Socket::route().unwrap();
            let lo = route::link(&mut socket, "lo").unwrap().unwrap();
            route::set_up(&mut socket, lo.index).unwrap();
            drop(socket);
            ready.send(nix::unistd::gettid()).unwrap();
            work.into_iter().for_each(|job| job());
        });
        let thread = started.recv().unwrap();
        Namespace { jobs, path: PathBuf::from(format!("/proc/{}/task/{thread}/ns/net", std::process::id())) }
    }

    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, result) = mpsc::channel();
        self.jobs.send(Box::new(move || drop(answer.send(job())))).unwrap();
        result.recv().expect("the job panicked")
    }

    /// Connects from inside; what the server says first. The error is the kind only.
    pub fn ask_tcp(&self, to: (IpAddr, u16)) -> Result<String, std::io::ErrorKind> {
        self.run(move || {
            let mut stream = TcpStream::connect_timeout(&to.into(), Duration::from_secs(3))?;
            stream.set_read_timeout(Some(Duration::from_secs(3)))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
        .map_err(|error: std::io::Error| error.kind())
    }

    pub fn ask_udp(&self, to: (IpAddr, u16)) -> Result<String, std::io::ErrorKind> {
        self.run(move || {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(Duration::from_secs(3)))?;
            socket.connect(SocketAddr::from(to))?;
            socket.send(b"?")?;
            let mut buffer = [0; 512];
            let length = socket.recv(&mut buffer)?;
            Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
        .map_err(|error: std::io::Error| error.kind())
    }

    /// Servers on TCP and UDP that answer with `name` and the address they were asked from.
    pub fn serve(&self, name: &'static str, port: u16) {
        let (tcp, udp) = self
            .run(move || (TcpListener::bind(("0.0.0.0", port)).unwrap(), UdpSocket::bind(("0.0.0.0", port)).unwrap()));
        std::thread::spawn(move || {
            while let Ok((mut stream, from)) = tcp.accept() {
                stream.write_all(format!("{name} {}", from.ip()).as_bytes()).unwrap();
            }
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 16];
            while let Ok((_, from)) = udp.recv_from(&mut buffer) {
                udp.send_to(format!("{name} {}", from.ip()).as_bytes(), from).unwrap();
            }
        });
    }
}

/// A node with its pod network.
pub struct Node {
    pub host: Namespace,
    pub network: std::sync::Arc<BridgeNetwork>,
    pub config: BridgeConfig,
}

impl Node {
    pub fn new(name: &str) -> Node {
        let host = Namespace::new();
        let directory = std::env::temp_dir().join(format!("windlass-net-{name}-{}", std::process::id()));
        let config = BridgeConfig { state_directory: directory, ..BridgeConfig::default() };
        let network = Node::start(&host, &config);
        Node { host, network, config }
    }

    pub fn start(host: &Namespace, config: &BridgeConfig) -> std::sync::Arc<BridgeNetwork> {
        let config = config.clone();
        host.run(move || BridgeNetwork::open(config)).unwrap().into()
    }

    pub fn attach(&self, pod: &PodNetwork) -> IpAddr {
        block_on(self.network.attach(pod)).unwrap()[0]
    }

    /// A pod with a server on port 80 that says `name`.
    pub fn pod(&self, name: &'static str) -> (Namespace, IpAddr) {
        let namespace = Namespace::new();
        let address = self.attach(&pod(name, &namespace));
        namespace.serve(name, 80);
        (namespace, address)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.config.state_directory));
    }
}

pub fn pod(name: &str, namespace: &Namespace) -> PodNetwork {
    PodNetwork {
        pod_uid: format!("uid-{name}"),
        namespace: "default".to_owned(),
        name: name.to_owned(),
        network_namespace: namespace.path.clone(),
        host_ports: vec![],
    }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
