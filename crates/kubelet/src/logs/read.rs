//! Reading a container's log as a user asked for it: from where, how much, and on as it grows.
//!
//! kubernetes/kubernetes staging cri-client pkg/logs: the meaning of each option.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc::Sender;

use super::{Line, parse};
use crate::watch::{Watch, WatchFlags};

/// How often a reader that follows looks whether the container still runs: its end changes no file.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const BLOCK_BYTES: usize = 32 << 10;

/// What a user wants of a log.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) follow: bool,
    pub(crate) tail_lines: Option<u64>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) timestamps: bool,
    pub(crate) limit_bytes: Option<usize>,
    /// `stdout` or `stderr`; both without.
    pub(crate) stream: Option<String>,
}

/// Sends the log to `to` until its end, or with `follow` until the container's.
///
/// # Errors
/// The file cannot be read. A reader that went away is no error.
pub(crate) async fn send(
    log: PathBuf,
    wanted: Wanted,
    to: Sender<Result<Bytes, io::Error>>,
    runs: impl Fn() -> bool + Send + 'static,
) -> io::Result<()> {
    let mut reader = Reader::open(&log, &wanted)?;
    let watch = wanted.follow.then(|| watch(&log)).transpose()?;
    loop {
        // Asked before reading: what was written before the end must be read after it.
        let running = wanted.follow && runs();
        while let Some(bytes) = reader.next()? {
            if !bytes.is_empty() && to.send(Ok(bytes)).await.is_err() {
                return Ok(());
            }
            if reader.is_exhausted() {
                return Ok(());
            }
        }
        match &watch {
            _ if reader.follow_rotation(&log)? => {}
            Some(watch) if running => {
                tokio::select! {
                    changed = watch.changed() => changed?,
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    () = to.closed() => return Ok(()),
                }
            }
            _ => return Ok(()),
        }
    }
}

/// Tells of changes in the directory of a log.
fn watch(log: &Path) -> io::Result<Watch> {
    let dir = log.parent().unwrap_or(Path::new("/"));
    Watch::new(dir, WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO)
}

/// A log file from some place on, with what is left of a line that has not ended.
struct Reader {
    file: File,
    inode: u64,
    pending: Vec<u8>,
    wanted: Wanted,
    left: Option<usize>,
    /// How many lines may still be read: what is written after the last ones were counted is not among them, unless they
    /// are followed.
    lines_left: Option<u64>,
    /// The last line that was written ended; the next one gets its time.
    at_line_start: bool,
}

impl Reader {
    fn open(log: &Path, wanted: &Wanted) -> io::Result<Reader> {
        let mut file = File::open(log)?;
        if let Some(lines) = wanted.tail_lines {
            let start = super::tail::offset(&mut file, lines)?;
            file.seek(SeekFrom::Start(start))?;
        }
        let inode = file.metadata()?.ino();
        let left = wanted.limit_bytes;
        let lines_left = wanted.tail_lines.filter(|_| !wanted.follow);
        Ok(Reader { file, inode, pending: Vec::new(), wanted: wanted.clone(), left, lines_left, at_line_start: true })
    }

    fn is_exhausted(&self) -> bool {
        self.left == Some(0) || self.lines_left == Some(0)
    }

    /// The next piece of output, perhaps empty; `None` at the end of the file.
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut block = vec![0u8; BLOCK_BYTES];
        let read = self.file.read(&mut block)?;
        if read == 0 {
            return Ok(None);
        }
        self.pending.extend_from_slice(&block[..read]);
        let Some(end) = self.pending.iter().rposition(|byte| *byte == b'\n') else { return Ok(Some(Bytes::new())) };
        let rest = self.pending.split_off(end + 1);
        let lines = std::mem::replace(&mut self.pending, rest);
        let mut out = Vec::with_capacity(lines.len());
        let readable = self.lines_left.map_or(usize::MAX, |lines| usize::try_from(lines).unwrap_or(usize::MAX));
        for line in lines.split(|byte| *byte == b'\n').filter_map(parse).take(readable) {
            self.put(&line, &mut out);
            self.lines_left = self.lines_left.map(|lines| lines - 1);
        }
        if let Some(left) = &mut self.left {
            out.truncate(*left);
            *left -= out.len();
        }
        Ok(Some(out.into()))
    }

    fn put(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        let of_stream = self.wanted.stream.as_ref().is_none_or(|stream| stream.as_bytes() == line.stream);
        let time = || std::str::from_utf8(line.time).ok()?.parse::<Timestamp>().ok();
        let late_enough = self.wanted.since.is_none_or(|since| time().is_some_and(|time| time >= since));
        if !of_stream || !late_enough {
            return;
        }
        if self.wanted.timestamps && self.at_line_start {
            out.extend_from_slice(line.time);
            out.push(b' ');
        }
        out.extend_from_slice(line.text);
        if !line.partial {
            out.push(b'\n');
        }
        self.at_line_start = !line.partial;
    }

    /// Goes on with the new file when the log has been rotated.
    fn follow_rotation(&mut self, log: &Path) -> io::Result<bool> {
        if !self.wanted.follow {
            return Ok(false);
        }
        let Ok(file) = File::open(log) else { return Ok(false) };
        let inode = file.metadata()?.ino();
        if inode == self.inode {
            return Ok(false);
        }
        self.file = file;
        self.inode = inode;
        self.pending.clear();
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    struct Log(PathBuf);

    impl Log {
        fn new(name: &str, lines: &str) -> Log {
            let dir = std::env::temp_dir().join(format!("windlass-log-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("0.log"), lines).unwrap();
            Log(dir.join("0.log"))
        }
    }

    impl Drop for Log {
        fn drop(&mut self) {
            std::fs::remove_dir_all(self.0.parent().unwrap()).unwrap();
        }
    }

    async fn read(log: &Log, wanted: Wanted) -> String {
        let (to, mut from) = tokio::sync::mpsc::channel(16);
        send(log.0.clone(), wanted, to, || false).await.unwrap();
        let mut out = Vec::new();
        while let Some(bytes) = from.recv().await {
            out.extend_from_slice(&bytes.unwrap());
        }
        String::from_utf8(out).unwrap()
    }

    const LINES: &str = "2026-11-22T19:00:00.5Z stdout F one\n2026-11-22T19:00:01Z stderr F two\n\
                         2026-11-22T19:00:02Z stdout P thr\n2026-11-22T19:00:03Z stdout F ee\n";

    #[tokio::test]
    async fn every_option_has_its_meaning() {
        let log = Log::new("options", LINES);
        let none = Wanted::default;
        assert_eq!(read(&log, none()).await, "one\ntwo\nthree\n");
        assert_eq!(read(&log, Wanted { tail_lines: Some(1), ..none() }).await, "ee\n");
        assert_eq!(read(&log, Wanted { stream: Some("stderr".into()), ..none() }).await, "two\n");
        assert_eq!(read(&log, Wanted { limit_bytes: Some(5), ..none() }).await, "one\nt");
        let since = Some("2026-11-22T19:00:01Z".parse().unwrap());
        assert_eq!(read(&log, Wanted { since, ..none() }).await, "two\nthree\n");
        let timed = read(&log, Wanted { timestamps: true, ..none() }).await;
        assert_eq!(timed.lines().last().unwrap(), "2026-11-22T19:00:02Z three");
    }

    #[test]
    fn what_is_written_after_the_last_lines_were_found_is_not_among_them() {
        let opened = |follow, lines| {
            let log = Log::new("tail", LINES);
            let wanted = Wanted { tail_lines: Some(lines), follow, ..Wanted::default() };
            let mut reader = Reader::open(&log.0, &wanted).unwrap();
            let mut file = File::options().append(true).open(&log.0).unwrap();
            file.write_all(b"2026-11-22T19:00:04Z stdout F late\n").unwrap();
            (reader.next().unwrap().unwrap(), reader.is_exhausted())
        };
        assert_eq!(opened(false, 1), ("ee\n".into(), true));
        assert_eq!(opened(false, 0), ("".into(), true));
        assert_eq!(opened(true, 1), ("ee\nlate\n".into(), false));
    }

    #[tokio::test]
    async fn following_goes_across_a_rotation_to_the_containers_end() {
        let log = Log::new("follow", "2026-11-22T19:00:00Z stdout F one\n");
        let running = Arc::new(AtomicBool::new(true));
        let (to, mut from) = tokio::sync::mpsc::channel(16);
        let runs = Arc::clone(&running);
        let wanted = Wanted { follow: true, ..Wanted::default() };
        let task = tokio::spawn(send(log.0.clone(), wanted, to, move || runs.load(Ordering::SeqCst)));
        assert_eq!(from.recv().await.unwrap().unwrap(), "one\n");
        let mut file = File::options().append(true).open(&log.0).unwrap();
        file.write_all(b"2026-11-22T19:00:01Z stdout F two\n").unwrap();
        assert_eq!(from.recv().await.unwrap().unwrap(), "two\n");
        std::fs::rename(&log.0, log.0.with_extension("log.1")).unwrap();
        std::fs::write(&log.0, "2026-11-22T19:00:02Z stdout F three\n").unwrap();
        assert_eq!(from.recv().await.unwrap().unwrap(), "three\n");
        running.store(false, Ordering::SeqCst);
        assert!(from.recv().await.is_none());
        task.await.unwrap().unwrap();
    }
}
