//! `CronJob`: a Job at each time of a schedule.
//!
//! kubernetes/kubernetes pkg/controller/cronjob: decides names, events, missed times and the history kept.

mod missed;
pub mod schedule;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cache::{Key, Of};
use crate::controller::{Controller, Cx, controlling, own};
use crate::meta;
use crate::plan::{Action, Event, Note, Plan, Propagation, reference};

const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Upstream looks a moment late, so that the time has come for certain.
const DELTA: Duration = Duration::from_millis(100);
/// Beyond this many missed times the user is told.
const MISSED_MAX: i64 = 100;

pub static CRONJOB: Controller = Controller {
    name: "cronjob-controller",
    account: "cronjob-controller",
    watches: &[(Of::CronJob, own), (Of::Job, controlling::<CronJob>)],
    workers: 5,
    sync: |cx, key| gather(cx, key).map(|view| plan(&view, cx.now)).unwrap_or_default(),
};

struct View {
    cron: Arc<CronJob>,
    jobs: Vec<Arc<Job>>,
}

fn gather(cx: &Cx<'_>, key: &Key) -> Option<View> {
    let cron = cx.cache.cron_jobs.at(key)?;
    let jobs = cx.cache.jobs.controlled_by(meta::uid(&cron.metadata));
    Some(View { cron, jobs })
}

/// `Complete` or `Failed`, when the Job has ended.
fn end_of(job: &Job) -> Option<&str> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ended = conditions.iter().find(|c| (c.type_ == "Complete" || c.type_ == "Failed") && c.status == "True")?;
    Some(&ended.type_)
}

fn plan(view: &View, now: Timestamp) -> Plan {
    let cron = view.cron.as_ref();
    let mut plan = Plan::default();
    let mut status = cron.status.clone().unwrap_or_default();
    follow_jobs(view, &mut status, &mut plan);
    if !meta::deleting(&cron.metadata) {
        trim(view, &mut plan);
        start_due(view, &mut status, &mut plan, now);
    }
    if status.active.as_ref().is_some_and(Vec::is_empty) {
        status.active = None;
    }
    if Some(&status) != cron.status.as_ref() && (cron.status.is_some() || status != CronJobStatus::default()) {
        plan.status = Some(Action::update_status(&CronJob { status: Some(status), ..cron.clone() }));
    }
    plan
}

/// Keeps the list of running Jobs and the time of the last success.
fn follow_jobs(view: &View, status: &mut CronJobStatus, plan: &mut Plan) {
    let cron = view.cron.as_ref();
    let active = status.active.get_or_insert_default();
    for job in &view.jobs {
        let uid = &job.metadata.uid;
        let listed = active.iter().any(|a| a.uid == *uid);
        let name = meta::name(&job.metadata);
        match (end_of(job), listed) {
            (None, false) if !meta::deleting(&job.metadata) => {
                let text = format!("Saw a job that the controller did not create or forgot: {name}");
                if cron.status.as_ref().is_some_and(|s| s.last_schedule_time.is_none()) {
                    plan.events.push(Event::warning(cron, "UnexpectedJob", text));
                }
                active.push(job_reference(job));
            }
            (Some(end), true) => {
                active.retain(|a| a.uid != *uid);
                let text = format!("Saw completed job: {name}, condition: {end}");
                plan.events.push(Event::normal(cron, "SawCompletedJob", text));
            }
            _ => {}
        }
        if end_of(job) == Some("Complete") {
            let at = job.status.as_ref().and_then(|s| s.completion_time.clone());
            if at > status.last_successful_time {
                status.last_successful_time = at;
            }
        }
    }
    let there = |a: &ObjectReference| view.jobs.iter().any(|j| j.metadata.uid == a.uid);
    for missing in active.iter().filter(|a| !there(a)) {
        let name = missing.name.as_deref().unwrap_or("");
        plan.events.push(Event::normal(cron, "MissingJob", format!("Active job went missing: {name}")));
    }
    active.retain(there);
}

fn job_reference(job: &Job) -> ObjectReference {
    reference(job)
}

fn delete(cron: &CronJob, job: &Job) -> Action {
    Action::delete(job).with_propagation(Propagation::Background).noted(Note {
        about: reference(cron),
        done: ("SuccessfulDelete", "Deleted job {name}".into()),
        failed: ("FailedDelete", "Deleted job: {error}".into()),
    })
}

/// Removes ended Jobs beyond the history kept, oldest first.
fn trim(view: &View, plan: &mut Plan) {
    let spec = &view.cron.spec;
    for (end, limit) in [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)] {
        let Some(limit) = limit else { continue };
        let mut ended: Vec<&Arc<Job>> =
            view.jobs.iter().filter(|j| end_of(j) == Some(end) && !meta::deleting(&j.metadata)).collect();
        ended.sort_by_key(|j| (j.status.as_ref().and_then(|s| s.start_time.clone()), j.metadata.name.clone()));
        let excess = ended.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        plan.actions.extend(ended.into_iter().take(excess).map(|job| delete(&view.cron, job)));
    }
}

fn start_due(view: &View, status: &mut CronJobStatus, plan: &mut Plan, now: Timestamp) {
    let cron = view.cron.as_ref();
    let zone_name = cron.spec.time_zone.clone().unwrap_or_default();
    let zone = match zone_name.as_str() {
        "" => TimeZone::UTC,
        name => match TimeZone::get(name) {
            Ok(zone) => zone,
            Err(error) => {
                let text = format!("invalid timeZone: {name:?}: {error}");
                plan.events.push(Event::warning(cron, "UnknownTimeZone", text));
                return;
            }
        },
    };
    if cron.spec.suspend == Some(true) {
        return;
    }
    let schedule = match schedule::parse(&cron.spec.schedule) {
        Ok(schedule) => schedule,
        Err(error) => {
            let text = format!("unparseable schedule: {:?} : {error}", cron.spec.schedule);
            plan.events.push(Event::warning(cron, "UnparseableSchedule", text));
            return;
        }
    };
    let recent = |deadline| missed::recent(cron, &schedule, &zone, now, deadline);
    let found = match recent(true) {
        Ok(found) => found,
        Err(error) => {
            let text = format!("invalid schedule: {} : {error}", cron.spec.schedule);
            plan.events.push(Event::warning(cron, "InvalidSchedule", text));
            return;
        }
    };
    let from = recent(false).map_or(now, |without| without.go_on_from(now));
    if let Some(next) = schedule.next(from, &zone) {
        let wait = Duration::try_from(next.duration_since(now)).unwrap_or(Duration::ZERO);
        plan.requeue(wait + DELTA);
    }
    let Some(due) = found.latest else { return };
    if found.missed > MISSED_MAX {
        let text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.events.push(Event::warning(cron, "TooManyMissedTimes", text));
    }
    if cron.spec.starting_deadline_seconds.is_some_and(|most| due.as_second().saturating_add(most) < now.as_second()) {
        let at = due.strftime("%a, %d %b %Y %H:%M:%S +0000");
        let text = format!("Missed scheduled time to start a job: {at}");
        plan.events.push(Event::warning(cron, "MissSchedule", text));
        return;
    }
    start(view, status, plan, due, &zone);
}

fn start(view: &View, status: &mut CronJobStatus, plan: &mut Plan, due: Timestamp, zone: &TimeZone) {
    let cron = view.cron.as_ref();
    let name = format!("{}-{}", meta::name(&cron.metadata), due.as_second() / 60);
    let active = status.active.clone().unwrap_or_default();
    let served = status.last_schedule_time.as_ref().is_some_and(|t| t.0 == due);
    if served || active.iter().any(|a| a.name.as_deref() == Some(&name)) {
        return;
    }
    let exists = view.jobs.iter().any(|job| job.metadata.name.as_deref() == Some(&name));
    let policy = cron.spec.concurrency_policy.as_deref().unwrap_or("Allow");
    if policy == "Forbid" && !active.is_empty() && !exists {
        let text = "Not starting job because prior execution is running and concurrency policy is Forbid";
        plan.events.push(Event::normal(cron, "JobAlreadyActive", text));
        return;
    }
    if policy == "Replace" {
        let running = view.jobs.iter().filter(|j| active.iter().any(|a| a.uid == j.metadata.uid));
        plan.actions.extend(running.map(|job| delete(cron, job)));
        status.active = None;
    }
    status.last_schedule_time = Some(meta::time(due));
    if exists {
        return;
    }
    let template = cron.spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations = template.annotations.unwrap_or_default();
    let local = due.to_zoned(zone.clone());
    let offset = if local.offset().is_zero() { "Z".to_string() } else { local.strftime("%:z").to_string() };
    annotations.insert(SCHEDULED.into(), format!("{}{offset}", local.strftime("%Y-%m-%dT%H:%M:%S")));
    let job = Job {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: cron.metadata.namespace.clone(),
            labels: template.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![meta::controller_reference(cron)]),
            ..Default::default()
        },
        spec: cron.spec.job_template.spec.clone(),
        status: None,
    };
    plan.actions.push(Action::create(&job).accept_existing().noted(Note {
        about: reference(cron),
        done: ("SuccessfulCreate", "Created job {name}".into()),
        failed: ("FailedCreate", "Error creating job: {error}".into()),
    }));
}
