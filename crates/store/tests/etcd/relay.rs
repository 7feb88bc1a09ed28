//! A way to an etcd that breaks when it is told to.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Carries bytes between clients and a port of this host.
pub struct Relay {
    pub port: u16,
    state: Arc<State>,
}

struct State {
    to: u16,
    /// Counts up whenever every connection is to break.
    cuts: watch::Sender<u64>,
    /// Of so many connections, the first ones, what comes from the server goes nowhere.
    mute: AtomicUsize,
    connections: AtomicUsize,
    ended: watch::Sender<usize>,
    /// The first connections break after so many bytes from the server.
    budgets: Vec<usize>,
}

impl Relay {
    pub async fn to(port: u16) -> Relay {
        Self::with_budgets(port, Vec::new()).await
    }

    pub async fn with_budgets(to: u16, budgets: Vec<usize>) -> Relay {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            to,
            cuts: watch::Sender::new(0),
            mute: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            ended: watch::Sender::new(0),
            budgets,
        });
        let accepting = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&accepting);
                tokio::spawn(async move {
                    carry(&state, client).await;
                    state.ended.send_modify(|ended| *ended += 1);
                });
            }
        });
        Relay { port, state }
    }

    /// Breaks every connection there is.
    pub fn cut(&self) {
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Returns when as many have ended as there had been.
    pub async fn cut_off(&self) {
        let begun = self.connections();
        self.cut();
        self.state.ended.subscribe().wait_for(|ended| *ended >= begun).await.unwrap();
    }

    /// Silences the server on the connections there are.
    pub fn mute(&self) {
        self.state.mute.store(self.connections(), Ordering::SeqCst);
    }

    /// How many there have been.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

async fn carry(state: &State, client: TcpStream) {
    let number = state.connections.fetch_add(1, Ordering::SeqCst);
    let mut budget = state.budgets.get(number).copied().unwrap_or(usize::MAX);
    let mut cuts = state.cuts.subscribe();
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, state.to)).await.unwrap();
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let up = async { tokio::io::copy(&mut from_client, &mut to_server).await };
    let down = async {
        let mut buffer = vec![0; 16 << 10];
        while budget > 0 {
            let room = budget.min(buffer.len());
            let Ok(read @ 1..) = from_server.read(&mut buffer[..room]).await else { return };
            budget -= read;
            if number >= state.mute.load(Ordering::SeqCst) && to_client.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    // Whatever ends first takes the rest along.
    tokio::select! {
        _ = up => {}
        () = down => {}
        _ = cuts.changed() => {}
    }
}
