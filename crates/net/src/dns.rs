//! The cluster's DNS server: names of the cluster from watches, others from the node's own name servers.
//!
//! Pods ask the Service `kube-dns` in `kube-system` (10.96.0.10), which is a Service like any other: its one endpoint is
//! the address that this server listens on, the pods' gateway with a port of our own (see [`DNS_PORT`]), and the service
//! proxy leads there, from pods and from the node. So no address has to be added to an interface, port 53 of the node
//! stays free for whoever has it, and `kubectl get endpointslices` tells the truth.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use kube::Client;
use netplan::dns::{Answer, Data, Kind, TTL_SECONDS, Zone, answer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::forward::Forwarder;
use crate::watch::{Changed, ServiceWatch};

/// The port of the gateway's address that the `kube-dns` Service leads to.
pub const DNS_PORT: u16 = 10053;
/// What a client without EDNS can take by UDP.
const UDP_BYTES_PLAIN: u16 = 512;
/// What we send by UDP at most, whatever a client says: more would be cut into fragments.
const UDP_BYTES_MAX: u16 = 1232;
/// A connection that has been silent for so long is closed.
const TCP_IDLE: Duration = Duration::from_secs(10);
const CNAME_HOPS_MAX: usize = 8;
/// Questions to other servers at a time, each with a socket of its own so that its port cannot be guessed. Beyond that a
/// question is refused, as CoreDNS does with `max_concurrent`: the process has other uses for its memory and descriptors.
pub(crate) const FORWARDED_MAX: usize = 256;
/// Connections at a time; one more is closed at once.
pub(crate) const CONNECTIONS_MAX: usize = 128;

#[derive(Clone, Debug)]
pub struct DnsConfig {
    pub listen: Vec<SocketAddr>,
    pub domain: String,
    /// `None`: those of `/etc/resolv.conf`, read again when it changes.
    pub upstreams: Option<Vec<SocketAddr>>,
    /// Our own addresses as others know them (the Service's): never used as upstreams.
    pub own_addresses: Vec<std::net::IpAddr>,
}

pub struct Dns {
    udp: Vec<Arc<UdpSocket>>,
    tcp: Vec<TcpListener>,
    server: Arc<Server>,
}

struct Server {
    zone: RwLock<Zone>,
    /// Everything has been listed; before that a name that is not there may still come.
    complete: std::sync::atomic::AtomicBool,
    forwarder: Forwarder,
    /// Free places for questions to other servers.
    forwarding: Arc<Semaphore>,
    /// Turns the order of addresses from answer to answer.
    turn: AtomicUsize,
}

impl Dns {
    /// Takes the sockets, in the calling thread's network namespace.
    pub async fn bind(config: DnsConfig) -> std::io::Result<Dns> {
        let (mut udp, mut tcp) = (Vec::new(), Vec::new());
        for address in &config.listen {
            let listener = TcpListener::bind(address).await?;
            // With port 0 both must get the same.
            udp.push(Arc::new(UdpSocket::bind(listener.local_addr()?).await?));
            tcp.push(listener);
        }
        let mut own = config.own_addresses.clone();
        own.extend(config.listen.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified() && !ip.is_loopback()));
        let server = Server {
            zone: RwLock::new(Zone::new(&config.domain)),
            complete: false.into(),
            forwarder: Forwarder::new(config.upstreams, own),
            forwarding: Arc::new(Semaphore::new(FORWARDED_MAX)),
            turn: AtomicUsize::new(0),
        };
        Ok(Dns { udp, tcp, server: Arc::new(server) })
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.tcp.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Answers until cancelled, with a zone kept by watches.
    pub async fn run(self, client: Client, token: CancellationToken) {
        let server = self.server.clone();
        let keep = async move {
            let mut watch = ServiceWatch::new(client, true);
            loop {
                let mut changed = Changed::default();
                watch.changed(&mut changed).await;
                server.update(&watch, &changed);
            }
        };
        tokio::select! {
            () = token.cancelled() => {}
            () = keep => {}
            () = self.serve() => {}
        }
    }

    /// Answers from the zone as it is; ends only with an error of every socket.
    async fn serve(self) {
        let mut tasks = tokio::task::JoinSet::new();
        for socket in self.udp {
            tasks.spawn(serve_udp(socket, self.server.clone()));
        }
        for listener in self.tcp {
            tasks.spawn(serve_tcp(listener, self.server.clone()));
        }
        while tasks.join_next().await.is_some() {}
    }

    /// For tests: a zone that nobody watches.
    #[cfg(test)]
    pub(crate) async fn run_with(self, zone: Zone) {
        if let Ok(mut slot) = self.server.zone.write() {
            *slot = zone;
        }
        self.server.complete.store(true, Ordering::Relaxed);
        self.serve().await;
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, server: Arc<Server>) {
    let mut buffer = vec![0; 4096];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // The error of an earlier answer (its client is gone), told here.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => continue,
            Err(error) => {
                tracing::error!(%error, "DNS socket failed");
                return;
            }
        };
        let query = buffer[..length].to_vec();
        let Some(work) = server.begin(&query, true) else { continue };
        match work {
            Work::Done(bytes) => reply(&socket, &bytes, from).await,
            // Another server may take seconds: nobody else waits for that.
            Work::Ask(message) => match server.forwarding.clone().try_acquire_owned() {
                Ok(place) => {
                    let (socket, server) = (socket.clone(), server.clone());
                    tokio::spawn(async move {
                        if let Some(bytes) = server.finish(message, true).await {
                            reply(&socket, &bytes, from).await;
                        }
                        drop(place);
                    });
                }
                Err(_) => {
                    if let Some(bytes) = refuse(&message.query, true) {
                        reply(&socket, &bytes, from).await;
                    }
                }
            },
        }
    }
}

async fn reply(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(bytes, to).await {
        tracing::debug!(%error, %to, "DNS answer could not be sent");
    }
}

async fn serve_tcp(listener: TcpListener, server: Arc<Server>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(place) = places.clone().try_acquire_owned() else { continue };
                let server = server.clone();
                tokio::spawn(async move {
                    if let Err(error) = serve_connection(stream, server).await {
                        tracing::debug!(%error, "DNS connection ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "DNS connection could not be accepted");
                // Out of file descriptors, most likely: others must close some first.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(mut stream: TcpStream, server: Arc<Server>) -> std::io::Result<()> {
    loop {
        let Ok(length) = tokio::time::timeout(TCP_IDLE, stream.read_u16()).await else { return Ok(()) };
        let length = match length {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        };
        let mut query = vec![0; usize::from(length)];
        match tokio::time::timeout(TCP_IDLE, stream.read_exact(&mut query)).await {
            Ok(read) => drop(read?),
            Err(_) => return Ok(()),
        }
        let bytes = match server.begin(&query, false) {
            None => return Ok(()),
            Some(Work::Done(bytes)) => bytes,
            Some(Work::Ask(message)) => {
                let answer = match server.forwarding.clone().try_acquire_owned() {
                    Ok(_place) => server.finish(message, false).await,
                    Err(_) => refuse(&message.query, false),
                };
                match answer {
                    Some(bytes) => bytes,
                    None => return Ok(()),
                }
            }
        };
        let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
        let answer = [&length.to_be_bytes()[..], &bytes].concat();
        match tokio::time::timeout(TCP_IDLE, stream.write_all(&answer)).await {
            Ok(written) => written?,
            Err(_) => return Ok(()),
        }
    }
}

enum Work {
    Done(Vec<u8>),
    /// Another server must be asked: the query, and in it what is known of the answer already.
    Ask(Box<Pending>),
}

struct Pending {
    query: Message,
    /// Without answers when the whole question goes on; else an answer that ends in a name of elsewhere.
    partial: Option<(Message, Name)>,
}

impl Server {
    fn update(&self, watch: &ServiceWatch, changed: &Changed) {
        let Ok(mut zone) = self.zone.write() else { return };
        for key in &changed.services {
            match watch.service(key) {
                Some(service) => zone.set_service(service),
                None => zone.remove_service(key),
            }
        }
        for key in &changed.endpoints {
            zone.set_endpoints(key, &watch.slices(key));
        }
        for name in &changed.namespaces {
            zone.set_namespace(name, watch.has_namespace(name));
        }
        if watch.complete() {
            self.complete.store(true, Ordering::Relaxed);
        }
    }

    /// What can be said at once. `None`: not a question, no answer is due.
    fn begin(&self, bytes: &[u8], udp: bool) -> Option<Work> {
        let Ok(query) = Message::from_vec(bytes) else {
            let id = u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]);
            // Answers to answers would go round for ever.
            let is_query = bytes.get(2)? & 0x80 == 0;
            let error = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
            return is_query.then(|| error.to_vec().ok().map(Work::Done)).flatten();
        };
        if query.metadata.message_type != MessageType::Query {
            return None;
        }
        let mut response = response_to(&query);
        let done = |response: Message| encode(&query, response, udp).map(Work::Done);
        let [question] = query.queries.as_slice() else {
            response.metadata.response_code = ResponseCode::FormErr;
            return done(response);
        };
        if query.metadata.op_code != OpCode::Query || question.query_class != DNSClass::IN {
            response.metadata.response_code = ResponseCode::NotImp;
            return done(response);
        }
        let kind = kind(question.query_type);
        let mut name = question.name.to_ascii().to_ascii_lowercase();
        for _ in 0..CNAME_HOPS_MAX {
            let found = self.zone.read().ok().map(|zone| answer(&zone, &name, kind))?;
            let first = response.answers.is_empty();
            match self.take(found, &question.name, &mut response) {
                Next::Done => return done(response),
                Next::Elsewhere if first => return Some(Work::Ask(Box::new(Pending { query, partial: None }))),
                Next::Elsewhere => {
                    let Ok(target) = Name::from_ascii(format!("{}.", name.trim_end_matches('.'))) else {
                        return done(response);
                    };
                    return Some(Work::Ask(Box::new(Pending { query, partial: Some((response, target)) })));
                }
                Next::Follow(target) if kind != Kind::Cname => name = target,
                Next::Follow(_) => return done(response),
            }
        }
        done(response)
    }

    /// Adds what was found to the response.
    fn take(&self, found: Answer, asked: &Name, response: &mut Message) -> Next {
        // A search list tries many names that are not there: only the zone once complete can say so.
        let complete = self.complete.load(Ordering::Relaxed);
        match found {
            Answer::Elsewhere => Next::Elsewhere,
            Answer::NoData(soa) | Answer::NoName(soa) if response.answers.is_empty() && !complete => {
                drop(soa);
                response.metadata.response_code = ResponseCode::ServFail;
                Next::Done
            }
            Answer::NoData(soa) => {
                response.metadata.authoritative = true;
                response.authorities.extend(record(&soa, None));
                Next::Done
            }
            Answer::NoName(soa) => {
                response.metadata.authoritative = true;
                response.metadata.response_code = ResponseCode::NXDomain;
                response.authorities.extend(record(&soa, None));
                Next::Done
            }
            Answer::Records { mut records, additional } => {
                response.metadata.authoritative = true;
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) % records.len().max(1);
                records.rotate_left(turn);
                // The client's own spelling of the name comes back.
                let own = |at: &str| asked.to_ascii().trim_end_matches('.').eq_ignore_ascii_case(at).then_some(asked);
                response.answers.extend(records.iter().filter_map(|found| record(found, own(&found.name))));
                response.additionals.extend(additional.iter().filter_map(|found| record(found, None)));
                match &records[..] {
                    [netplan::dns::Record { data: Data::Cname(target), .. }] => Next::Follow(target.clone()),
                    _ => Next::Done,
                }
            }
        }
    }

    /// Asks another server.
    async fn finish(&self, pending: Box<Pending>, udp: bool) -> Option<Vec<u8>> {
        let Pending { query, partial } = *pending;
        let mut response = response_to(&query);
        let question = query.queries.first()?;
        let (target, query_type) = (partial.as_ref().map_or(&question.name, |(_, target)| target), question.query_type);
        let forwarded = self.forwarder.resolve(target, query_type).await;
        if let Some((known, _)) = partial {
            response = known;
        }
        match forwarded {
            Some(answer) => {
                response.metadata.response_code = answer.metadata.response_code;
                response.metadata.authentic_data = false;
                response.metadata.authoritative = false;
                response.answers.extend(answer.answers);
                response.authorities.extend(answer.authorities);
                response.additionals.extend(answer.additionals);
            }
            None => response.metadata.response_code = ResponseCode::ServFail,
        }
        encode(&query, response, udp)
    }
}

enum Next {
    Done,
    Follow(String),
    Elsewhere,
}

/// There is no place for another question to other servers.
fn refuse(query: &Message, udp: bool) -> Option<Vec<u8>> {
    let mut response = response_to(query);
    response.metadata.response_code = ResponseCode::Refused;
    encode(query, response, udp)
}

fn response_to(query: &Message) -> Message {
    let mut response = Message::response(query.metadata.id, query.metadata.op_code);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.add_queries(query.queries.iter().cloned());
    response
}

/// Encodes for the way it goes; too much for UDP is cut down to the mark that says so.
fn encode(query: &Message, mut response: Message, udp: bool) -> Option<Vec<u8>> {
    let limit = match &query.edns {
        Some(edns) => {
            let mut own = hickory_proto::op::Edns::new();
            own.set_max_payload(UDP_BYTES_MAX);
            response.edns = Some(own);
            edns.max_payload().clamp(UDP_BYTES_PLAIN, UDP_BYTES_MAX)
        }
        None => UDP_BYTES_PLAIN,
    };
    let bytes = response.to_vec().ok()?;
    if udp && bytes.len() > usize::from(limit) {
        return response.truncate().to_vec().ok();
    }
    Some(bytes)
}

fn kind(record_type: RecordType) -> Kind {
    match record_type {
        RecordType::A => Kind::A,
        RecordType::AAAA => Kind::Aaaa,
        RecordType::SRV => Kind::Srv,
        RecordType::PTR => Kind::Ptr,
        RecordType::CNAME => Kind::Cname,
        RecordType::TXT => Kind::Txt,
        RecordType::SOA => Kind::Soa,
        RecordType::NS => Kind::Ns,
        RecordType::ANY => Kind::Any,
        _ => Kind::Other,
    }
}

/// `None` for a name that DNS cannot hold.
fn record(found: &netplan::dns::Record, spelled: Option<&Name>) -> Option<Record> {
    let name = |text: &str| Name::from_ascii(format!("{text}.")).ok();
    let data = match &found.data {
        Data::A(address) => RData::A(A(*address)),
        Data::Aaaa(address) => RData::AAAA(AAAA(*address)),
        Data::Srv { priority, weight, port, target } => RData::SRV(SRV::new(*priority, *weight, *port, name(target)?)),
        Data::Ptr(target) => RData::PTR(PTR(name(target)?)),
        Data::Cname(target) => RData::CNAME(CNAME(name(target)?)),
        Data::Ns(target) => RData::NS(NS(name(target)?)),
        Data::Txt(text) => RData::TXT(TXT::new(vec![text.clone()])),
        Data::Soa { primary, contact, serial, refresh, retry, expire, minimum } => {
            RData::SOA(SOA::new(name(primary)?, name(contact)?, *serial, *refresh, *retry, *expire, *minimum))
        }
    };
    let owner = match spelled {
        Some(spelled) => spelled.clone(),
        None => name(&found.name)?,
    };
    Some(Record::from_rdata(owner, TTL_SECONDS, data))
}
