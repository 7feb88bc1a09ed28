//! The condition by which a FlowSchema says whether its priority level exists.
//!
//! `kubernetes/apiserver pkg/util/flowcontrol/apf_controller.go: presyncFlowSchemaStatus`: its words.

use std::sync::Arc;

use kinds::{Kind, Subresource};
use machinery::object;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::cache::Cache;
use crate::context::Cx;
use crate::query::{FieldValidation, WriteOptions};
use crate::server::Inner;
use crate::strategy::{Part, seconds};
use crate::verbs::write::{self, Tracking, Update};
use crate::{codec, managed};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const MANAGER: &str = "api-priority-and-fairness-config-consumer-v1";

/// Follows FlowSchemas and priority levels as long as the server runs.
pub async fn follow(server: Arc<Inner>) {
    let stop = server.stopping().clone();
    let (Some((kind, schemas)), Some((_, levels))) =
        (cached(&server, "flowschemas"), cached(&server, "prioritylevelconfigurations"))
    else {
        return;
    };
    loop {
        let (schema, level) = (schemas.changed(), levels.changed());
        tokio::pin!(schema, level);
        schema.as_mut().enable();
        level.as_mut().enable();
        if let Err(status) = settle(&server, &kind, &schemas, &levels).await {
            tracing::warn!(error = %status.message, "conditions of flow schemas");
        }
        tokio::select! {
            () = schema => {}
            () = level => {}
            () = stop.cancelled() => return,
        }
    }
}

fn cached(server: &Inner, plural: &str) -> Option<(Arc<Kind>, Arc<Cache>)> {
    let catalog = server.catalog.load();
    let kind = catalog.find(GROUP, "v1", plural)?;
    Some((Arc::clone(kind), server.caches.of(kind)?))
}

async fn settle(server: &Arc<Inner>, kind: &Arc<Kind>, schemas: &Cache, levels: &Cache) -> Result<(), Status> {
    let levels: Vec<String> = levels.list("").0.iter().map(|level| level.name().to_owned()).collect();
    for schema in schemas.list("").0 {
        let cx = Cx::internal(server, kind, "", schema.name());
        if let Some(wanted) = wanted(&schema.value(), &levels, &seconds(cx.now)) {
            apply(&cx, &wanted).await?;
        }
    }
    Ok(())
}

/// What a schema is to say, where it does not yet.
fn wanted(schema: &Value, levels: &[String], now: &str) -> Option<Value> {
    let level = schema.pointer("/spec/priorityLevelConfiguration/name").and_then(Value::as_str).unwrap_or_default();
    let (status, reason, rest) = match levels.iter().any(|known| known == level) {
        true => ("False", "Found", "and it exists"),
        false => ("True", "NotFound", "but there is no such object"),
    };
    let message = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {rest}");
    let conditions = schema.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let present = conditions.into_iter().find(|condition| condition["type"] == "Dangling");
    let says = |field: &str, value: &str| present.is_some_and(|present| present[field] == value);
    if says("status", status) && says("reason", reason) && says("message", &message) {
        return None;
    }
    let since = present
        .filter(|_| says("status", status))
        .map_or_else(|| json!(now), |known| known["lastTransitionTime"].clone());
    Some(json!({
        "apiVersion": schema["apiVersion"], "kind": schema["kind"], "metadata": { "name": object::name(schema) },
        "status": { "conditions": [{
            "type": "Dangling", "status": status, "reason": reason, "message": message, "lastTransitionTime": since,
        }] },
    }))
}

async fn apply(cx: &Cx, wanted: &Value) -> Result<(), Status> {
    let part = Part::Sub(Subresource::Status);
    let options = WriteOptions {
        dry_run: false,
        field_validation: FieldValidation::Ignore,
        field_manager: MANAGER.to_owned(),
        force: true,
    };
    let how = Update { part: part.clone(), options: &options, tracking: Tracking::Applied, unconditional: true };
    let written = write::update(cx, &how, |old| {
        let merged = managed::applied(cx, &old.value, wanted, MANAGER, &part, true)?;
        codec::check(cx, merged, wanted, FieldValidation::Ignore)
    });
    written.await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_says_whether_its_level_exists() {
        let mut schema = json!({
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": "s"},
            "spec": {"priorityLevelConfiguration": {"name": "l"}},
        });
        let levels = ["l".to_owned()];
        let found = wanted(&schema, &levels, "now").expect("nothing is said yet");
        assert_eq!(found["status"]["conditions"][0]["status"], "False");
        schema["status"] = found["status"].clone();
        assert_eq!(wanted(&schema, &levels, "later"), None);
        let dangling = wanted(&schema, &[], "later").expect("the level is gone");
        assert_eq!(dangling["status"]["conditions"][0]["reason"], "NotFound");
        assert_eq!(dangling["status"]["conditions"][0]["lastTransitionTime"], "later");
    }
}
