//! Commands on processes and the system: `sleep`, `env`, `ps`, `kill`, `id`, `test`, `pause` and the like.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::Call;

/// Holds a pod's namespaces: waits for a signal to end, and reaps what is orphaned onto it.
pub fn pause(call: &Call) -> i32 {
    let mut signals = match Signals::new([SIGINT, SIGTERM, SIGCHLD]) {
        Ok(signals) => signals,
        Err(error) => return call.fail(error),
    };
    for signal in signals.forever() {
        if signal != SIGCHLD {
            return 0;
        }
        while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
    }
    0
}

/// `sleep N[smhd] ...`; also `infinity`. Ends at once on SIGTERM, which as process 1 it would otherwise not see.
pub fn sleep(call: &Call) -> i32 {
    let mut total = Some(Duration::ZERO);
    for word in call.arguments {
        let (number, unit) = word.split_at(word.trim_end_matches(['s', 'm', 'h', 'd']).len());
        let scale = match unit {
            "" | "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => 86400.0,
        };
        match number.parse::<f64>() {
            Ok(n) if n.is_finite() && n >= 0.0 => total = total.map(|t| t + Duration::from_secs_f64(n * scale)),
            Ok(n) if n == f64::INFINITY => total = None,
            _ => return call.fail(format_args!("invalid number '{word}'")),
        }
    }
    if call.arguments.is_empty() {
        return call.fail("missing operand");
    }
    match total {
        Some(total) => std::thread::sleep(total),
        None => loop {
            std::thread::park();
        },
    }
    0
}

/// `env [NAME=VALUE ...] [PROGRAM [ARG ...]]`
pub fn env(call: &Call) -> i32 {
    let assignments: Vec<_> = call.arguments.iter().map_while(|word| word.split_once('=')).collect();
    let Some((program, arguments)) = call.arguments[assignments.len()..].split_first() else {
        let mut out = std::io::stdout().lock();
        let all =
            std::env::vars_os().map(|(n, v)| (n.to_string_lossy().into_owned(), v.to_string_lossy().into_owned()));
        let own: Vec<(String, String)> = assignments.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        for (name, value) in all.filter(|(n, _)| !own.iter().any(|(o, _)| o == n)).chain(own.clone()) {
            if writeln!(out, "{name}={value}").is_err() {
                return 1;
            }
        }
        return 0;
    };
    let error = std::process::Command::new(program).args(arguments).envs(assignments).exec();
    call.fail(format_args!("can't execute '{program}': {}", crate::shell_words(&error)));
    127
}

pub fn ps(call: &Call) -> i32 {
    let entries = match std::fs::read_dir("/proc") {
        Ok(entries) => entries,
        Err(error) => return call.fail(error),
    };
    let mut ids: Vec<u32> = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect();
    ids.sort_unstable();
    println!("{:>5} {:>6} COMMAND", "PID", "USER");
    for id in ids {
        // A process may end between the listing and the reading.
        let Ok(metadata) = std::fs::metadata(format!("/proc/{id}")) else { continue };
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
        let name = std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        let shown = if words.is_empty() { format!("[{}]", name.trim()) } else { words };
        println!("{id:>5} {:>6} {shown}", metadata.uid());
    }
    0
}

/// `kill [-SIGNAL | -s SIGNAL] PID ...`
pub fn kill(call: &Call) -> i32 {
    let mut words = call.arguments;
    let mut signal = Some(Signal::TERM);
    if let [flag, name, rest @ ..] = words
        && flag == "-s"
    {
        signal = signal_named(name);
        words = rest;
    } else if let [flag, rest @ ..] = words
        && let Some(name) = flag.strip_prefix('-')
    {
        signal = signal_named(name);
        words = rest;
    }
    let probe_only = signal.is_none() && call.arguments.first().is_some_and(|f| f == "-0");
    if signal.is_none() && !probe_only {
        return call.fail("bad signal name");
    }
    let mut code = 0;
    for word in words {
        let Some(pid) = word.parse().ok().and_then(Pid::from_raw) else {
            code = call.fail(format_args!("invalid number '{word}'"));
            continue;
        };
        let sent = match signal {
            Some(signal) => kill_process(pid, signal),
            None => rustix::process::test_kill_process(pid),
        };
        if let Err(error) = sent {
            code = call.fail(format_args!("can't kill pid {word}: {}", crate::shell_words(&error.into())));
        }
    }
    code
}

fn signal_named(name: &str) -> Option<Signal> {
    let name = name.strip_prefix("SIG").unwrap_or(name);
    let names = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ABRT", 6),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("CONT", 18),
        ("STOP", 19),
    ];
    let number = names.iter().find(|(n, _)| *n == name).map(|(_, number)| *number).or_else(|| name.parse().ok())?;
    Signal::from_named_raw(number)
}

pub fn id(call: &Call) -> i32 {
    let parsed = match call.parse("ugGn", "") {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let groups: Vec<String> = match rustix::process::getgroups() {
        Ok(groups) => groups.iter().map(|g| g.as_raw().to_string()).collect(),
        Err(error) => return call.fail(error),
    };
    match () {
        () if parsed.has('u') => println!("{user}"),
        () if parsed.has('g') => println!("{group}"),
        () if parsed.has('G') => {
            let others = groups.iter().filter(|g| **g != group.to_string());
            println!("{}", std::iter::once(&group.to_string()).chain(others).cloned().collect::<Vec<_>>().join(" "));
        }
        () if groups.is_empty() => println!("uid={user} gid={group}"),
        () => println!("uid={user} gid={group} groups={}", groups.join(",")),
    }
    0
}

pub fn whoami(_: &Call) -> i32 {
    let user = rustix::process::geteuid().as_raw();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name =
        passwd.lines().find(|line| line.split(':').nth(2) == Some(&user.to_string())).and_then(|l| l.split(':').next());
    println!("{}", name.map_or_else(|| user.to_string(), str::to_owned));
    0
}

pub fn hostname(call: &Call) -> i32 {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if call.arguments.first().is_some_and(|a| a == "-i") {
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let address = hosts
            .lines()
            .find(|l| l.split_whitespace().skip(1).any(|n| n == name))
            .and_then(|l| l.split_whitespace().next());
        println!("{}", address.unwrap_or("127.0.0.1"));
    } else {
        println!("{name}");
    }
    0
}

pub fn uname(call: &Call) -> i32 {
    let system = rustix::system::uname();
    let flags = call.arguments.first().map_or("-s", String::as_str);
    let all = flags.contains('a');
    let parts = [
        ('s', system.sysname()),
        ('n', system.nodename()),
        ('r', system.release()),
        ('v', system.version()),
        ('m', system.machine()),
    ];
    let shown: Vec<_> =
        parts.iter().filter(|(f, _)| all || flags.contains(*f)).map(|(_, t)| t.to_string_lossy()).collect();
    println!("{}", shown.join(" "));
    0
}

pub fn nproc(_: &Call) -> i32 {
    println!("{}", std::thread::available_parallelism().map_or(1, usize::from));
    0
}

pub fn pwd(call: &Call) -> i32 {
    match std::env::current_dir() {
        Ok(directory) => {
            println!("{}", directory.display());
            0
        }
        Err(error) => call.fail(error),
    }
}

/// `test EXPRESSION` and `[ EXPRESSION ]`.
pub fn test(call: &Call) -> i32 {
    let mut words: Vec<&str> = call.arguments.iter().map(String::as_str).collect();
    if call.name == "[" && words.pop() != Some("]") {
        call.fail("missing ]");
        return 2;
    }
    match either(&words) {
        Ok(truth) => i32::from(!truth),
        Err(message) => {
            call.fail(message);
            2
        }
    }
}

fn either(words: &[&str]) -> Result<bool, String> {
    match words.iter().position(|w| *w == "-o") {
        Some(at) if at > 0 => Ok(both(&words[..at])? || either(&words[at + 1..])?),
        _ => both(words),
    }
}

fn both(words: &[&str]) -> Result<bool, String> {
    match words.iter().position(|w| *w == "-a") {
        Some(at) if at > 0 => Ok(single(&words[..at])? && both(&words[at + 1..])?),
        _ => single(words),
    }
}

fn single(words: &[&str]) -> Result<bool, String> {
    match words {
        [] => Ok(false),
        [word] => Ok(!word.is_empty()),
        ["!", rest @ ..] => Ok(!single(rest)?),
        [operator, word] => unary(operator, word),
        [left, operator, right] => binary(left, operator, right),
        _ => Err(format!("{}: unexpected operator", words.last().unwrap_or(&""))),
    }
}

fn unary(operator: &str, word: &str) -> Result<bool, String> {
    let metadata = || std::fs::metadata(word).ok();
    let mode = |bit| metadata().is_some_and(|m| m.permissions().mode() & bit != 0);
    Ok(match operator {
        "-n" => !word.is_empty(),
        "-z" => word.is_empty(),
        "-e" => metadata().is_some(),
        "-f" => metadata().is_some_and(|m| m.is_file()),
        "-d" => metadata().is_some_and(|m| m.is_dir()),
        "-s" => metadata().is_some_and(|m| m.len() > 0),
        "-L" | "-h" => std::fs::symlink_metadata(word).is_ok_and(|m| m.is_symlink()),
        "-r" => std::fs::File::open(word).is_ok(),
        "-w" => rustix::fs::access(word, rustix::fs::Access::WRITE_OK).is_ok(),
        "-x" => mode(0o111),
        "-t" => word == "0" && std::io::IsTerminal::is_terminal(&std::io::stdin()),
        _ => return Err(format!("{operator}: unexpected operator")),
    })
}

fn binary(left: &str, operator: &str, right: &str) -> Result<bool, String> {
    let number = |text: &str| text.trim().parse::<i64>().map_err(|_| format!("{text}: bad number"));
    let compare = || Ok::<_, String>(number(left)?.cmp(&number(right)?));
    Ok(match operator {
        "=" | "==" => left == right,
        "!=" => left != right,
        "-eq" => compare()?.is_eq(),
        "-ne" => compare()?.is_ne(),
        "-lt" => compare()?.is_lt(),
        "-le" => compare()?.is_le(),
        "-gt" => compare()?.is_gt(),
        "-ge" => compare()?.is_ge(),
        _ => return Err(format!("{operator}: unknown operand")),
    })
}
