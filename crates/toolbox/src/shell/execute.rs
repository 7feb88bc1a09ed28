//! Running the tree: lists, pipelines, redirections, builtins, and programs.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus, Stdio};

use super::parse::{Command, Connective, Item, List, Pipeline, Redirect, Stage, assignment, parse};
use super::state::{Flow, Shell, Variable};

/// The descriptors of one command: standard input, output and error, where they differ from the shell's own.
#[derive(Default)]
pub struct Streams {
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    error: Option<OwnedFd>,
}

impl Shell {
    pub fn list(&mut self, list: &List, source: &str) -> Flow {
        for item in &list.0 {
            let flow = self.item(item, source);
            if flow != Flow::Next {
                return flow;
            }
        }
        Flow::Next
    }

    fn item(&mut self, item: &Item, source: &str) -> Flow {
        if item.background {
            match self.spawn_shell(&source[item.source.clone()], Streams::default(), true) {
                Ok(child) => {
                    self.background.push(child);
                    self.status = 0;
                }
                Err(error) => self.complain(&error),
            }
            return Flow::Next;
        }
        let mut flow = self.guarded(!item.rest.is_empty(), |shell| shell.pipeline(&item.first, source));
        for (position, (connective, pipeline)) in item.rest.iter().enumerate() {
            if flow != Flow::Next {
                return flow;
            }
            if (*connective == Connective::And) == (self.status == 0) {
                let last = position + 1 == item.rest.len();
                flow = self.guarded(!last, |shell| shell.pipeline(pipeline, source));
            }
        }
        flow
    }

    /// Runs with `-e` held off, when the command's failure is only asked about.
    fn guarded(&mut self, condition: bool, run: impl FnOnce(&mut Self) -> Flow) -> Flow {
        self.in_condition += u32::from(condition);
        let flow = run(self);
        self.in_condition -= u32::from(condition);
        flow
    }

    fn pipeline(&mut self, pipeline: &Pipeline, source: &str) -> Flow {
        let flow = self.guarded(pipeline.negated, |shell| match pipeline.stages.as_slice() {
            [only] => shell.stage(only, source),
            stages => shell.piped(stages, source),
        });
        if pipeline.negated {
            self.status = i32::from(self.status == 0);
        } else if flow == Flow::Next && self.status != 0 && self.errexit && self.in_condition == 0 {
            return Flow::Exit(self.status);
        }
        flow
    }

    fn piped(&mut self, stages: &[Stage], source: &str) -> Flow {
        let mut children = Vec::new();
        let mut input: Option<OwnedFd> = None;
        for (position, stage) in stages.iter().enumerate() {
            let mut streams = Streams { input: input.take(), ..Streams::default() };
            if position + 1 < stages.len() {
                match std::io::pipe() {
                    Ok((reader, writer)) => {
                        input = Some(reader.into());
                        streams.output = Some(writer.into());
                    }
                    Err(error) => {
                        self.complain(&error.to_string());
                        return Flow::Next;
                    }
                }
            }
            match self.spawn_shell(&source[stage.source.clone()], streams, false) {
                Ok(child) => children.push(child),
                Err(error) => self.complain(&error),
            }
        }
        for child in &mut children {
            self.status = wait(child);
        }
        Flow::Next
    }

    fn stage(&mut self, stage: &Stage, source: &str) -> Flow {
        let streams = match self.open(&stage.redirects) {
            Ok(streams) => streams,
            Err(error) => {
                self.complain(&error);
                return Flow::Next;
            }
        };
        match &stage.command {
            Command::Simple { assignments, words } => self.simple(assignments, words, streams),
            Command::Function { name, body } => {
                self.functions.insert(name.clone(), source[body.clone()].to_owned());
                self.status = 0;
                Flow::Next
            }
            Command::Subshell(body) => self.in_other_shell(&source[body.clone()], streams),
            // Redirections of a compound command need a process of its own, for the shell cannot swap its descriptors.
            _ if !stage.redirects.is_empty() => {
                let end = stage.redirects_start(source);
                self.in_other_shell(&source[stage.source.start..end], streams)
            }
            Command::Group(list) => self.list(list, source),
            Command::If { arms, otherwise } => self.branch(arms, otherwise.as_ref(), source),
            Command::Loop { until, condition, body } => self.repeat(*until, condition, body, source),
            Command::For { variable, words, body } => self.each(variable, words.as_deref(), body, source),
            Command::Case { word, arms } => self.choose(word, arms, source),
        }
    }

    fn in_other_shell(&mut self, source: &str, streams: Streams) -> Flow {
        match self.spawn_shell(source, streams, false) {
            Ok(mut child) => self.status = wait(&mut child),
            Err(error) => self.complain(&error),
        }
        Flow::Next
    }

    fn condition(&mut self, list: &List, source: &str) -> Flow {
        self.guarded(true, |shell| shell.list(list, source))
    }

    fn branch(&mut self, arms: &[(List, List)], otherwise: Option<&List>, source: &str) -> Flow {
        for (condition, body) in arms {
            let flow = self.condition(condition, source);
            if flow != Flow::Next {
                return flow;
            }
            if self.status == 0 {
                return self.list(body, source);
            }
        }
        self.status = 0;
        otherwise.map_or(Flow::Next, |list| self.list(list, source))
    }

    fn repeat(&mut self, until: bool, condition: &List, body: &List, source: &str) -> Flow {
        let mut status = 0;
        loop {
            let flow = self.condition(condition, source);
            if flow != Flow::Next {
                return flow;
            }
            if (self.status == 0) == until {
                self.status = status;
                return Flow::Next;
            }
            let flow = self.list(body, source);
            status = self.status;
            match flow {
                Flow::Next | Flow::Continue(1) => {}
                Flow::Break(1) => return Flow::Next,
                Flow::Break(n) => return Flow::Break(n - 1),
                Flow::Continue(n) => return Flow::Continue(n - 1),
                other => return other,
            }
        }
    }

    fn each(&mut self, variable: &str, words: Option<&[String]>, body: &List, source: &str) -> Flow {
        let values = match words {
            Some(words) => match self.fields(words) {
                Ok(values) => values,
                Err(error) => {
                    self.complain(&error);
                    return Flow::Next;
                }
            },
            None => self.positional.clone(),
        };
        self.status = 0;
        for value in values {
            self.set(variable, value);
            match self.list(body, source) {
                Flow::Next | Flow::Continue(1) => {}
                Flow::Break(1) => return Flow::Next,
                Flow::Break(n) => return Flow::Break(n - 1),
                Flow::Continue(n) => return Flow::Continue(n - 1),
                other => return other,
            }
        }
        Flow::Next
    }

    fn choose(&mut self, word: &str, arms: &[(Vec<String>, List)], source: &str) -> Flow {
        let result = self.text(word).and_then(|text| {
            for (patterns, body) in arms {
                for pattern in patterns {
                    if super::matches(&self.pattern(pattern)?, &text) {
                        return Ok(Some(body));
                    }
                }
            }
            Ok(None)
        });
        self.status = 0;
        match result {
            Ok(Some(body)) => self.list(body, source),
            Ok(None) => Flow::Next,
            Err(error) => {
                self.complain(&error);
                Flow::Next
            }
        }
    }

    fn simple(&mut self, assignments: &[(String, String)], words: &[String], streams: Streams) -> Flow {
        let expanded = self.fields(words).and_then(|fields| {
            let values: Result<Vec<_>, String> =
                assignments.iter().map(|(name, value)| Ok((name.clone(), self.text(value)?))).collect();
            Ok((fields, values?))
        });
        let (fields, values) = match expanded {
            Ok(expanded) => expanded,
            Err(error) => {
                self.complain(&error);
                return Flow::Exit(2);
            }
        };
        if self.trace && !fields.is_empty() {
            eprintln!("+ {}", fields.join(" "));
        }
        let Some((name, arguments)) = fields.split_first() else {
            if !words.is_empty() || assignments.iter().all(|(_, v)| !v.contains(['`', '$'])) {
                self.status = 0;
            }
            for (name, value) in values {
                self.set(&name, value);
            }
            return Flow::Next;
        };
        if let Some(body) = self.functions.get(name).cloned() {
            return self.call(&body, arguments);
        }
        if let Some(flow) = self.builtin(name, arguments, &values, &streams) {
            return flow;
        }
        self.program(name, arguments, &values, streams);
        Flow::Next
    }

    fn call(&mut self, body: &str, arguments: &[String]) -> Flow {
        let outer = std::mem::replace(&mut self.positional, arguments.to_vec());
        let flow = match parse(body) {
            Ok(list) => self.list(&list, body),
            Err(error) => {
                self.complain(&error.message);
                Flow::Next
            }
        };
        self.positional = outer;
        if flow == Flow::Return { Flow::Next } else { flow }
    }

    fn command(
        &self,
        name: &str,
        arguments: &[String],
        values: &[(String, String)],
        streams: Streams,
    ) -> std::process::Command {
        let mut command = std::process::Command::new(name);
        command.args(arguments).env_clear();
        command.envs(self.variables.iter().filter(|(_, v)| v.exported).map(|(name, v)| (name, &v.value)));
        if let Some(path) = self.get("PATH") {
            command.env("PATH", path);
        }
        command.envs(values.iter().map(|(name, value)| (name, value)));
        if let Some(input) = streams.input {
            command.stdin(Stdio::from(input));
        }
        if let Some(output) = streams.output {
            command.stdout(Stdio::from(output));
        }
        if let Some(error) = streams.error {
            command.stderr(Stdio::from(error));
        }
        command
    }

    fn program(&mut self, name: &str, arguments: &[String], values: &[(String, String)], streams: Streams) {
        let spawned = self.command(name, arguments, values, streams).spawn();
        self.status = match spawned {
            Ok(mut child) => wait(&mut child),
            Err(error) => cannot_run(name, &error),
        };
    }

    /// `exec PROGRAM`: the shell becomes the program.
    fn become_program(&mut self, arguments: &[String], streams: Streams) -> Flow {
        let Some((name, rest)) = arguments.split_first() else { return Flow::Next };
        let error = self.command(name, rest, &[], streams).exec();
        Flow::Exit(cannot_run(name, &error))
    }

    /// Starts a shell like this one on a piece of source.
    fn spawn_shell(&self, source: &str, streams: Streams, background: bool) -> Result<Child, String> {
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        let script = self.script_for(source);
        let mut words = vec!["-c".to_owned(), script, self.name.clone()];
        words.extend(self.positional.iter().cloned());
        let mut command = self.command(&program.to_string_lossy(), &words, &[], streams);
        command.arg0("sh");
        if background {
            command.stdin(Stdio::null());
        }
        command.spawn().map_err(|e| e.to_string())
    }

    /// Standard output of a piece of source (`$(...)`).
    pub fn capture(&mut self, source: &str) -> Result<String, String> {
        let (mut reader, writer) = std::io::pipe().map_err(|e| e.to_string())?;
        let streams = Streams { output: Some(writer.into()), ..Streams::default() };
        let mut child = self.spawn_shell(source, streams, false)?;
        let mut output = Vec::new();
        reader.read_to_end(&mut output).map_err(|e| e.to_string())?;
        self.status = wait(&mut child);
        Ok(String::from_utf8_lossy(&output).into_owned())
    }

    fn open(&mut self, redirects: &[Redirect]) -> Result<Streams, String> {
        let mut streams = Streams::default();
        for redirect in redirects {
            let input = redirect.operator.starts_with('<');
            let descriptor = redirect.descriptor.unwrap_or(u32::from(!input));
            let opened: OwnedFd = match redirect.operator {
                "<<" | "<<-" => self.here_document(&redirect.target)?,
                "<&" | ">&" => {
                    let target = self.text(&redirect.target)?;
                    streams.duplicate(&target)?
                }
                operator => {
                    let path = self.text(&redirect.target)?;
                    let mut options = OpenOptions::new();
                    match operator {
                        "<" => options.read(true),
                        ">>" => options.append(true).create(true),
                        _ => options.write(true).create(true).truncate(true),
                    };
                    options.open(&path).map_err(|e| format!("can't open {path}: {}", crate::shell_words(&e)))?.into()
                }
            };
            match descriptor {
                0 => streams.input = Some(opened),
                1 => streams.output = Some(opened),
                2 => streams.error = Some(opened),
                n => return Err(format!("{n}: file descriptor out of range")),
            }
        }
        Ok(streams)
    }

    fn here_document(&mut self, text: &str) -> Result<OwnedFd, String> {
        let text = self.document(text)?;
        let (reader, mut writer) = std::io::pipe().map_err(|e| e.to_string())?;
        // A thread writes, since a document may be larger than the pipe.
        std::thread::spawn(move || {
            if let Err(error) = writer.write_all(text.as_bytes())
                && error.kind() != std::io::ErrorKind::BrokenPipe
            {
                eprintln!("sh: here-document: {error}");
            }
        });
        Ok(reader.into())
    }

    pub fn complain(&mut self, message: &str) {
        eprintln!("{}: {message}", self.name);
        self.status = 2;
    }

    fn builtin(
        &mut self,
        name: &str,
        arguments: &[String],
        values: &[(String, String)],
        streams: &Streams,
    ) -> Option<Flow> {
        let first = arguments.first().map(String::as_str);
        let count = || first.and_then(|n| n.parse().ok()).unwrap_or(1);
        self.status = match name {
            ":" => 0,
            "exit" => return Some(Flow::Exit(first.and_then(|n| n.parse().ok()).unwrap_or(self.status))),
            "return" => {
                self.status = first.and_then(|n| n.parse().ok()).unwrap_or(self.status);
                return Some(Flow::Return);
            }
            "break" => return Some(Flow::Break(count())),
            "continue" => return Some(Flow::Continue(count())),
            "cd" => self.change_directory(first),
            "export" => self.export(arguments),
            "unset" => {
                for name in arguments.iter().filter(|a| !a.starts_with('-')) {
                    self.variables.remove(name);
                    self.functions.remove(name);
                }
                0
            }
            "set" => self.set_options(arguments, streams),
            "shift" => {
                let n: u32 = count();
                self.positional.drain(..(n as usize).min(self.positional.len()));
                0
            }
            "eval" => return Some(self.evaluate(&arguments.join(" "))),
            "." | "source" => match first.map(std::fs::read_to_string) {
                Some(Ok(text)) => return Some(self.evaluate(&text)),
                Some(Err(error)) => {
                    self.complain(&format!("{}: {}", first.unwrap_or_default(), crate::shell_words(&error)));
                    2
                }
                None => 2,
            },
            "exec" => {
                let streams = streams.try_clone();
                return Some(match streams {
                    Ok(streams) => self.become_program(arguments, streams),
                    Err(error) => Flow::Exit(cannot_run("exec", &error)),
                });
            }
            "read" => self.read_line(arguments, streams),
            "wait" => self.wait_for_all(),
            "trap" => {
                self.exit_trap = match (first, arguments.get(1).map(String::as_str)) {
                    (Some("-"), _) => None,
                    (Some(action), Some("EXIT" | "0")) => Some(action.to_owned()),
                    _ => self.exit_trap.take(),
                };
                0
            }
            "umask" | "ulimit" | "readonly" | "local" => self.export_none(arguments),
            "command" | "type" => return Some(self.which(name, arguments, values, streams)),
            _ => return None,
        };
        Some(Flow::Next)
    }

    fn evaluate(&mut self, source: &str) -> Flow {
        match parse(source) {
            Ok(list) => self.list(&list, source),
            Err(error) => {
                self.complain(&error.message);
                Flow::Next
            }
        }
    }

    fn which(&mut self, name: &str, arguments: &[String], values: &[(String, String)], streams: &Streams) -> Flow {
        let (asked, rest) = match arguments {
            [flag, program, ..] if flag == "-v" => (program.clone(), None),
            [program, ..] if name == "type" => (program.clone(), None),
            [program, rest @ ..] => (program.clone(), Some(rest.to_vec())),
            [] => return Flow::Next,
        };
        if let Some(rest) = rest {
            match streams.try_clone() {
                Ok(streams) => self.program(&asked, &rest, values, streams),
                Err(error) => self.complain(&error.to_string()),
            }
            return Flow::Next;
        }
        let path = self.get("PATH").unwrap_or_default().to_owned();
        let found = path.split(':').map(|dir| format!("{dir}/{asked}")).find(|p| std::fs::metadata(p).is_ok());
        self.status = match found {
            Some(found) => streams.print(&format!("{found}\n")),
            None => 127,
        };
        Flow::Next
    }

    fn change_directory(&mut self, to: Option<&str>) -> i32 {
        let target = to.map_or_else(|| self.get("HOME").unwrap_or("/").to_owned(), str::to_owned);
        match std::env::set_current_dir(&target) {
            Ok(()) => {
                let now = std::env::current_dir().map(|d| d.display().to_string()).unwrap_or(target);
                self.set("PWD", now);
                0
            }
            Err(error) => {
                eprintln!("{}: cd: can't cd to {target}: {}", self.name, crate::shell_words(&error));
                1
            }
        }
    }

    fn export(&mut self, arguments: &[String]) -> i32 {
        for word in arguments {
            let (name, value) = assignment(word).map_or((word.as_str(), None), |(n, v)| (n, Some(v.to_owned())));
            let old = self.variables.remove(name).map(|v| v.value);
            let value = value.or(old).unwrap_or_default();
            self.variables.insert(name.to_owned(), Variable { value, exported: true });
        }
        0
    }

    /// `local` and `readonly` declare; limits are the container's, not the shell's.
    fn export_none(&mut self, arguments: &[String]) -> i32 {
        for (name, value) in arguments.iter().filter_map(|word| assignment(word)) {
            self.set(name, value.to_owned());
        }
        0
    }

    fn set_options(&mut self, arguments: &[String], streams: &Streams) -> i32 {
        if arguments.is_empty() {
            let lines: String =
                self.variables.iter().map(|(n, v)| format!("{n}={}\n", super::state::quote(&v.value))).collect();
            return streams.print(&lines);
        }
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--" => {
                    self.positional = words.cloned().collect();
                    return 0;
                }
                "-o" | "+o" => {
                    words.next();
                }
                flags if flags.starts_with(['-', '+']) => {
                    let on = flags.starts_with('-');
                    self.errexit = if flags.contains('e') { on } else { self.errexit };
                    self.trace = if flags.contains('x') { on } else { self.trace };
                }
                _ => {
                    self.positional = std::iter::once(word).chain(words).cloned().collect();
                    return 0;
                }
            }
        }
        0
    }

    fn read_line(&mut self, arguments: &[String], streams: &Streams) -> i32 {
        let mut line = Vec::new();
        let mut byte = [0];
        let mut source: Box<dyn Read> = match streams.input.as_ref().map(OwnedFd::try_clone) {
            Some(Ok(fd)) => Box::new(File::from(fd)),
            Some(Err(_)) => return 1,
            // Unbuffered, so that the rest of the input stays for the next command.
            None => match std::io::stdin().as_fd().try_clone_to_owned() {
                Ok(fd) => Box::new(File::from(fd)),
                Err(_) => return 1,
            },
        };
        let ended = loop {
            match source.read(&mut byte) {
                Ok(1) if byte[0] == b'\n' => break false,
                Ok(1) => line.push(byte[0]),
                _ => break true,
            }
        };
        let text = String::from_utf8_lossy(&line).into_owned();
        let names: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
        let mut rest = text.trim();
        for (position, name) in names.iter().enumerate() {
            let last = position + 1 == names.len();
            let (word, tail) = if last { (rest, "") } else { rest.split_once([' ', '\t']).unwrap_or((rest, "")) };
            self.set(name, word.to_owned());
            rest = tail.trim_start();
        }
        i32::from(ended && text.is_empty())
    }

    fn wait_for_all(&mut self) -> i32 {
        let mut status = 0;
        for mut child in std::mem::take(&mut self.background) {
            status = wait(&mut child);
        }
        status
    }
}

impl Stage {
    /// Where the redirections of a compound command begin: after its closing word.
    fn redirects_start(&self, source: &str) -> usize {
        let text = &source[self.source.clone()];
        let close = match &self.command {
            Command::Group(_) => "}",
            Command::If { .. } => "fi",
            Command::Case { .. } => "esac",
            _ => "done",
        };
        text.rfind(close).map_or(self.source.end, |at| self.source.start + at + close.len())
    }
}

impl Streams {
    fn duplicate(&self, target: &str) -> Result<OwnedFd, String> {
        let same = |own: &Option<OwnedFd>, shell: std::io::Result<OwnedFd>| match own {
            Some(fd) => fd.try_clone(),
            None => shell,
        };
        let fd = match target {
            "0" => same(&self.input, std::io::stdin().as_fd().try_clone_to_owned()),
            "1" => same(&self.output, std::io::stdout().as_fd().try_clone_to_owned()),
            "2" => same(&self.error, std::io::stderr().as_fd().try_clone_to_owned()),
            "-" => File::open("/dev/null").map(OwnedFd::from),
            other => return Err(format!("{other}: bad file descriptor")),
        };
        fd.map_err(|e| e.to_string())
    }

    fn try_clone(&self) -> std::io::Result<Self> {
        let clone = |fd: &Option<OwnedFd>| fd.as_ref().map(OwnedFd::try_clone).transpose();
        Ok(Self { input: clone(&self.input)?, output: clone(&self.output)?, error: clone(&self.error)? })
    }

    fn print(&self, text: &str) -> i32 {
        let written = match self.output.as_ref().map(OwnedFd::try_clone) {
            Some(fd) => fd.map(File::from).and_then(|mut file| file.write_all(text.as_bytes())),
            None => std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()),
        };
        i32::from(written.is_err())
    }
}

fn wait(child: &mut Child) -> i32 {
    loop {
        match child.wait() {
            Ok(status) => return code(status),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return 127,
        }
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn cannot_run(name: &str, error: &std::io::Error) -> i32 {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            eprintln!("sh: {name}: not found");
            127
        }
        _ => {
            eprintln!("sh: {name}: {}", crate::shell_words(error));
            126
        }
    }
}
