//! When a container is probed, and what the answers add up to.
//!
//! A probe ends in one of three ways. The third, that it could not be asked, says nothing about the container: it is told
//! and shown, and never counts towards a kill.

use jiff::Timestamp;
use journal::{Outcome, RecordId};
use k8s_openapi::api::core::v1::{Container, Probe as Spec};

use super::slot::Run;
use super::{Action, Severity, Worker, after};

pub use journal::Probe as ProbeKind;

/// The kind as upstream writes it at the start of a message.
pub fn title(kind: ProbeKind) -> &'static str {
    match kind {
        ProbeKind::Liveness => "Liveness",
        ProbeKind::Readiness => "Readiness",
        ProbeKind::Startup => "Startup",
    }
}

/// The probe of this kind that a container declares.
pub fn declared(kind: ProbeKind, container: &Container) -> Option<&Spec> {
    match kind {
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
        ProbeKind::Startup => container.startup_probe.as_ref(),
    }
}

/// One probe of one container: its schedule and its standing.
#[derive(Clone, Debug)]
pub struct Probe {
    pub kind: ProbeKind,
    initial_delay_seconds: i64,
    period_seconds: i64,
    success_threshold: u32,
    failure_threshold: u32,
    grace_seconds: Option<i64>,
    next_at: Option<Timestamp>,
    in_flight: bool,
    /// The last answer and how often it came in a row.
    last: Option<bool>,
    in_a_row: u32,
    /// What the answers add up to.
    verdict: Option<bool>,
    /// It has decided; nothing more is asked of this attempt.
    decided: bool,
    obstacle: Option<String>,
    /// Records of the unhealthy answers in a row.
    evidence: Vec<RecordId>,
}

impl Probe {
    fn new(kind: ProbeKind, spec: &Spec) -> Probe {
        let positive = |value: Option<i32>, default: i32| value.filter(|v| *v > 0).unwrap_or(default);
        Probe {
            kind,
            initial_delay_seconds: spec.initial_delay_seconds.unwrap_or(0).max(0).into(),
            period_seconds: positive(spec.period_seconds, 10).into(),
            success_threshold: positive(spec.success_threshold, 1) as u32,
            failure_threshold: positive(spec.failure_threshold, 3) as u32,
            grace_seconds: spec.termination_grace_period_seconds,
            next_at: None,
            in_flight: false,
            last: None,
            in_a_row: 0,
            verdict: None,
            decided: false,
            obstacle: None,
            evidence: Vec::new(),
        }
    }

    fn rest(&mut self) {
        self.next_at = None;
        self.in_flight = false;
        self.last = None;
        self.in_a_row = 0;
        self.verdict = None;
        self.decided = false;
        self.obstacle = None;
        self.evidence.clear();
    }

    /// kubernetes/kubernetes pkg/kubelet/prober/worker.go: whether it may be asked in this state of the container.
    fn is_open(&self, started: bool, ending: bool) -> bool {
        let gate = (self.kind == ProbeKind::Startup) != started;
        let wanted = !ending || self.kind == ProbeKind::Readiness;
        gate && wanted && !self.decided && !self.in_flight
    }
}

/// The probes of one container.
#[derive(Clone, Debug, Default)]
pub(super) struct Probes(Vec<Probe>);

impl Probes {
    pub(super) fn of(container: &Container) -> Probes {
        let kinds = [ProbeKind::Startup, ProbeKind::Readiness, ProbeKind::Liveness];
        Probes(kinds.into_iter().filter_map(|kind| Some(Probe::new(kind, declared(kind, container)?))).collect())
    }

    fn get(&mut self, kind: ProbeKind) -> Option<&mut Probe> {
        self.0.iter_mut().find(|probe| probe.kind == kind)
    }

    pub(super) fn rest(&mut self) {
        self.0.iter_mut().for_each(Probe::rest);
    }

    /// The container runs since `since`. True when it counts as started already, without a startup probe.
    pub(super) fn begin(&mut self, since: Timestamp, now: Timestamp) -> bool {
        for probe in &mut self.0 {
            probe.rest();
            probe.next_at = Some(after(since, probe.initial_delay_seconds).max(now));
        }
        !self.0.iter().any(|probe| probe.kind == ProbeKind::Startup)
    }

    /// A container that was found running: what it was before is believed until a probe says otherwise.
    pub(super) fn adopt(&mut self, started: bool, ready: bool) {
        for probe in &mut self.0 {
            match probe.kind {
                ProbeKind::Startup if started => {
                    probe.verdict = Some(true);
                    probe.decided = true;
                }
                ProbeKind::Readiness if ready => probe.verdict = Some(true),
                _ => {}
            }
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        !self.0.iter().any(|probe| probe.kind == ProbeKind::Readiness && probe.verdict != Some(true))
    }

    pub(super) fn grace(&self, kind: ProbeKind) -> Option<i64> {
        self.0.iter().find(|probe| probe.kind == kind)?.grace_seconds
    }

    pub(super) fn obstacles(&self) -> impl Iterator<Item = (ProbeKind, &str)> {
        self.0.iter().filter_map(|probe| Some((probe.kind, probe.obstacle.as_deref()?)))
    }

    /// Unhealthy answers in a row of a probe, and how many are needed for its verdict.
    pub(super) fn failures(&self, kind: ProbeKind) -> Option<(u32, u32)> {
        let probe = self.0.iter().find(|probe| probe.kind == kind)?;
        Some((if probe.last == Some(false) { probe.in_a_row } else { 0 }, probe.failure_threshold))
    }

    pub(super) fn due(&self, started: bool, ending: bool) -> Option<Timestamp> {
        self.0.iter().filter(|probe| probe.is_open(started, ending)).filter_map(|probe| probe.next_at).min()
    }

    /// Probes that are due now; each is taken to be asked.
    fn take_due(&mut self, started: bool, ending: bool, now: Timestamp) -> Vec<ProbeKind> {
        let mut out = Vec::new();
        for probe in &mut self.0 {
            let Some(at) = probe.next_at.filter(|at| *at <= now && probe.is_open(started, ending)) else { continue };
            let mut next = after(at, probe.period_seconds);
            if next <= now {
                next = after(now, probe.period_seconds);
            }
            probe.next_at = Some(next);
            probe.in_flight = true;
            out.push(probe.kind);
        }
        out
    }
}

impl Worker {
    /// Asks every probe that is due.
    pub(super) fn ask(&mut self) {
        let (ending, now) = (self.ending.is_some(), self.now);
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            if slot.run != Run::Running || slot.stop.as_ref().is_some_and(|_| !ending) {
                continue;
            }
            let (container, attempt) = (slot.name().to_string(), slot.attempt.unwrap_or(0));
            for probe in slot.probes.take_due(slot.started, ending, now) {
                self.act(Action::Probe { container: container.clone(), attempt, probe });
            }
        }
    }

    pub(super) fn take_probed(
        &mut self,
        name: &str,
        attempt: u32,
        kind: ProbeKind,
        outcome: Outcome,
        output: String,
        record: Option<RecordId>,
    ) {
        let Some(index) = self.slot_at(name, attempt) else { return };
        if self.slots[index].run != Run::Running {
            return;
        }
        let Some(probe) = self.slots[index].probes.get(kind) else { return };
        probe.in_flight = false;
        let healthy = match outcome {
            Outcome::Healthy => true,
            Outcome::Unhealthy(_) => false,
            Outcome::NotAsked(_) => {
                probe.obstacle = Some(output.clone());
                let message = format!("{} probe errored and resulted in unknown state: {output}", title(kind));
                self.tell(Severity::Warning, "Unhealthy", message, Some(name));
                return;
            }
        };
        probe.obstacle = None;
        let again = probe.last == Some(healthy);
        probe.in_a_row = if again { probe.in_a_row + 1 } else { 1 };
        probe.last = Some(healthy);
        if !again || healthy {
            probe.evidence.clear();
        }
        if !healthy {
            probe.evidence.extend(record);
        }
        let threshold = if healthy { probe.success_threshold } else { probe.failure_threshold };
        let reached = probe.in_a_row >= threshold;
        let evidence = probe.evidence.clone();
        if reached {
            probe.evidence.clear();
        }
        if !healthy {
            let message = format!("{} probe failed: {output}", title(kind));
            self.tell(Severity::Warning, "Unhealthy", message, Some(name));
        }
        if reached {
            self.conclude(index, kind, healthy, evidence);
        }
    }

    fn conclude(&mut self, index: usize, kind: ProbeKind, healthy: bool, evidence: Vec<RecordId>) {
        let now = self.now;
        let Some(probe) = self.slots[index].probes.get(kind) else { return };
        probe.verdict = Some(healthy);
        probe.decided = kind == ProbeKind::Startup || (kind == ProbeKind::Liveness && !healthy);
        if probe.decided {
            probe.in_a_row = 0;
        }
        match (kind, healthy) {
            (ProbeKind::Readiness, _) | (ProbeKind::Liveness, true) => {}
            (ProbeKind::Startup, true) => {
                let slot = &mut self.slots[index];
                slot.started = true;
                for probe in &mut slot.probes.0 {
                    probe.next_at = probe.next_at.map(|at| at.max(now));
                }
            }
            (ProbeKind::Liveness | ProbeKind::Startup, false) => {
                if self.ending.is_none() && self.slots[index].stop.is_none() {
                    self.stop_unhealthy(index, kind, evidence);
                }
            }
        }
    }
}
