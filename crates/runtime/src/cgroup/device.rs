//! Which devices a container may open under cgroup v2, where there is no devices controller: a small BPF program on its
//! group, written here instruction by instruction.
//!
//! opencontainers/cgroups devices/config (the default list): any node may be made, only these may be opened.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Major and minor numbers of the character devices that every container may use; no minor means all of them.
const CHARACTER_DEVICES: [(u32, Option<u32>); 9] = [
    (1, Some(3)), // null
    (1, Some(5)), // zero
    (1, Some(7)), // full
    (1, Some(8)), // random
    (1, Some(9)), // urandom
    (5, Some(0)), // tty
    (5, Some(1)), // console
    (5, Some(2)), // ptmx
    (136, None),  // pts
];

/// One instruction as the kernel reads it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high half.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER: u8 = 0xbf;
const MOVE: u8 = 0xb7;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

const TYPE_CHARACTER: i32 = 2;
const ACCESS_MAKE_NODE: i32 = 1;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: destination | source << 4, offset, immediate }
}

/// The context holds type (low half) and access (high half) in one word, then major and minor.
fn program() -> Vec<Instruction> {
    let mut code = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE_REGISTER, 3, 2, 0, 0),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(AND, 2, 0, 0, 0xffff),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
        // Making a node gives nothing without opening it.
        instruction(JUMP_UNLESS_EQUAL, 3, 0, 2, ACCESS_MAKE_NODE),
        instruction(MOVE, 0, 0, 0, 1),
        instruction(EXIT, 0, 0, 0, 0),
        instruction(JUMP_IF_EQUAL, 2, 0, 2, TYPE_CHARACTER),
        instruction(MOVE, 0, 0, 0, 0),
        instruction(EXIT, 0, 0, 0, 0),
    ];
    for (major, minor) in CHARACTER_DEVICES {
        let past_match: i16 = if minor.is_some() { 3 } else { 2 };
        code.push(instruction(JUMP_UNLESS_EQUAL, 4, 0, past_match, major.cast_signed()));
        if let Some(minor) = minor {
            code.push(instruction(JUMP_UNLESS_EQUAL, 5, 0, 2, minor.cast_signed()));
        }
        code.push(instruction(MOVE, 0, 0, 0, 1));
        code.push(instruction(EXIT, 0, 0, 0, 0));
    }
    code.push(instruction(MOVE, 0, 0, 0, 0));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    code
}

const COMMAND_LOAD: libc::c_int = 5;
const COMMAND_ATTACH: libc::c_int = 8;
const PROGRAM_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// The beginning of `union bpf_attr` for a load; what is left out is zero to the kernel.
#[repr(C)]
struct Load {
    program_type: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

#[allow(unsafe_code, reason = "bpf(2) with an attribute structure that lives through the call")]
fn bpf<T>(command: libc::c_int, attribute: &T) -> io::Result<libc::c_long> {
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attribute), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Allows the processes of a v2 group the default devices and nothing else.
pub fn restrict(group: &Path) -> io::Result<()> {
    let code = program();
    let load = Load {
        program_type: PROGRAM_CGROUP_DEVICE,
        instructions: u32::try_from(code.len()).map_err(io::Error::other)?,
        code: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    let raw = i32::try_from(bpf(COMMAND_LOAD, &load)?).map_err(io::Error::other)?;
    #[allow(unsafe_code, reason = "the kernel has just made this descriptor for us")]
    let program = unsafe { OwnedFd::from_raw_fd(raw) };
    let directory = std::fs::File::open(group)?;
    let attach = Attach {
        target: directory.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // The group keeps the program from now on.
    bpf(COMMAND_ATTACH, &attach).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// The unified hierarchy, wherever this machine has it.
    fn unified() -> Option<std::path::PathBuf> {
        let found = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(std::path::PathBuf::from);
        found.into_iter().find(|p| p.join("cgroup.controllers").exists())
    }

    #[test]
    fn only_the_usual_devices_can_be_opened() {
        let Some(unified) = unified().filter(|_| rustix::process::geteuid().is_root()) else { return };
        let group = unified.join(format!("windlass-test-devices-{}", std::process::id()));
        std::fs::create_dir(&group).unwrap();
        let restricted = restrict(&group);
        let nodes = tempfile::tempdir_in("/var/tmp").unwrap();
        // The kernel's memory-only loop device numbers: a block device, whether or not there is a driver for it.
        let script = format!(
            "echo $$ > {}/cgroup.procs && head -c 1 /dev/zero | wc -c && head -c 1 /dev/urandom | wc -c && \
             mknod {n}/kmsg c 1 11 && (head -c 1 {n}/kmsg 2>&1 | tail -n 1); mknod {n}/b b 7 0; head -c 1 {n}/b 2>&1",
            group.display(),
            n = nodes.path().display()
        );
        let output = Command::new("/bin/sh").args(["-c", &script]).output();
        while std::fs::remove_dir(&group).is_err_and(|e| e.raw_os_error() == Some(libc::EBUSY)) {
            std::thread::yield_now();
        }
        restricted.unwrap();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        assert!(text.starts_with("1\n1\n"), "{text}");
        assert_eq!(text.matches("Operation not permitted").count(), 2, "{text}");
    }
}
