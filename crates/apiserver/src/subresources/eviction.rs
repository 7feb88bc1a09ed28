//! `pods/eviction`: a deletion that asks the PodDisruptionBudgets first.
//!
//! `kubernetes/kubernetes pkg/registry/core/pod/storage/eviction.go: EvictionREST.Create`.

use kinds::Subresource;
use machinery::labels::Selector;
use machinery::object;
use machinery::status::{Cause, Status};
use serde_json::{Value, json};

use crate::admission::{self, Operation};
use crate::context::{Cx, Payload};
use crate::http::HttpResponse;
use crate::query::{DeleteOptions, Query, WriteOptions};
use crate::strategy::{Part, seconds};
use crate::subresources::binding::set_condition;
use crate::verbs::delete;
use crate::verbs::write::{self, Tracking, Update};
use crate::{codec, respond};

/// More disrupted pods than this and the budget's controller is behind.
const DISRUPTED_MAX: usize = 2000;
const ATTEMPTS: usize = 20;

pub async fn create(cx: &Cx, payload: &Payload) -> Result<HttpResponse, Status> {
    if cx.info.verb != "create" {
        return Err(cx.unsupported());
    }
    let mut eviction = codec::typed(payload, "io.k8s.api.policy.v1.Eviction", &["policy/v1beta1"])?;
    if object::name(&eviction) != cx.info.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let mut options =
        DeleteOptions::parse(&Query::default(), eviction.get("deleteOptions").filter(|options| !options.is_null()))?;
    options.dry_run |= crate::query::dry_run(&cx.query, "CreateOptions")?;
    let found = cx.server.registry.get(&cx.kind, &cx.info.namespace, &cx.info.name).await?;
    let pod = found.ok_or_else(|| cx.not_found())?.value;
    admission::mutate(cx, Operation::Create, &mut eviction, None).await?;
    admission::validate(cx, Operation::Create, Some(&eviction), None).await?;
    if needs_budget(&pod) {
        take_disruption(cx, &pod, options.dry_run).await?;
    }
    if !options.dry_run {
        let marked = mark(cx, &options).await?;
        if options.resource_version.is_some() {
            options.resource_version = Some(object::resource_version(&marked).to_owned());
        }
    }
    let one = cx.named(&cx.info.namespace, &cx.info.name);
    delete::delete_object(&one, &options).await?;
    respond::tree(
        cx,
        201,
        &json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 }),
    )
}

/// Says in the pod's status why it goes: a Job may have a rule for that.
async fn mark(cx: &Cx, options: &DeleteOptions) -> Result<Value, Status> {
    let how = Update {
        part: Part::Sub(Subresource::Status),
        options: &WriteOptions::parse(&Query::default(), cx.user_agent(), "update")?,
        tracking: Tracking::Update,
        unconditional: true,
    };
    let marked = write::update(cx, &how, |old| {
        delete::check_preconditions(cx, old, options)?;
        let mut pod = old.value.clone();
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastTransitionTime": seconds(cx.now),
        });
        set_condition(&mut pod, condition);
        object::metadata_mut(&mut pod).remove("resourceVersion");
        Ok(pod)
    });
    marked.await?.ok_or_else(|| cx.not_found())
}

/// A pod that has ended, has not begun, or is going anyway is nobody's loss.
fn needs_budget(pod: &Value) -> bool {
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    !matches!(phase, "Succeeded" | "Failed" | "Pending") && !object::is_being_deleted(pod)
}

fn ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    conditions.clone().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Takes one disruption from the budget that covers the pod, if one does.
async fn take_disruption(cx: &Cx, pod: &Value, dry_run: bool) -> Result<(), Status> {
    let Some(kind) = kinds::by_resource("policy", "v1", "poddisruptionbudgets") else { return Ok(()) };
    for _ in 0..ATTEMPTS {
        cx.server.caches.wait_for(cx.server.registry.revision().await?).await?;
        let budgets = cx.server.caches.of(kind).map(|cache| cache.list(&cx.info.namespace).0).unwrap_or_default();
        let covering: Vec<Value> =
            budgets.iter().map(|budget| budget.value()).filter(|budget| covers(budget, pod)).collect();
        let mut budget = match covering.as_slice() {
            [] => return Ok(()),
            [only] => only.clone(),
            _ => {
                return Err(Status::internal(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        };
        if !ready(pod) && unhealthy_may_go(&budget) {
            return Ok(());
        }
        decrement(cx, &mut budget)?;
        if dry_run {
            return Ok(());
        }
        let key = kind.key(&cx.info.namespace, object::name(&budget));
        let revision: i64 = object::resource_version(&budget).parse().unwrap_or(0);
        if cx.server.registry.update(kind, &key, &budget, revision).await?.is_some() {
            return Ok(());
        }
    }
    Err(too_many(format!("couldn't update PodDisruptionBudget for pod {} due to conflicts", cx.info.name)))
}

fn covers(budget: &Value, pod: &Value) -> bool {
    let selector = Selector::from_label_selector(budget.pointer("/spec/selector"));
    let empty = serde_json::Map::new();
    selector.is_ok_and(|selector| selector.matches(object::labels(pod).unwrap_or(&empty)))
}

fn number(budget: &Value, name: &str) -> i64 {
    budget.pointer(&format!("/status/{name}")).and_then(Value::as_i64).unwrap_or(0)
}

/// A pod that is not ready counts for nothing, if the budget's policy says so or enough others are healthy.
fn unhealthy_may_go(budget: &Value) -> bool {
    let always = budget.pointer("/spec/unhealthyPodEvictionPolicy").is_some_and(|policy| policy == "AlwaysAllow");
    let healthy = number(budget, "currentHealthy");
    always || (healthy >= number(budget, "desiredHealthy") && number(budget, "desiredHealthy") > 0)
}

fn too_many(message: String) -> Status {
    Status::too_many_requests(message, 0)
}

fn decrement(cx: &Cx, budget: &mut Value) -> Result<(), Status> {
    let name = object::name(budget).to_owned();
    let disrupted = budget.pointer("/status/disruptedPods").and_then(Value::as_object).map_or(0, serde_json::Map::len);
    let refuse = |message: &str, cause: String| {
        let mut status = too_many(message.to_owned());
        status.details.get_or_insert_default().causes.push(Cause {
            reason: "DisruptionBudget".to_owned(),
            message: cause,
            field: String::new(),
        });
        Err(status)
    };
    let words = "Cannot evict pod as it would violate the pod's disruption budget.";
    if number(budget, "observedGeneration") < object::generation(budget) {
        return refuse(words, format!("The disruption budget {name} is still being processed by the server."));
    }
    if disrupted > DISRUPTED_MAX {
        return Err(Status::forbidden(
            &cx.resource(),
            &cx.info.name,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    let allowed = number(budget, "disruptionsAllowed");
    if allowed <= 0 {
        let (needed, healthy) = (number(budget, "desiredHealthy"), number(budget, "currentHealthy"));
        return refuse(
            words,
            format!("The disruption budget {name} needs {needed} healthy pods and has {healthy} currently"),
        );
    }
    object::put(budget, &["status", "disruptionsAllowed"], json!(allowed - 1));
    object::put(budget, &["status", "disruptedPods", &cx.info.name], json!(seconds(cx.now)));
    Ok(())
}
