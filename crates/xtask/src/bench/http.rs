//! The smallest HTTP client that can measure: one request a connection, in plain text, to `kubectl proxy`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// HTTP/1.0, so that the answer ends with the connection and a watch comes without chunks.
fn send(server: SocketAddr, method: &str, path: &str, body: &str) -> Result<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut status = String::new();
    reader.read_line(&mut status)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    if status.split(' ').nth(1).is_none_or(|code| !code.starts_with('2')) {
        let mut text = String::new();
        reader.read_to_string(&mut text)?;
        bail!("{method} {path}: {} {text}", status.trim());
    }
    Ok(reader)
}

/// One request and its whole answer.
pub fn call(server: SocketAddr, method: &str, path: &str, body: &str) -> Result<Value> {
    serde_json::from_reader(send(server, method, path, body)?).with_context(|| format!("{method} {path}"))
}

/// An answer that is no JSON.
pub fn text(server: SocketAddr, path: &str) -> Result<String> {
    let mut text = String::new();
    send(server, "GET", path, "")?.read_to_string(&mut text)?;
    Ok(text)
}

/// A watch's events, each as it comes.
pub fn watch(server: SocketAddr, path: &str) -> Result<impl Iterator<Item = Result<Value>> + use<>> {
    let lines = send(server, "GET", path, "")?.lines();
    Ok(lines.map(|line| Ok(serde_json::from_str(&line?)?)))
}
