//! Removes bootstrap tokens that have expired.
//!
//! kubernetes/kubernetes pkg/controller/bootstrap/tokencleaner.go

use std::time::Duration;

use jiff::Timestamp;

use super::{expires, is_token};
use crate::cache::{BootstrapToken, Of};
use crate::controller::{Controller, own};
use crate::plan::{Action, Plan};

pub static TOKENCLEANER: Controller = Controller {
    name: "token-cleaner-controller",
    account: "token-cleaner",
    watches: &[(Of::BootstrapToken, own)],
    workers: 1,
    sync: |cx, key| cx.cache.bootstrap_tokens.at(key).map(|token| plan(&token, cx.now)).unwrap_or_default(),
};

fn plan(token: &BootstrapToken, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let Some(end) = expires(&token.0).filter(|_| is_token(&token.0)) else { return plan };
    match Duration::try_from(end.duration_since(now)) {
        Ok(left) if !left.is_zero() => plan.requeue(left),
        _ => plan.actions.push(Action::delete(token)),
    }
    plan
}
