//! The commands, one row each: a name and what runs under it.

mod archive;
mod filter;
mod fs;
mod net;
mod process;
mod text;
mod web;

use crate::Call;
use crate::shell;

pub struct Applet {
    pub name: &'static str,
    pub run: fn(&Call) -> i32,
}

const fn applet(name: &'static str, run: fn(&Call) -> i32) -> Applet {
    Applet { name, run }
}

/// Every command of the image, by name. `/bin` holds a link for each.
pub static APPLETS: &[Applet] = &[
    applet("[", process::test),
    applet("basename", text::basename),
    applet("cat", fs::cat),
    applet("chmod", fs::chmod),
    applet("cp", fs::cp),
    applet("cut", filter::cut),
    applet("date", text::date),
    applet("dirname", text::dirname),
    applet("echo", text::echo),
    applet("env", process::env),
    applet("false", |_| 1),
    applet("grep", filter::grep),
    applet("head", filter::head),
    applet("hostname", process::hostname),
    applet("id", process::id),
    applet("kill", process::kill),
    applet("ln", fs::ln),
    applet("ls", fs::ls),
    applet("mkdir", fs::mkdir),
    applet("mv", fs::mv),
    applet("nc", net::nc),
    applet("nproc", process::nproc),
    applet("nslookup", net::nslookup),
    applet("pause", process::pause),
    applet("printf", text::printf),
    applet("ps", process::ps),
    applet("pwd", process::pwd),
    applet("readlink", fs::readlink),
    applet("rm", fs::rm),
    applet("rmdir", fs::rmdir),
    applet("seq", text::seq),
    applet("sh", shell::main),
    applet("sleep", process::sleep),
    applet("sort", filter::sort),
    applet("stat", fs::stat),
    applet("sync", |_| {
        rustix::fs::sync();
        0
    }),
    applet("tail", filter::tail),
    applet("tar", archive::tar),
    applet("tee", filter::tee),
    applet("test", process::test),
    applet("touch", fs::touch),
    applet("tr", filter::tr),
    applet("true", |_| 0),
    applet("uname", process::uname),
    applet("wc", filter::wc),
    applet("web", web::main),
    applet("wget", net::wget),
    applet("whoami", process::whoami),
];
