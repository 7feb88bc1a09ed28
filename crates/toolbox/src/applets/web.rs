//! The demo web server: says which pod answered, and serves files when a directory is given.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::{Call, shell_words};

/// `web [-p PORT] [-m MESSAGE] [-d DIRECTORY]`; the port is 8080 unless told.
pub fn main(call: &Call) -> i32 {
    let parsed = match call.parse("", "pmd") {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    let port = parsed.value('p').unwrap_or("8080");
    let listener =
        match TcpListener::bind(format!("[::]:{port}")).or_else(|_| TcpListener::bind(format!("0.0.0.0:{port}"))) {
            Ok(listener) => listener,
            Err(error) => return call.fail(format_args!("cannot listen on port {port}: {}", shell_words(&error))),
        };
    let site = Site {
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        message: parsed.value('m').unwrap_or("Hello from Windlass").to_owned(),
        directory: parsed.value('d').map(PathBuf::from),
    };
    let mut signals = match signal_hook::iterator::Signals::new([SIGINT, SIGTERM]) {
        Ok(signals) => signals,
        Err(error) => return call.fail(error),
    };
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            println!("signal {signal}: bye");
            std::process::exit(0);
        }
    });
    println!("serving on port {port}");
    let site = std::sync::Arc::new(site);
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let site = std::sync::Arc::clone(&site);
        std::thread::spawn(move || {
            if let Err(error) = site.serve(&stream)
                && error.kind() != io::ErrorKind::UnexpectedEof
            {
                eprintln!("web: {}", shell_words(&error));
            }
        });
    }
    0
}

struct Site {
    host: String,
    message: String,
    directory: Option<PathBuf>,
}

impl Site {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut reader = BufReader::new(stream);
        loop {
            let mut request = String::new();
            if reader.read_line(&mut request)? == 0 {
                return Ok(());
            }
            let mut close = request.trim_end().ends_with("HTTP/1.0");
            loop {
                let mut header = String::new();
                if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
                    break;
                }
                close |= header.to_ascii_lowercase().starts_with("connection: close");
            }
            let path = request.split_whitespace().nth(1).unwrap_or("/");
            let path = path.split('?').next().unwrap_or("/");
            let (status, body) = self.answer(path, stream);
            println!("{} {path} {status}", request.split_whitespace().next().unwrap_or("?"));
            let mut out = stream;
            write!(
                out,
                "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{}\r\n",
                body.len(),
                if close { "Connection: close\r\n" } else { "" }
            )?;
            out.write_all(&body)?;
            if close {
                return Ok(());
            }
        }
    }

    fn answer(&self, path: &str, stream: &TcpStream) -> (&'static str, Vec<u8>) {
        match (path, &self.directory) {
            ("/healthz", _) => ("200 OK", b"ok".to_vec()),
            ("/hostname", _) => ("200 OK", self.host.clone().into_bytes()),
            ("/clientip", _) => ("200 OK", stream.peer_addr().map(|a| a.to_string()).unwrap_or_default().into_bytes()),
            (path, Some(directory)) => match inside(directory, path).map(std::fs::read) {
                Some(Ok(content)) => ("200 OK", content),
                _ => ("404 Not Found", b"not found\n".to_vec()),
            },
            ("/", None) => ("200 OK", format!("{}, pod {}\n", self.message, self.host).into_bytes()),
            _ => ("404 Not Found", b"not found\n".to_vec()),
        }
    }
}

/// The file that a request names, unless the name leads out of the directory.
fn inside(directory: &Path, path: &str) -> Option<PathBuf> {
    let relative = Path::new(path.trim_start_matches('/'));
    let plain = relative.components().all(|c| matches!(c, Component::Normal(_)));
    let file = directory.join(relative);
    plain.then(|| if file.is_dir() { file.join("index.html") } else { file })
}
