//! Commands on the network: `wget`, `nc`, `nslookup`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::{Call, shell_words};

/// `wget [-q] [-O FILE] [-T SECONDS] [-S] URL`, plain HTTP, redirects followed.
pub fn wget(call: &Call) -> i32 {
    let parsed = match call.parse("qSs", "OTt") {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    let Some(url) = parsed.operands.first() else { return call.fail("usage: wget [-q] [-O FILE] URL") };
    let seconds = parsed.value('T').and_then(|t| t.parse().ok()).unwrap_or(30);
    let fetched = fetch(url, Duration::from_secs(seconds), 5);
    let (status, body) = match fetched {
        Ok(answer) => answer,
        Err(error) => return call.fail(format_args!("can't get {url}: {}", shell_words(&error))),
    };
    if !status.contains(" 2") {
        return call.fail(format_args!("server returned error: {status}"));
    }
    let name =
        url.rsplit('/').next().filter(|n| !n.is_empty() && !url.ends_with(&format!("//{n}"))).unwrap_or("index.html");
    let written = match parsed.value('O') {
        Some("-") => io::stdout().write_all(&body),
        Some(file) => std::fs::write(file, &body),
        None => std::fs::write(name, &body),
    };
    match written {
        Ok(()) => 0,
        Err(error) => call.fail(shell_words(&error)),
    }
}

fn fetch(url: &str, limit: Duration, redirects: u32) -> io::Result<(String, Vec<u8>)> {
    let wrong = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
    let rest = url.strip_prefix("http://").unwrap_or(url);
    if rest.starts_with("https://") {
        return Err(wrong("only http is supported".to_owned()));
    }
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let address = if host.rsplit(']').next().is_some_and(|tail| tail.contains(':')) {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let stream = connect(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    write!(
        &stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: windlass-wget\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )?;
    let mut reader = BufReader::new(stream);
    let mut status = String::new();
    reader.read_line(&mut status)?;
    let (mut location, mut chunked, mut length) = (None, false, None);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.trim().split_once(':').unwrap_or((line.trim(), ""));
        match name.to_ascii_lowercase().as_str() {
            "location" => location = Some(value.trim().to_owned()),
            "transfer-encoding" => chunked = value.contains("chunked"),
            "content-length" => length = value.trim().parse::<u64>().ok(),
            _ => {}
        }
    }
    if let (Some(target), true) = (location, status.contains(" 3")) {
        if redirects == 0 {
            return Err(wrong("too many redirects".to_owned()));
        }
        let target = if target.starts_with('/') { format!("http://{host}{target}") } else { target };
        return fetch(&target, limit, redirects - 1);
    }
    let mut body = Vec::new();
    if chunked {
        read_chunks(&mut reader, &mut body)?;
    } else if let Some(length) = length {
        let got = reader.take(length).read_to_end(&mut body)?;
        if got as u64 != length {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
    } else {
        reader.read_to_end(&mut body)?;
    }
    Ok((status.trim().to_owned(), body))
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let mut size = String::new();
        reader.read_line(&mut size)?;
        let digits = size.trim().split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(digits, 16).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        reader.take(size).read_to_end(body)?;
        let mut end = String::new();
        reader.read_line(&mut end)?;
        if size == 0 {
            return Ok(());
        }
    }
}

fn connect(address: &str, limit: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, limit) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// `nc [-z] [-w SECONDS] HOST PORT` and `nc -l -p PORT`.
pub fn nc(call: &Call) -> i32 {
    let parsed = match call.parse("lzvnk", "wp") {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    let limit = Duration::from_secs(parsed.value('w').and_then(|w| w.parse().ok()).unwrap_or(30));
    let opened = if parsed.has('l') {
        let port = parsed.value('p').or(parsed.operands.last().copied()).unwrap_or("0");
        TcpListener::bind(format!("0.0.0.0:{port}")).and_then(|listener| listener.accept()).map(|(stream, _)| stream)
    } else {
        let [host, port] = parsed.operands.as_slice() else {
            return call.fail("usage: nc [-z] [-w SECONDS] HOST PORT");
        };
        connect(&format!("{host}:{port}"), limit)
    };
    let stream = match opened {
        Ok(stream) => stream,
        Err(error) => return call.fail(shell_words(&error)),
    };
    if parsed.has('z') {
        return 0;
    }
    match talk(&stream) {
        Ok(()) => 0,
        Err(error) => call.fail(shell_words(&error)),
    }
}

fn talk(stream: &TcpStream) -> io::Result<()> {
    let mut out = stream.try_clone()?;
    std::thread::spawn(move || {
        // The other side may close first; that ends the sending and is no error.
        if io::copy(&mut io::stdin(), &mut out).is_ok() {
            out.shutdown(Shutdown::Write).ok();
        }
    });
    let mut input = stream;
    io::copy(&mut input, &mut io::stdout())?;
    io::stdout().flush()
}

/// `nslookup NAME`, by the resolver that every program in the container uses.
pub fn nslookup(call: &Call) -> i32 {
    let Some(name) = call.arguments.iter().find(|a| !a.starts_with('-')) else {
        return call.fail("usage: nslookup NAME");
    };
    let resolv = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let server = resolv.lines().find_map(|line| line.strip_prefix("nameserver "));
    println!("Server:\t\t{}\n", server.unwrap_or("-").trim());
    match (name.as_str(), 0).to_socket_addrs() {
        Ok(addresses) => {
            let mut shown = Vec::new();
            for address in addresses.map(|a| a.ip()) {
                if !shown.contains(&address) {
                    println!("Name:\t{name}\nAddress: {address}");
                    shown.push(address);
                }
            }
            0
        }
        Err(error) => call.fail(format_args!("can't resolve '{name}': {}", shell_words(&error))),
    }
}
