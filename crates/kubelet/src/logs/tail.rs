//! The end of a log.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::parse;

/// How much of the file's end is looked at for a few lines of text.
const WINDOW_BYTES: u64 = 64 << 10;

/// The text of the last `lines` lines, at most `bytes` of it. Empty when there is no log.
pub(crate) fn text(log: &Path, lines: usize, bytes: usize) -> String {
    let Ok(raw) = crate::files::read_tail(log, WINDOW_BYTES) else { return String::new() };
    let mut out: Vec<u8> = Vec::new();
    let all: Vec<&[u8]> = raw.split(|byte| *byte == b'\n').collect();
    let parsed: Vec<_> = all.iter().filter_map(|line| parse(line)).collect();
    for line in &parsed[parsed.len().saturating_sub(lines)..] {
        out.extend_from_slice(line.text);
        if !line.partial {
            out.push(b'\n');
        }
    }
    let kept = &out[out.len().saturating_sub(bytes)..];
    String::from_utf8_lossy(kept).into_owned()
}

/// Where the last `lines` lines of a file begin.
pub(crate) fn offset(file: &mut File, lines: u64) -> std::io::Result<u64> {
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok(length);
    }
    let mut left = lines;
    let mut end = length;
    let mut block = vec![0u8; 8 << 10];
    // The newline at the very end closes the last line rather than beginning another.
    let mut skip_last = true;
    while end > 0 {
        let size = end.min(block.len() as u64);
        let start = end - size;
        file.seek(SeekFrom::Start(start))?;
        let part = &mut block[..size as usize];
        file.read_exact(part)?;
        for (index, byte) in part.iter().enumerate().rev() {
            if *byte != b'\n' {
                skip_last = false;
                continue;
            }
            if std::mem::take(&mut skip_last) {
                continue;
            }
            left -= 1;
            if left == 0 {
                return Ok(start + index as u64 + 1);
            }
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_and_where_they_begin() {
        let path = std::env::temp_dir().join(format!("windlass-tail-{}.log", std::process::id()));
        let line = |n: u32| format!("2026-11-22T19:05:12Z stdout F line {n}\n");
        std::fs::write(&path, (0..1000).map(line).collect::<String>()).unwrap();
        assert_eq!(text(&path, 2, 100), "line 998\nline 999\n");
        assert_eq!(text(&path, 2, 4), "999\n");
        let mut file = File::open(&path).unwrap();
        let length = file.metadata().unwrap().len();
        assert_eq!(offset(&mut file, 1).unwrap(), length - line(999).len() as u64);
        assert_eq!(offset(&mut file, 5000).unwrap(), 0);
        assert_eq!(offset(&mut file, 0).unwrap(), length);
        std::fs::remove_file(path).unwrap();
    }
}
