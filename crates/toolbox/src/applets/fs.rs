//! Commands on files: `cat`, `ls`, `mkdir`, `rm`, `cp`, `mv`, `ln`, `touch`, `chmod`, `stat`, `readlink`.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::{Call, Parsed, shell_words};

/// Runs an action on each operand; a failure is printed and the others go on.
fn each(call: &Call, parsed: &Parsed, mut act: impl FnMut(&Path) -> io::Result<()>) -> i32 {
    if parsed.operands.is_empty() {
        return call.fail("missing operand");
    }
    let mut code = 0;
    for operand in &parsed.operands {
        if let Err(error) = act(Path::new(operand)) {
            code = call.fail(format_args!("{operand}: {}", shell_words(&error)));
        }
    }
    code
}

macro_rules! parse {
    ($call:expr, $flags:expr, $values:expr) => {
        match $call.parse($flags, $values) {
            Ok(parsed) => parsed,
            Err(code) => return code,
        }
    };
}

pub fn cat(call: &Call) -> i32 {
    let mut parsed = parse!(call, "u", "");
    if parsed.operands.is_empty() {
        parsed.operands.push("-");
    }
    let mut out = io::stdout().lock();
    each(call, &parsed, |path| {
        if path == Path::new("-") {
            io::copy(&mut io::stdin().lock(), &mut out)?;
        } else {
            io::copy(&mut File::open(path)?, &mut out)?;
        }
        out.flush()
    })
}

pub fn ls(call: &Call) -> i32 {
    let mut parsed = parse!(call, "la1dhRni", "");
    if parsed.operands.is_empty() {
        parsed.operands.push(".");
    }
    let many = parsed.operands.len() > 1;
    each(call, &parsed, |path| {
        let metadata = fs::symlink_metadata(path)?;
        if !metadata.is_dir() || parsed.has('d') {
            return line(&parsed, path, &path.display().to_string(), &metadata);
        }
        if many {
            println!("{}:", path.display());
        }
        let mut names: Vec<String> = fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<_>>()?;
        names.retain(|name| parsed.has('a') || !name.starts_with('.'));
        names.sort();
        for name in names {
            let child = path.join(&name);
            line(&parsed, &child, &name, &fs::symlink_metadata(&child)?)?;
        }
        Ok(())
    })
}

fn line(parsed: &Parsed, path: &Path, name: &str, metadata: &Metadata) -> io::Result<()> {
    if !parsed.has('l') {
        return writeln!(io::stdout(), "{name}");
    }
    let modified = jiff::Timestamp::from_second(metadata.mtime()).unwrap_or_default();
    let time = modified.strftime("%b %e %H:%M %Y");
    let target = if metadata.is_symlink() { format!(" -> {}", fs::read_link(path)?.display()) } else { String::new() };
    writeln!(
        io::stdout(),
        "{} {:>4} {:>5} {:>5} {:>9} {time} {name}{target}",
        mode_text(metadata),
        metadata.nlink(),
        metadata.uid(),
        metadata.gid(),
        metadata.len()
    )
}

fn mode_text(metadata: &Metadata) -> String {
    let kind = metadata.file_type();
    let first = match () {
        () if kind.is_dir() => 'd',
        () if kind.is_symlink() => 'l',
        () if kind.is_char_device() => 'c',
        () if kind.is_block_device() => 'b',
        () if kind.is_fifo() => 'p',
        () if kind.is_socket() => 's',
        () => '-',
    };
    let mode = metadata.mode();
    let mut text = String::from(first);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

pub fn mkdir(call: &Call) -> i32 {
    let parsed = parse!(call, "p", "m");
    each(call, &parsed, |path| if parsed.has('p') { fs::create_dir_all(path) } else { fs::create_dir(path) })
}

pub fn rmdir(call: &Call) -> i32 {
    let parsed = parse!(call, "p", "");
    each(call, &parsed, |path| fs::remove_dir(path))
}

pub fn rm(call: &Call) -> i32 {
    let parsed = parse!(call, "rRf", "");
    if parsed.operands.is_empty() && parsed.has('f') {
        return 0;
    }
    let recursive = parsed.has('r') || parsed.has('R');
    each(call, &parsed, |path| {
        let removed = fs::symlink_metadata(path).and_then(|metadata| match metadata.is_dir() {
            true if recursive => fs::remove_dir_all(path),
            true => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            false => fs::remove_file(path),
        });
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound && parsed.has('f') => Ok(()),
            other => other,
        }
    })
}

pub fn touch(call: &Call) -> i32 {
    let parsed = parse!(call, "cam", "drt");
    each(call, &parsed, |path| {
        let file = fs::OpenOptions::new().create(!parsed.has('c')).append(true).open(path)?;
        file.set_modified(std::time::SystemTime::now())
    })
}

/// The place that `mv`, `cp` or `ln` writes: inside the target when that is a directory.
fn destination(target: &Path, source: &Path) -> PathBuf {
    match (target.is_dir(), source.file_name()) {
        (true, Some(name)) => target.join(name),
        _ => target.to_owned(),
    }
}

/// Splits off the last operand and runs the action for each of the others towards it.
fn towards(call: &Call, parsed: &mut Parsed, mut act: impl FnMut(&Path, &Path) -> io::Result<()>) -> i32 {
    if parsed.operands.len() < 2 {
        return call.fail("missing operand");
    }
    let target = PathBuf::from(parsed.operands.pop().unwrap_or_default());
    each(call, parsed, |source| act(source, &destination(&target, source)))
}

pub fn mv(call: &Call) -> i32 {
    let mut parsed = parse!(call, "f", "");
    towards(call, &mut parsed, |from, to| match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            copy(from, to)?;
            if from.is_dir() { fs::remove_dir_all(from) } else { fs::remove_file(from) }
        }
        other => other,
    })
}

pub fn cp(call: &Call) -> i32 {
    let mut parsed = parse!(call, "rRapf", "");
    let recursive = ['r', 'R', 'a'].iter().any(|f| parsed.has(*f));
    towards(call, &mut parsed, |from, to| {
        if from.is_dir() && !recursive {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        copy(from, to)
    })
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    if metadata.is_symlink() {
        return std::os::unix::fs::symlink(fs::read_link(from)?, to);
    }
    if !metadata.is_dir() {
        return fs::copy(from, to).map(|_| ());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    fs::set_permissions(to, metadata.permissions())
}

pub fn ln(call: &Call) -> i32 {
    let mut parsed = parse!(call, "sfn", "");
    let (symbolic, force) = (parsed.has('s'), parsed.has('f'));
    towards(call, &mut parsed, |from, to| {
        if force && fs::symlink_metadata(to).is_ok() {
            fs::remove_file(to)?;
        }
        if symbolic { std::os::unix::fs::symlink(from, to) } else { fs::hard_link(from, to) }
    })
}

/// `chmod MODE FILE ...`, octal or `[ugoa]*[+-=][rwx]*`.
pub fn chmod(call: &Call) -> i32 {
    let Some((mode, files)) = call.arguments.split_first() else { return call.fail("missing operand") };
    let parsed = Parsed { operands: files.iter().map(String::as_str).collect(), ..Parsed::default() };
    each(call, &parsed, |path| {
        let now = fs::metadata(path)?.permissions().mode() & 0o7777;
        let wanted = new_mode(mode, now)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("invalid mode '{mode}'")))?;
        fs::set_permissions(path, fs::Permissions::from_mode(wanted))
    })
}

fn new_mode(text: &str, now: u32) -> Option<u32> {
    if let Ok(mode) = u32::from_str_radix(text, 8) {
        return Some(mode);
    }
    let at = text.find(['+', '-', '='])?;
    let (who, what) = (&text[..at], &text[at + 1..]);
    let mut bits = 0;
    for letter in what.chars() {
        bits |= match letter {
            'r' => 0o444,
            'w' => 0o222,
            'x' => 0o111,
            _ => return None,
        };
    }
    let mask = who.chars().try_fold(0, |mask, c| match c {
        'u' => Some(mask | 0o700),
        'g' => Some(mask | 0o070),
        'o' => Some(mask | 0o007),
        'a' => Some(mask | 0o777),
        _ => None,
    })?;
    let mask = if mask == 0 { 0o777 } else { mask };
    match text.as_bytes()[at] {
        b'+' => Some(now | (bits & mask)),
        b'-' => Some(now & !(bits & mask)),
        _ => Some((now & !mask) | (bits & mask)),
    }
}

pub fn readlink(call: &Call) -> i32 {
    let parsed = parse!(call, "f", "");
    each(call, &parsed, |path| {
        let target = if parsed.has('f') { fs::canonicalize(path)? } else { fs::read_link(path)? };
        writeln!(io::stdout(), "{}", target.display())
    })
}

/// `stat [-c FORMAT] FILE ...` with `%a %A %F %g %n %s %u %U %G %Y`.
pub fn stat(call: &Call) -> i32 {
    let parsed = parse!(call, "L", "c");
    let format = parsed.value('c').unwrap_or("%A %a %u:%g %s %n");
    each(call, &parsed, |path| {
        let metadata = if parsed.has('L') { fs::metadata(path)? } else { fs::symlink_metadata(path)? };
        let mut out = String::new();
        let mut letters = format.chars();
        while let Some(c) = letters.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            match letters.next() {
                Some('a') => out.push_str(&format!("{:o}", metadata.mode() & 0o7777)),
                Some('A') => out.push_str(&mode_text(&metadata)),
                Some('F') => out.push_str(if metadata.is_dir() { "directory" } else { "regular file" }),
                Some('u' | 'U') => out.push_str(&metadata.uid().to_string()),
                Some('g' | 'G') => out.push_str(&metadata.gid().to_string()),
                Some('n') => out.push_str(&path.display().to_string()),
                Some('s') => out.push_str(&metadata.len().to_string()),
                Some('Y') => out.push_str(&metadata.mtime().to_string()),
                Some(other) => out.extend(['%', other]),
                None => out.push('%'),
            }
        }
        writeln!(io::stdout(), "{out}")
    })
}
