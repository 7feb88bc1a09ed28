//! Container logs in the CRI's format: `<time> <stream> <F|P> <content>`.
//!
//! containerd internal/cri/io/logger.go: a line longer than 16 KiB is cut into parts tagged `P`, and so is a last line
//! that ends without a newline.

use std::io::Write as _;

/// The longest content of one log line.
pub const LINE_BYTES_MAX: usize = 16 * 1024;

/// One stream of a container on its way into the log.
pub struct LineWriter {
    stream: &'static str,
    pending: Vec<u8>,
}

impl LineWriter {
    pub fn new(stream: &'static str) -> Self {
        Self { stream, pending: Vec::new() }
    }

    /// Takes bytes as the container wrote them and appends every finished line to `out`.
    pub fn push(&mut self, mut data: &[u8], time: &str, out: &mut Vec<u8>) {
        while !data.is_empty() {
            let room = LINE_BYTES_MAX - self.pending.len();
            let newline = data.iter().take(room + 1).position(|&b| b == b'\n');
            match newline {
                Some(at) => {
                    self.emit(b'F', &data[..at], time, out);
                    data = &data[at + 1..];
                }
                None if data.len() > room => {
                    self.emit(b'P', &data[..room], time, out);
                    data = &data[room..];
                }
                None => {
                    self.pending.extend_from_slice(data);
                    return;
                }
            }
        }
    }

    /// The stream has ended: what is left is a line without its newline.
    pub fn finish(&mut self, time: &str, out: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            self.emit(b'P', &[], time, out);
        }
    }

    fn emit(&mut self, tag: u8, rest: &[u8], time: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(time.as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.stream.as_bytes());
        out.extend_from_slice(&[b' ', tag, b' ']);
        out.extend_from_slice(&self.pending);
        out.extend_from_slice(rest);
        out.push(b'\n');
        self.pending.clear();
        self.pending.shrink_to(1024);
    }
}

/// A moment as RFC 3339 with nanoseconds, in UTC.
pub fn rfc3339_nano(seconds: i64, nanoseconds: u32) -> String {
    let days = seconds.div_euclid(86_400);
    let second_of_day = seconds.rem_euclid(86_400);
    // Civil date of a day number: the calendar repeats every 400 years (146,097 days), counted here from 1 March 0000.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let mut text = Vec::with_capacity(32);
    // Writing into a vector cannot fail.
    let _written = write!(
        text,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{nanoseconds:09}Z",
        second_of_day / 3600,
        second_of_day / 60 % 60,
        second_of_day % 60,
    );
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> String {
        let mut writer = LineWriter::new("stdout");
        let mut out = Vec::new();
        for chunk in chunks {
            writer.push(chunk, "T", &mut out);
        }
        writer.finish("T", &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_joined_over_reads_and_a_last_one_is_partial() {
        assert_eq!(lines(&[b"a", b"b\nc\n", b"\nrest"]), "T stdout F ab\nT stdout F c\nT stdout F \nT stdout P rest\n");
    }

    #[test]
    fn long_lines_are_cut_at_16_kib() {
        let long = vec![b'x'; LINE_BYTES_MAX + 3];
        let text = lines(&[&long, b"\n"]);
        let parts: Vec<(&str, usize)> = text.lines().map(|l| (&l[..10], l.len() - 11)).collect();
        assert_eq!(parts, [("T stdout P", LINE_BYTES_MAX), ("T stdout F", 3)]);
        let exact = vec![b'x'; LINE_BYTES_MAX];
        let text = lines(&[&exact, b"\n"]);
        assert_eq!(text.lines().count(), 1);
        assert!(text.starts_with("T stdout F x"));
    }

    #[test]
    fn times_are_utc_with_nine_digits() {
        assert_eq!(rfc3339_nano(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339_nano(1_709_164_799, 5), "2024-02-28T23:59:59.000000005Z");
        assert_eq!(rfc3339_nano(1_709_164_800, 120), "2024-02-29T00:00:00.000000120Z");
        assert_eq!(rfc3339_nano(4_102_444_799, 999_999_999), "2099-12-31T23:59:59.999999999Z");
    }
}
