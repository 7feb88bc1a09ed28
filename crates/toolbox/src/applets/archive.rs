//! `tar`, as `kubectl cp` calls it: `tar cf - PATH`, `tar xmf - -C DIR`, and listing.

use std::fs::File;
use std::io::{self, Read, Write};

use crate::{Call, shell_words};

struct Wanted<'a> {
    action: char,
    file: &'a str,
    directory: &'a str,
    verbose: bool,
    paths: Vec<&'a str>,
}

pub fn tar(call: &Call) -> i32 {
    let wanted = match arguments(call) {
        Ok(wanted) => wanted,
        Err(message) => return call.fail(message),
    };
    let result = match wanted.action {
        'c' => create(&wanted),
        'x' => extract(&wanted),
        't' => list(&wanted),
        _ => return call.fail("one of c, x or t is needed"),
    };
    match result {
        Ok(()) => 0,
        Err(error) => call.fail(shell_words(&error)),
    }
}

fn arguments<'a>(call: &Call<'a>) -> Result<Wanted<'a>, String> {
    let mut wanted = Wanted { action: ' ', file: "-", directory: ".", verbose: false, paths: Vec::new() };
    let mut words = call.arguments.iter().map(String::as_str);
    let mut first = true;
    while let Some(word) = words.next() {
        let letters = match word.strip_prefix('-') {
            Some("") | None if !first => {
                wanted.paths.push(word);
                continue;
            }
            Some("-") => continue,
            Some(long) if long.starts_with('-') => continue,
            Some(letters) => letters,
            None => word,
        };
        first = false;
        for letter in letters.chars() {
            match letter {
                'c' | 'x' | 't' => wanted.action = letter,
                'v' => wanted.verbose = true,
                'f' => wanted.file = words.next().ok_or("option requires an argument -- 'f'")?,
                'C' => wanted.directory = words.next().ok_or("option requires an argument -- 'C'")?,
                'm' | 'p' | 'o' | 'h' => {}
                'z' => return Err("compressed archives are not supported".to_owned()),
                other => return Err(format!("unrecognized option '-{other}'")),
            }
        }
    }
    Ok(wanted)
}

fn input(wanted: &Wanted) -> io::Result<Box<dyn Read>> {
    Ok(if wanted.file == "-" { Box::new(io::stdin()) } else { Box::new(File::open(wanted.file)?) })
}

fn create(wanted: &Wanted) -> io::Result<()> {
    let out: Box<dyn Write> =
        if wanted.file == "-" { Box::new(io::stdout()) } else { Box::new(File::create(wanted.file)?) };
    let mut builder = tar::Builder::new(out);
    builder.follow_symlinks(false);
    for path in &wanted.paths {
        let from = std::path::Path::new(wanted.directory).join(path);
        let name = path.trim_start_matches('/');
        let name = if name.is_empty() { "." } else { name };
        if std::fs::symlink_metadata(&from)?.is_dir() {
            builder.append_dir_all(name, &from)?;
        } else {
            builder.append_path_with_name(&from, name)?;
        }
    }
    builder.into_inner()?.flush()
}

/// The library keeps every entry inside the directory, also against `..` and symlinked parents.
fn extract(wanted: &Wanted) -> io::Result<()> {
    let mut archive = tar::Archive::new(input(wanted)?);
    archive.set_preserve_permissions(true);
    archive.set_overwrite(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if wanted.verbose {
            eprintln!("{}", entry.path()?.display());
        }
        entry.unpack_in(wanted.directory)?;
    }
    Ok(())
}

fn list(wanted: &Wanted) -> io::Result<()> {
    let mut archive = tar::Archive::new(input(wanted)?);
    for entry in archive.entries()? {
        println!("{}", entry?.path()?.display());
    }
    Ok(())
}
