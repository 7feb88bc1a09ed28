//! The programs inside the built-in image: a small POSIX shell, the everyday commands that a person or a probe reaches
//! for in a container, a demo web server, and the pause process. All are one binary under many names, as in busybox.
//!
//! It knows nothing of Kubernetes and depends on no other crate of the workspace. The image's root file system holds the
//! binary once, as [`BINARY`], and a link for each name in [`applets::APPLETS`]. Start reading at [`run`].

pub mod applets;
pub mod shell;

/// Where the binary stands in the image.
pub const BINARY: &str = "/windlass";

/// Runs the applet that the program was started as (`/bin/cat` runs `cat`), or `None` when the name is no applet.
pub fn run(arguments: &[String]) -> Option<i32> {
    let (name, arguments) = arguments.split_first()?;
    let name = name.rsplit('/').next().unwrap_or(name).trim_start_matches('-');
    let applet = applets::APPLETS.iter().find(|applet| applet.name == name)?;
    Some((applet.run)(&Call { name, arguments }))
}

/// One invocation of an applet.
pub struct Call<'a> {
    pub name: &'a str,
    pub arguments: &'a [String],
}

impl Call<'_> {
    /// Prints `name: message` to standard error and gives the exit code 1.
    pub fn fail(&self, message: impl std::fmt::Display) -> i32 {
        eprintln!("{}: {message}", self.name);
        1
    }

    /// Splits `-abc value` style arguments: single-letter flags, of which those in `with_value` take the rest of their
    /// word or the next word; the first word that is no flag, or `--`, ends them.
    pub fn parse(&self, flags: &str, with_value: &str) -> Result<Parsed<'_>, i32> {
        let mut parsed = Parsed::default();
        let mut words = self.arguments.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            }
            let Some(letters) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
                parsed.operands.push(word);
                break;
            };
            for (at, letter) in letters.char_indices() {
                if with_value.contains(letter) {
                    let rest = &letters[at + letter.len_utf8()..];
                    let value = if rest.is_empty() { words.next().map(String::as_str) } else { Some(rest) };
                    let Some(value) = value else {
                        return Err(self.fail(format_args!("option requires an argument -- '{letter}'")));
                    };
                    parsed.values.push((letter, value));
                    break;
                }
                if !flags.contains(letter) {
                    return Err(self.fail(format_args!("unrecognized option '-{letter}'")));
                }
                parsed.flags.push(letter);
            }
        }
        parsed.operands.extend(words.map(String::as_str));
        Ok(parsed)
    }
}

/// Arguments after [`Call::parse`].
#[derive(Default)]
pub struct Parsed<'a> {
    flags: Vec<char>,
    values: Vec<(char, &'a str)>,
    pub operands: Vec<&'a str>,
}

impl<'a> Parsed<'a> {
    pub fn has(&self, flag: char) -> bool {
        self.flags.contains(&flag)
    }

    pub fn value(&self, flag: char) -> Option<&'a str> {
        self.values.iter().rev().find(|(letter, _)| *letter == flag).map(|(_, value)| *value)
    }
}

/// The system's words for an error, without the number that Rust adds.
pub(crate) fn shell_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
