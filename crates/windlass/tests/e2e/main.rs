//! The whole of Windlass, driven by the real `kubectl` against real containers.
//!
//! One node serves all the tests that leave it in peace, each in a namespace of its own; tests that stop or kill a node
//! start their own. `KUBECTL` names the client, by default `conformance/bin/kubectl`, which `scripts/clients.sh` builds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests with a harness of their own, which clippy does not take for tests"
)]

mod cli;
mod disk;
mod etcd;
mod guest;
mod identity;
mod images;
mod join;
mod lifecycle;
#[path = "../../../store/tests/etcd/member.rs"]
mod member;
mod network;
mod node;
mod objects;
mod streams;
mod usage;
mod why;
mod workloads;

use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial};
use node::{Namespace, Node};

/// A test on the shared node, in its own namespace.
type Shared = fn(&Namespace);
/// A test that has nodes of its own; the number keeps their addresses apart.
type Alone = fn();

fn main() {
    let arguments = Arguments::from_args();
    let shared: Arc<Mutex<Option<Arc<Node>>>> = Arc::default();
    let tables: [&[(&str, Shared)]; 7] = [
        workloads::TESTS,
        streams::TESTS,
        objects::TESTS,
        images::TESTS,
        identity::TESTS,
        network::TESTS,
        usage::TESTS,
    ];
    let mut trials: Vec<Trial> = Vec::new();
    for (name, test) in tables.into_iter().flatten() {
        let shared = Arc::clone(&shared);
        trials.push(Trial::test(*name, move || {
            let node = {
                let mut slot = shared.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(slot.get_or_insert_with(|| Arc::new(Node::start(1))))
            };
            run(|| test(&node.namespace(name)))
        }));
    }
    let alone = [lifecycle::TESTS, join::TESTS, cli::TESTS, disk::TESTS, etcd::TESTS, why::TESTS, guest::TESTS];
    for (name, test) in alone.into_iter().flatten() {
        let test: Alone = *test;
        trials.push(Trial::test(*name, move || run(test)));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The node is taken down before the verdict, so that what it leaves behind is part of it.
    let left = shared.lock().unwrap_or_else(PoisonError::into_inner).take().map(|node| node.down());
    if let Some(Err(left)) = left {
        eprintln!("the node left something behind: {left}");
        std::process::exit(1);
    }
    conclusion.exit();
}

fn run(test: impl FnOnce()) -> Result<(), Failed> {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(test));
    outcome.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Failed::from(text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default())
    })
}
