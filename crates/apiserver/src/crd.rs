//! CustomResourceDefinitions: accepted, established, served as kinds like any other, and cleaned up after.
//!
//! `kubernetes/apiextensions-apiserver pkg/controller/{status,establish,finalizer}`: the conditions and their words.

use std::sync::Arc;
use std::time::Duration;

use kinds::apiextensions::custom_resource_definition::FINALIZER;
use kinds::kind::SchemaSource;
use kinds::{Kind, Subresource};
use machinery::field::Path;
use machinery::object;
use machinery::schema::crd;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::cache::Cache;
use crate::catalog::Catalog;
use crate::context::Cx;
use crate::query::{DeleteOptions, FieldValidation, Propagation, WriteOptions};
use crate::server::Inner;
use crate::strategy::{Part, seconds};
use crate::verbs::delete;
use crate::verbs::write::{self, Tracking, Update};

/// How soon a definition under deletion is looked at again while its objects go.
const CLEANUP_EVERY: Duration = Duration::from_millis(100);

/// Serves what is established already, then follows the definitions as long as the server runs.
pub async fn start(server: &Arc<Inner>) -> Result<(), Status> {
    let (kind, cache) =
        definitions(server).ok_or_else(|| Status::internal("CustomResourceDefinitions are not served"))?;
    let definitions = cache.list("").0;
    serve(server, &definitions.iter().map(|definition| definition.value()).collect::<Vec<_>>()).await?;
    tokio::spawn(follow(Arc::clone(server), kind, cache));
    Ok(())
}

fn definitions(server: &Inner) -> Option<(Arc<Kind>, Arc<Cache>)> {
    let catalog = server.catalog.load();
    let kind = catalog.find("apiextensions.k8s.io", "v1", "customresourcedefinitions")?;
    Some((Arc::clone(kind), server.caches.of(kind)?))
}

async fn follow(server: Arc<Inner>, kind: Arc<Kind>, cache: Arc<Cache>) {
    let stop = server.stopping().clone();
    loop {
        let changed = cache.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let again = match settle(&server, &kind, &cache).await {
            Ok(again) => again,
            Err(status) => {
                tracing::warn!(error = %status.message, "custom resource definitions");
                true
            }
        };
        let pause =
            async { if again { tokio::time::sleep(CLEANUP_EVERY).await } else { std::future::pending().await } };
        tokio::select! {
            () = changed => {}
            () = pause => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Brings conditions, finalizers and what is served up to the definitions there are. Answers whether to look again soon.
async fn settle(server: &Arc<Inner>, kind: &Arc<Kind>, cache: &Cache) -> Result<bool, Status> {
    let definitions: Vec<Value> = cache.list("").0.iter().map(|definition| definition.value()).collect();
    serve(server, &definitions).await?;
    let mut again = false;
    for definition in &definitions {
        if object::is_being_deleted(definition) {
            again |= clean_up(server, kind, definition).await?;
        } else {
            accept(server, kind, definition, &definitions).await?;
        }
    }
    Ok(again)
}

fn condition<'a>(definition: &'a Value, of: &str) -> Option<&'a Value> {
    let conditions = definition.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == of)
}

fn is_true(definition: &Value, of: &str) -> bool {
    condition(definition, of).is_some_and(|condition| condition["status"] == "True")
}

fn text<'a>(definition: &'a Value, pointer: &str) -> &'a str {
    definition.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn internal(server: &Arc<Inner>, kind: &Arc<Kind>, name: &str) -> Cx {
    Cx::internal(server, kind, "", name)
}

fn options() -> WriteOptions {
    WriteOptions {
        dry_run: false,
        field_validation: FieldValidation::Ignore,
        field_manager: "kube-apiserver".to_owned(),
        force: false,
    }
}

/// The first name of another established definition, or of a built-in kind, that this one would take too.
fn name_conflict(server: &Inner, definition: &Value, all: &[Value]) -> Option<(&'static str, String)> {
    let group = text(definition, "/spec/group");
    let names = |of: &Value| -> Vec<String> {
        let short = of.pointer("/spec/names/shortNames").and_then(Value::as_array).cloned().unwrap_or_default();
        let plain = ["plural", "singular"].map(|name| text(of, &format!("/spec/names/{name}")).to_owned());
        plain
            .into_iter()
            .chain(short.iter().filter_map(Value::as_str).map(str::to_owned))
            .filter(|name| !name.is_empty())
            .collect()
    };
    let kinds = |of: &Value| ["kind", "listKind"].map(|name| text(of, &format!("/spec/names/{name}")).to_owned());
    let own = object::name(definition);
    for other in all.iter().filter(|other| {
        object::name(other) != own && text(other, "/spec/group") == group && is_true(other, "NamesAccepted")
    }) {
        let taken = names(other);
        if let Some(name) = names(definition).into_iter().find(|name| taken.contains(name)) {
            let reason =
                if name == text(definition, "/spec/names/plural") { "PluralConflict" } else { "ShortNamesConflict" };
            return Some((reason, format!("{name:?} is already in use")));
        }
        let taken = kinds(other);
        if let Some(kind) = kinds(definition).into_iter().find(|kind| taken.contains(kind)) {
            return Some(("KindConflict", format!("{kind:?} is already in use")));
        }
    }
    let catalog = server.catalog.load();
    let built_in =
        catalog.all().iter().filter(|kind| matches!(kind.schema, SchemaSource::Facts(_)) && kind.group == group);
    let mut built_in = built_in.filter(|kind| kind.names.plural == text(definition, "/spec/names/plural"));
    built_in.next().map(|kind| ("PluralConflict", format!("{:?} is already in use", kind.names.plural)))
}

/// NamesAccepted, Established, the accepted names, and the stored versions.
async fn accept(server: &Arc<Inner>, kind: &Arc<Kind>, definition: &Value, all: &[Value]) -> Result<(), Status> {
    let conflict = name_conflict(server, definition, all);
    let cx = internal(server, kind, object::name(definition));
    let now = seconds(cx.now);
    let mut wanted = definition.clone();
    let made = |of: &str, status: bool, reason: &str, message: &str| json!({ "type": of, "status": if status { "True" } else { "False" }, "reason": reason, "message": message, "lastTransitionTime": now });
    let mut set = |condition_: Value| {
        let of = condition_["type"].as_str().unwrap_or_default();
        let same = condition(definition, of)
            .is_some_and(|known| known["status"] == condition_["status"] && known["reason"] == condition_["reason"]);
        if !same {
            crate::subresources::set_condition(&mut wanted, condition_);
        }
    };
    let schema_errors = schema_problem(definition);
    match &conflict {
        Some((reason, message)) => {
            set(made("NamesAccepted", false, reason, message));
            if !is_true(definition, "Established") {
                set(made("Established", false, "NotAccepted", "not all names are accepted"));
            }
        }
        None => {
            set(made("NamesAccepted", true, "NoConflicts", "no conflicts found"));
            set(made("Established", true, "InitialNamesAccepted", "the initial names have been accepted"));
        }
    }
    if let Some(message) = schema_errors {
        set(made("NonStructuralSchema", true, "Violations", &message));
    }
    if conflict.is_none() {
        wanted["status"]["acceptedNames"] = accepted_names(definition);
        wanted["status"]["storedVersions"] = stored_versions(definition);
    }
    let options = options();
    if wanted["status"] != definition["status"] {
        let how = Update {
            part: Part::Sub(Subresource::Status),
            options: &options,
            tracking: Tracking::Update,
            unconditional: true,
        };
        write::update(&cx, &how, |old| {
            let mut new = old.value.clone();
            new["status"] = wanted["status"].clone();
            Ok(new)
        })
        .await?;
    }
    Ok(())
}

fn accepted_names(definition: &Value) -> Value {
    let mut names = definition.pointer("/spec/names").cloned().unwrap_or_else(|| json!({}));
    let kind = text(definition, "/spec/names/kind").to_owned();
    for (name, default) in [("listKind", format!("{kind}List")), ("singular", kind.to_lowercase())] {
        if names.get(name).and_then(Value::as_str).unwrap_or_default().is_empty() {
            names[name] = json!(default);
        }
    }
    names
}

fn stored_versions(definition: &Value) -> Value {
    let mut stored =
        definition.pointer("/status/storedVersions").and_then(Value::as_array).cloned().unwrap_or_default();
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten();
    for version in versions.filter(|version| version["storage"] == true) {
        if !stored.contains(&version["name"]) {
            stored.push(version["name"].clone());
        }
    }
    Value::Array(stored)
}

fn schema_problem(definition: &Value) -> Option<String> {
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten();
    versions.enumerate().find_map(|(at, version)| {
        let path = Path::new("spec").child("versions").index(at).child("schema").child("openAPIV3Schema");
        crd::parse(version.pointer("/schema/openAPIV3Schema")?, &path).err().map(|errors| errors.to_string())
    })
}

/// The kinds of a definition's served versions; none while it is not established.
fn kinds_of(definition: &Value) -> Vec<Arc<Kind>> {
    if !is_true(definition, "Established") {
        return Vec::new();
    }
    let mut kinds = Vec::new();
    let versions = definition.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten();
    for version in versions {
        let name = version["name"].as_str().unwrap_or_default();
        match Kind::from_crd(definition, name) {
            Ok(kind) => kinds.extend(kind.map(Arc::new)),
            Err(errors) => tracing::warn!(definition = object::name(definition), %errors, "a schema cannot be used"),
        }
    }
    kinds.sort_by_key(|kind| std::cmp::Reverse(kinds::custom::rank(&kind.version)));
    kinds
}

/// Puts the definitions' kinds beside the built-in ones, with a cache each, and ends what is defined no more.
async fn serve(server: &Arc<Inner>, definitions: &[Value]) -> Result<(), Status> {
    let custom: Vec<Arc<Kind>> = definitions.iter().flat_map(kinds_of).collect();
    for kind in &custom {
        server.caches.add(kind).await.map_err(crate::registry::store_failed)?;
    }
    let before = server.catalog.load_full();
    let is_custom = |kind: &&Arc<Kind>| matches!(kind.schema, SchemaSource::Custom(_));
    let built_in = before.all().iter().filter(|kind| !is_custom(kind)).cloned();
    let after = Catalog::new(built_in.chain(custom));
    let still = |prefix: &str| after.all().iter().any(|kind| kind.storage_prefix == prefix);
    let gone: Vec<Arc<Kind>> =
        before.all().iter().filter(is_custom).filter(|kind| !still(&kind.storage_prefix)).cloned().collect();
    server.catalog.store(Arc::new(after));
    gone.iter().for_each(|kind| server.caches.remove(kind));
    Ok(())
}

/// Deletes the definition's objects, then lets go of it. Answers whether some are still there.
async fn clean_up(server: &Arc<Inner>, kind: &Arc<Kind>, definition: &Value) -> Result<bool, Status> {
    if !object::finalizers(definition).any(|finalizer| finalizer == FINALIZER) {
        return Ok(false);
    }
    if let Some(custom) = kinds_of(definition).first()
        && let Some(cache) = server.caches.of(custom)
    {
        server.caches.wait_for(server.registry.revision().await?).await?;
        let left = cache.list("").0;
        let options = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
        for instance in left.iter().filter(|instance| !object::is_being_deleted(&instance.value())) {
            let one = Cx::internal(server, custom, instance.namespace(), instance.name());
            match delete::delete_object(&one, &options).await {
                Err(status) if !status.is_not_found() => return Err(status),
                _ => {}
            }
        }
        if !left.is_empty() {
            return Ok(true);
        }
    }
    let cx = internal(server, kind, object::name(definition));
    let options = options();
    let how = Update { part: Part::Whole, options: &options, tracking: Tracking::Update, unconditional: true };
    write::update(&cx, &how, |old| {
        let mut new = old.value.clone();
        let kept: Vec<String> =
            object::finalizers(&new).filter(|known| *known != FINALIZER).map(str::to_owned).collect();
        object::set_finalizers(&mut new, kept);
        Ok(new)
    })
    .await
    .map(|_| false)
}
