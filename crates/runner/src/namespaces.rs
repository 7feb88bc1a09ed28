//! Namespaces being deleted: lists what is left in them, and carries out what `reconcile::namespace` decides.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use reconcile::namespace::{self, Content, View};
use reconcile::{Cache, Change, Resource, meta};
use serde::Deserialize;
use tracing::warn;

use crate::api::{Detail, Refusal};
use crate::discovery::discover;
use crate::execute::Shared;
use crate::queue::Queue;
use crate::tasks::caught_in;

pub const SOURCE: &str = "namespace-controller";
/// How many namespaces are emptied at once, as upstream's controller manager does unless told otherwise.
const WORKERS: usize = 10;

/// The terminating namespaces a change concerns.
pub fn concerned(cache: &Cache, change: &Change) -> Option<String> {
    if let Some(namespace) = change.after::<Namespace>() {
        return namespace::waits(namespace).then(|| meta::name(&namespace.metadata).to_string());
    }
    let gone = change.before::<Pod>().filter(|_| change.new.is_none())?;
    let name = meta::namespace(&gone.metadata);
    let waits = cache.namespaces.get("", name).is_some_and(|n| namespace::waits(&n));
    waits.then(|| name.to_string())
}

pub async fn run(shared: Arc<Shared>, queue: Arc<Queue<String>>) {
    queue.serve(WORKERS, |name| work(&shared, &queue, name)).await;
}

async fn work(shared: &Shared, queue: &Queue<String>, name: String) {
    match caught_in(sync(shared, &name)).await.unwrap_or_else(|panic| Err(Refusal::of_panic(panic))) {
        Ok(again) => {
            queue.forget(&name);
            if let Some(again) = again {
                queue.add_after(name.clone(), again);
            }
        }
        Err(refusal) => {
            warn!(namespace = name, %refusal, "namespace not emptied");
            queue.add_rate_limited(name.clone());
        }
    }
}

/// Plans until a plan leaves nothing to do at once.
async fn sync(shared: &Shared, name: &str) -> Result<Option<std::time::Duration>, Refusal> {
    let (found, undiscovered) = discover(&shared.api).await?;
    let resources: Vec<Resource> = found
        .into_iter()
        .filter(|d| d.resource.namespaced && d.can("delete") && d.can("list"))
        .map(|d| d.resource)
        .collect();
    let mut errors: Vec<String> = Vec::new();
    loop {
        let body = match shared.api_of(SOURCE).get(&format!("/api/v1/namespaces/{name}"), Detail::Whole).await {
            Ok(body) => body,
            Err(refusal) if refusal.is("NotFound") => return Ok(None),
            Err(refusal) => return Err(refusal),
        };
        let namespace: Namespace = serde_json::from_slice(&body).map_err(Refusal::unreadable)?;
        if !namespace::waits(&namespace) {
            return Ok(None);
        }
        let mut content = Vec::new();
        for resource in &resources {
            match left_of(shared, resource, name).await {
                Ok(objects) => content.push(Content { resource: resource.clone(), objects }),
                Err(refusal) if matches!(refusal.code, 404 | 405) => {}
                Err(refusal) => errors.push(refusal.message),
            }
        }
        let view = View {
            namespace: &namespace,
            content,
            undiscovered: undiscovered.clone(),
            errors: std::mem::take(&mut errors),
        };
        let plan = namespace::plan(&view, jiff::Timestamp::now());
        let again = plan.requeue_after;
        let acted = !plan.actions.is_empty();
        if let Err(failed) = shared.carry_out(SOURCE, plan, false).await
            && failed.reason != "Conflict"
        {
            errors.push(failed.message);
            return Ok(again.or(Some(std::time::Duration::from_secs(1))));
        }
        if !acted || again.is_none() {
            return Ok(again);
        }
    }
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    items: Option<Vec<Item>>,
}

#[derive(Deserialize)]
struct Item {
    metadata: ObjectMeta,
}

async fn left_of(shared: &Shared, resource: &Resource, namespace: &str) -> Result<Vec<ObjectMeta>, Refusal> {
    let body = shared.api_of(SOURCE).list(&resource.collection_path(namespace), Detail::Metadata).await?;
    let page: Page = serde_json::from_slice(&body).map_err(Refusal::unreadable)?;
    Ok(page.items.unwrap_or_default().into_iter().map(|item| item.metadata).collect())
}
