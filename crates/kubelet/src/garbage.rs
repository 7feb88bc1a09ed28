//! What is left behind: images that nobody uses when the disk fills up, and files of pods that are no more.
//!
//! kubernetes/kubernetes pkg/kubelet/images/image_gc_manager.go: the two marks, the order, how old an image must be.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pods::ports::Image;
use pods::worker::Severity;

use crate::host::Host;

const COLLECT_EVERY: Duration = Duration::from_secs(300);
/// An image that has been here for less stays: it may have been pulled for a container that is about to start.
pub(crate) const IMAGE_AGE_MIN: Duration = Duration::from_secs(120);

/// The longest unused sorts first, and of those that were never seen in use the one that was seen first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Age {
    last_used: Option<Instant>,
    first_seen: Instant,
}

/// The ages of the images that are on this node, by id, as far as this process has looked.
#[derive(Default)]
pub(crate) struct ImageAges(Mutex<HashMap<String, Age>>);

impl ImageAges {
    /// Takes down what is there and in use at `now`, and forgets every other image.
    fn note(&self, images: &[Image], in_use: &HashSet<String>, now: Instant) -> HashMap<String, Age> {
        let mut ages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |image: &Image| {
            let mut age = ages.get(&image.id).copied().unwrap_or(Age { last_used: None, first_seen: now });
            if in_use.contains(&image.id) {
                age.last_used = Some(now);
            }
            (image.id.clone(), age)
        };
        let noted: HashMap<String, Age> = images.iter().map(age).collect();
        ages.clone_from(&noted);
        noted
    }

    /// An image that is removed is a new one when it comes back.
    fn forget(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

pub(crate) async fn collect(host: Arc<Host>) {
    let mut every = tokio::time::interval(COLLECT_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Nothing is removed at once, a starting node has better things to do; but the images' ages count from here.
    every.tick().await;
    if let Err(message) = unused(&host, Instant::now()).await {
        tracing::warn!(message, "images not looked at");
    }
    loop {
        every.tick().await;
        if let Err(message) = collect_images(&host, Instant::now()).await {
            host.events.node(Severity::Warning, "ImageGCFailed", message);
        }
    }
}

/// When the images' disk is fuller than the upper mark, removes unused images, the longest unused at `now` first, down to
/// the lower one.
///
/// # Errors
/// The images could not be listed, one not removed, or there were too few to remove.
pub(crate) async fn collect_images(host: &Host, now: Instant) -> Result<(), String> {
    // However much room there is: this is how it is known when an image was used.
    let images = unused(host, now).await?;
    let usage = host.runtime.image_usage().await.map_err(|error| error.to_string())?;
    if usage.capacity_bytes == 0 {
        return Err("invalid capacity 0 on image filesystem".into());
    }
    let used = usage.capacity_bytes.saturating_sub(usage.available_bytes);
    let share = |percent: u8| usage.capacity_bytes / 100 * u64::from(percent);
    if used < share(host.config.image_gc_high_percent) {
        return Ok(());
    }
    let mut excess = used.saturating_sub(share(host.config.image_gc_low_percent));
    let wanted = excess;
    for image in images {
        if excess == 0 {
            break;
        }
        remove(host, &image).await?;
        excess = excess.saturating_sub(image.size_bytes);
    }
    if excess > 0 {
        return Err(format!(
            "failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found {} bytes eligible to free.",
            wanted - excess
        ));
    }
    Ok(())
}

/// Removes every image that no container of a known pod uses, but those that came lately.
///
/// # Errors
/// The images could not be listed, or one not removed.
pub(crate) async fn remove_unused_images(host: &Host, now: Instant) -> Result<(), String> {
    for image in unused(host, now).await? {
        remove(host, &image).await?;
    }
    Ok(())
}

async fn remove(host: &Host, image: &Image) -> Result<(), String> {
    host.runtime.remove_image(&image.id).await.map_err(|error| error.to_string())?;
    host.image_ages.forget(&image.id);
    Ok(())
}

/// The images that may go at `now`, the longest unused first.
async fn unused(host: &Host, now: Instant) -> Result<Vec<Image>, String> {
    let in_use = in_use(host).await?;
    let mut images = host.runtime.images().await.map_err(|error| error.to_string())?;
    let ages = host.image_ages.note(&images, &in_use, now);
    let is_old = |age: &Age| now.saturating_duration_since(age.first_seen) >= IMAGE_AGE_MIN;
    images.retain(|image| !image.pinned && !in_use.contains(&image.id) && ages.get(&image.id).is_some_and(is_old));
    images.sort_by_key(|image| ages.get(&image.id).copied());
    Ok(images)
}

/// Ids of images that known pods use. A pod may name an image in many ways; the runtime knows which one is meant.
async fn in_use(host: &Host) -> Result<HashSet<String>, String> {
    let mut ids = HashSet::new();
    for name in names_in_use(host) {
        let image = host.runtime.image(&name).await.map_err(|error| error.to_string())?;
        ids.extend(image.map(|image| image.id));
    }
    Ok(ids)
}

fn names_in_use(host: &Host) -> HashSet<String> {
    let mut out = HashSet::new();
    for known in host.pods().values() {
        if let Some(spec) = &known.pod.spec {
            let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
            out.extend(containers.filter_map(|c| c.image.clone()));
            out.extend(spec.volumes.iter().flatten().filter_map(|v| v.image.as_ref()?.reference.clone()));
        }
        let statuses = known.status.iter().flat_map(|s| {
            let lists = [&s.container_statuses, &s.init_container_statuses, &s.ephemeral_container_statuses];
            lists.into_iter().flat_map(|list| list.iter().flatten())
        });
        for status in statuses {
            out.extend([status.image.clone(), status.image_id.clone()]);
        }
    }
    out
}

/// Files of pods that went while no kubelet ran.
pub(crate) fn sweep_pod_files(host: &Host) {
    let known: HashSet<String> = host.pods().keys().cloned().collect();
    let config = &host.config;
    if let Err(error) = remove_files(&config.data_dir, &config.log_dir, |uid| !known.contains(uid)) {
        tracing::warn!(%error, "files of former pods are left");
    }
}

/// Removes volumes, logs and directories of the pods that are `former`. The directory of logs may be shared with another
/// kubelet: only those of pods that have a directory below the data directory are ours.
pub(crate) fn remove_files(data_dir: &Path, log_dir: &Path, former: impl Fn(&str) -> bool) -> std::io::Result<()> {
    let pods = data_dir.join("pods");
    let logs = names(log_dir)?;
    let remove = |uid: &String| -> std::io::Result<()> {
        crate::volumes::tear_down(&pods.join(uid))?;
        for name in logs.iter().filter(|name| name.rsplit_once('_').is_some_and(|(_, of)| of == uid)) {
            crate::files::remove_tree(&log_dir.join(name))?;
        }
        std::fs::remove_dir(pods.join(uid))
    };
    // Each is tried, whatever became of the one before.
    let outcomes: Vec<_> = names(&pods)?.iter().filter(|uid| former(uid)).map(remove).collect();
    outcomes.into_iter().collect()
}

/// The names in a directory, none if it is not there.
pub(crate) fn names(dir: &Path) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_another_kubelet_s_pods_are_left_alone() {
        let root = std::env::temp_dir().join(format!("kubelet-garbage-{}", std::process::id()));
        let (data, logs) = (root.join("data"), root.join("logs"));
        for dir in ["data/pods/u1/volumes/v", "data/pods/u2", "logs/ns_a_u1/c", "logs/ns_b_u2", "logs/ns_c_u3"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        remove_files(&data, &logs, |uid| uid == "u1").unwrap();
        assert_eq!(names(&data.join("pods")).unwrap(), ["u2"]);
        remove_files(&data, &logs, |_| true).unwrap();
        assert_eq!(names(&logs).unwrap(), ["ns_c_u3"]);
        std::fs::remove_dir_all(root).unwrap();
    }
}
