//! Container logs on disk, in the CRI's format: a line is `<time> <stream> <P|F> <text>`.

pub(crate) mod read;
pub(crate) mod rotate;
pub(crate) mod tail;

use std::path::{Path, PathBuf};

/// One line of a log file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line<'a> {
    pub(crate) time: &'a [u8],
    pub(crate) stream: &'a [u8],
    /// The writer broke the line here; the rest follows.
    pub(crate) partial: bool,
    pub(crate) text: &'a [u8],
}

/// Reads a line without its newline; `None` for what is not a log line.
pub(crate) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (time, stream, tag) = (parts.next()?, parts.next()?, parts.next()?);
    let partial = tag.split(|byte| *byte == b':').next() == Some(b"P");
    Some(Line { time, stream, partial, text: parts.next().unwrap_or_default() })
}

/// Rotated files of a log, oldest first, without the one that is written: `0.log.20261122-190512`, perhaps `.gz`.
pub(crate) fn rotated(log: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (log.parent(), log.file_name()) else { return Vec::new() };
    let prefix = format!("{}.", name.to_string_lossy());
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let files = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    let mut out: Vec<PathBuf> = files.map(|entry| entry.path()).collect();
    out.sort();
    out
}

/// Removes the logs of an attempt, rotated ones too. `dir` is the container's.
pub(crate) fn remove(dir: &Path, attempt: u32) {
    let log = dir.join(format!("{attempt}.log"));
    for file in rotated(&log).into_iter().chain([log]) {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::debug!(%error, file = %file.display(), "old log not removed");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_four_parts() {
        let line = parse(b"2026-11-22T19:05:12.000000001Z stdout F hello  world").unwrap();
        assert_eq!((line.stream, line.partial, line.text), (&b"stdout"[..], false, &b"hello  world"[..]));
        assert!(parse(b"2026-11-22T19:05:12Z stderr P half").unwrap().partial);
        assert_eq!(parse(b"2026-11-22T19:05:12Z stderr F ").unwrap().text, b"");
        assert_eq!(parse(b"torn"), None);
    }
}
