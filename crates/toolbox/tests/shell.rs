//! Scripts and what they print. The shell starts itself for substitutions and pipes, so it is run as a program.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

fn run(script: &str) -> (String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_applets"));
    std::os::unix::process::CommandExt::arg0(&mut command, "sh");
    let output = command.args(["-c", script, "sh", "one", "two words"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (text, output.status.code().unwrap())
}

#[test]
fn scripts_print_what_a_posix_shell_prints() {
    let rows: &[(&str, &str)] = &[
        ("x=1; y=\"$x 2\"; set -- \"$y\" b; echo $#; for i in \"$@\"; do printf '<%s>' \"$i\"; done", "2\n<1 2><b>"),
        ("echo \"$2\" $1 ${3:-none} ${#2}", "two words one none 9\n"),
        ("f=/a/b.tar.gz; echo ${f##*/} ${f%.*} ${f%%.*} ${f#/a/}", "b.tar.gz /a/b.tar /a/b b.tar.gz\n"),
        ("i=0; while [ $i -lt 3 ]; do i=$((i+1)); [ $i = 2 ] && continue; echo $i; done", "1\n3\n"),
        ("for i in 1 2 3; do if [ $i = 2 ]; then break; else echo $i; fi; done", "1\n"),
        ("case abc in x|y) echo no;; a*) echo yes;; esac", "yes\n"),
        ("f() { echo \"f:$1\"; return 3; }; f x; echo $?", "f:x\n3\n"),
        ("echo $(echo a; echo b) `echo c`", "a b c\n"),
        ("x=out; (x=in; echo $x); echo $x", "in\nout\n"),
        ("printf 'b\\na\\n' | sort | { read first; echo \"first $first\"; }", "first a\n"),
        ("cat <<E\nv=$((2*(3+4)))\nE\n", "v=14\n"),
        ("cat <<'E'\n$x\nE\n", "$x\n"),
        ("false || echo rescued; true && echo on; ! false; echo $?", "rescued\non\n0\n"),
        ("echo err >&2; echo \"a b\" 'c $x' d\\ e", "a b c $x d e\nerr\n"),
        ("x='a  b'; echo $x; echo \"$x\"", "a b\na  b\n"),
        ("A=1 env | grep '^A='; echo \"[$A]\"", "A=1\n[]\n"),
        ("trap 'echo bye' EXIT; echo hi", "hi\nbye\n"),
    ];
    for (script, expected) in rows {
        assert_eq!(run(script).0, *expected, "{script}");
    }
}

#[test]
fn exit_codes_are_a_posix_shell_s() {
    let rows: &[(&str, i32)] = &[
        ("exit 7", 7),
        ("false", 1),
        ("set -e; false; echo no", 1),
        ("set -e; if false; then :; fi; false || true; exit 4", 4),
        ("/no/such/program", 127),
        ("sh -c 'kill -9 $$'", 137),
        ("echo 'open", 2),
        ("echo x | false", 1),
    ];
    for (script, expected) in rows {
        let (output, code) = run(script);
        assert_eq!(code, *expected, "{script}: {output}");
    }
}
