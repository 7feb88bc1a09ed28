//! Questions about names of elsewhere, asked of the node's own name servers, with a small cache.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// One server's time to answer, and how often the list is gone through.
const PATIENCE: Duration = Duration::from_secs(2);
const ROUNDS: usize = 2;
/// All servers' time together: a client's resolver has given up by then.
const PATIENCE_TOTAL: Duration = Duration::from_secs(5);
/// Nothing is kept for longer, as with CoreDNS in a kubeadm cluster.
const TTL_SECONDS_MAX: u32 = 30;
const CACHED_MAX: usize = 4096;

type Key = (String, RecordType);

pub struct Forwarder {
    fixed: Option<Vec<SocketAddr>>,
    own: Vec<IpAddr>,
    from_file: Mutex<Option<(SystemTime, Vec<SocketAddr>)>>,
    cache: Mutex<HashMap<Key, (Instant, Duration, Message)>>,
}

impl Forwarder {
    pub fn new(fixed: Option<Vec<SocketAddr>>, own: Vec<IpAddr>) -> Forwarder {
        Forwarder { fixed, own, from_file: Mutex::new(None), cache: Mutex::new(HashMap::new()) }
    }

    /// The answer of the first server that gives one; `None` when none does.
    pub async fn resolve(&self, name: &Name, query_type: RecordType) -> Option<Message> {
        let key = (name.to_ascii().to_ascii_lowercase(), query_type);
        if let Some(found) = self.cached(&key) {
            return Some(found);
        }
        tokio::time::timeout(PATIENCE_TOTAL, self.ask_in_turn(key, name, query_type)).await.ok().flatten()
    }

    async fn ask_in_turn(&self, key: Key, name: &Name, query_type: RecordType) -> Option<Message> {
        let upstreams = self.upstreams();
        for upstream in std::iter::repeat_n(&upstreams, ROUNDS).flatten() {
            match tokio::time::timeout(PATIENCE, ask(*upstream, name, query_type)).await {
                Ok(Ok(answer)) if answer.metadata.response_code != ResponseCode::ServFail => {
                    self.keep(key, &answer);
                    return Some(answer);
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%error, %upstream, "name server gave no answer"),
                Err(_) => tracing::debug!(%upstream, "name server did not answer in time"),
            }
        }
        None
    }

    fn upstreams(&self) -> Vec<SocketAddr> {
        if let Some(fixed) = &self.fixed {
            return fixed.clone();
        }
        let Ok(changed) = std::fs::metadata(RESOLV_CONF).and_then(|data| data.modified()) else { return Vec::new() };
        let Ok(mut known) = self.from_file.lock() else { return Vec::new() };
        match &*known {
            Some((when, upstreams)) if *when == changed => upstreams.clone(),
            _ => {
                let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_else(|error| {
                    tracing::warn!(%error, "{RESOLV_CONF} cannot be read");
                    String::new()
                });
                let upstreams = name_servers(&text, &self.own);
                *known = Some((changed, upstreams.clone()));
                upstreams
            }
        }
    }

    fn cached(&self, key: &Key) -> Option<Message> {
        let cache = self.cache.lock().ok()?;
        let (since, lifetime, message) = cache.get(key)?;
        let age = since.elapsed();
        if age >= *lifetime {
            return None;
        }
        let mut message = message.clone();
        let Message { answers, authorities, additionals, .. } = &mut message;
        for record in answers.iter_mut().chain(authorities).chain(additionals) {
            record.decrement_ttl(age.as_secs() as u32);
        }
        Some(message)
    }

    fn keep(&self, key: Key, answer: &Message) {
        let lifetime = Duration::from_secs(u64::from(lifetime_seconds(answer)));
        let Ok(mut cache) = self.cache.lock() else { return };
        if lifetime.is_zero() {
            return;
        }
        if cache.len() >= CACHED_MAX {
            cache.retain(|_, (since, lifetime, _)| since.elapsed() < *lifetime);
            // All of them young: begin again rather than grow.
            if cache.len() >= CACHED_MAX {
                cache.clear();
            }
        }
        cache.insert(key, (Instant::now(), lifetime, answer.clone()));
    }
}

/// How long an answer may be kept: as its shortest-lived record says, or, without records, as the zone says of what is
/// not there. Failures are not kept.
fn lifetime_seconds(answer: &Message) -> u32 {
    if !matches!(answer.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
        || answer.metadata.truncation
    {
        return 0;
    }
    let absent = answer.authorities.iter().filter_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    let shortest = match answer.answers.is_empty() {
        false => answer.answers.iter().map(|record| record.ttl).min(),
        true => absent.min(),
    };
    shortest.unwrap_or(0).min(TTL_SECONDS_MAX)
}

/// The `nameserver` lines of a resolv.conf, without ourselves.
fn name_servers(text: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            line.split_whitespace().collect::<Vec<_>>().as_slice().get(..2).map(|w| (w[0].to_owned(), w[1].to_owned()))
        })
        .filter(|(word, _)| word == "nameserver")
        .filter_map(|(_, address)| address.parse::<IpAddr>().ok())
        .filter(|address| !own.contains(address))
        .map(|address| SocketAddr::new(address, 53))
        .collect()
}

/// Asks by UDP, and by TCP when the answer is too long for that.
async fn ask(upstream: SocketAddr, name: &Name, query_type: RecordType) -> std::io::Result<Message> {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name.clone(), query_type));
    let id = query.metadata.id;
    let bytes = query.to_vec().map_err(std::io::Error::other)?;
    let local: SocketAddr = if upstream.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(upstream).await?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match Message::from_vec(&buffer[..length]) {
            // Somebody else's answer, or a forged one.
            Ok(answer) if answer.metadata.id != id || answer.queries != query.queries => {}
            Ok(answer) if answer.metadata.truncation => break,
            Ok(answer) => return Ok(answer),
            Err(error) => return Err(std::io::Error::other(error)),
        }
    }
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Message::from_vec(&answer).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_of_a_resolv_conf() {
        let text = "search a b\n# nameserver 9.9.9.9\nnameserver 192.0.2.1\nnameserver\t2001:db8::1 \nnameserver 10.96.0.10\noptions ndots:1\n";
        let found = name_servers(text, &["10.96.0.10".parse().unwrap()]);
        assert_eq!(found, ["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()]);
    }
}
