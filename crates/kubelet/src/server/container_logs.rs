//! `/containerLogs/{namespace}/{pod}/{container}`.

use std::sync::Arc;

use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ContainerStatus;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::{Body, text};
use crate::host::{Host, Known};
use crate::logs::read::{Wanted, send};

pub(super) async fn serve(
    host: &Arc<Host>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &[(String, String)],
) -> Response<Body> {
    let (wanted, previous) = match parse(query, Timestamp::now()) {
        Ok(wanted) => wanted,
        Err(words) => return text(StatusCode::BAD_REQUEST, words),
    };
    let Some(known) = host.pod_named(namespace, pod) else {
        return text(StatusCode::NOT_FOUND, format!("pod {pod:?} not found\n"));
    };
    let attempt = match attempt(&known, pod, container, previous) {
        Ok(attempt) => attempt,
        Err(words) => return text(StatusCode::BAD_REQUEST, words),
    };
    let log = host.pod_log_dir(&known.pod).join(container).join(format!("{attempt}.log"));
    if !log.exists() {
        let words =
            format!("failed to try resolving symlinks in path {:?}: no such file or directory\n", log.display());
        return text(StatusCode::INTERNAL_SERVER_ERROR, words);
    }
    let (to, from) = tokio::sync::mpsc::channel(8);
    let runs = {
        let (host, uid, name) = (Arc::clone(host), crate::host::uid(&known.pod).to_string(), container.to_string());
        move || host.pods().get(&uid).and_then(|known| super::running_attempt(known, &name)) == Some(attempt)
    };
    tokio::spawn(async move {
        if let Err(error) = send(log, wanted, to.clone(), runs).await {
            to.send(Err(error)).await.ok();
        }
    });
    let body = StreamBody::new(ReceiverStream::new(from).map(|bytes| bytes.map(Frame::data)));
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    response
}

fn parse(query: &[(String, String)], now: Timestamp) -> Result<(Wanted, bool), String> {
    let mut wanted = Wanted::default();
    let mut previous = false;
    for (name, value) in query.iter().filter(|(_, value)| !value.is_empty()) {
        let invalid = || format!("invalid value {value:?} for {name}\n");
        let truth = || value == "true" || value == "1";
        let number = || value.parse::<i64>().map_err(|_| invalid());
        match name.as_str() {
            "follow" => wanted.follow = truth(),
            "previous" => previous = truth(),
            "timestamps" => wanted.timestamps = truth(),
            "tailLines" => wanted.tail_lines = Some(u64::try_from(number()?).map_err(|_| invalid())?),
            "limitBytes" => wanted.limit_bytes = Some(usize::try_from(number()?).map_err(|_| invalid())?),
            "sinceSeconds" => wanted.since = now.checked_sub(SignedDuration::from_secs(number()?)).ok(),
            "sinceTime" => wanted.since = Some(value.parse().map_err(|_| invalid())?),
            "stream" if value != "All" => wanted.stream = Some(value.to_lowercase()),
            _ => {}
        }
    }
    Ok((wanted, previous))
}

/// Which attempt's log is meant.
///
/// kubernetes/kubernetes pkg/kubelet/kubelet_pods.go (validateContainerLogStatus): order and words.
fn attempt(known: &Known, pod: &str, container: &str, previous: bool) -> Result<u32, String> {
    let missing = || format!("container {container:?} in pod {pod:?} is not available");
    let status = known.status.as_ref().ok_or_else(missing)?;
    let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    let mut all = lists.into_iter().flat_map(|list| list.iter().flatten());
    let status: &ContainerStatus = all.find(|status| status.name == container).ok_or_else(missing)?;
    let number = |id: Option<&String>| id.and_then(|id| id.rsplit('/').next()).and_then(|n| n.parse().ok());
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let last = last.and_then(|ended| number(ended.container_id.as_ref()));
    if previous {
        return last.ok_or_else(|| format!("previous terminated container {container:?} in pod {pod:?} not found"));
    }
    let state = status.state.clone().unwrap_or_default();
    if state.running.is_some() {
        return number(status.container_id.as_ref()).ok_or_else(missing);
    }
    let ended = state.terminated.and_then(|ended| number(ended.container_id.as_ref()));
    if let Some(attempt) = ended.or(last) {
        return Ok(attempt);
    }
    let reason = state.waiting.and_then(|waiting| waiting.reason).unwrap_or_default();
    let why = match reason.as_str() {
        "ErrImagePull" => "image can't be pulled",
        "ImagePullBackOff" => "trying and failing to pull image",
        other => other,
    };
    Err(format!("container {container:?} in pod {pod:?} is waiting to start: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_strictly() {
        let pairs =
            |list: &[(&str, &str)]| list.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect::<Vec<_>>();
        let now: Timestamp = "2026-11-22T19:00:10Z".parse().unwrap();
        let (wanted, previous) =
            parse(&pairs(&[("follow", "true"), ("tailLines", "5"), ("sinceSeconds", "10"), ("previous", "true")]), now)
                .unwrap();
        assert!(wanted.follow && previous);
        assert_eq!((wanted.tail_lines, wanted.since.unwrap().to_string()), (Some(5), "2026-11-22T19:00:00Z".into()));
        assert!(parse(&pairs(&[("tailLines", "-1")]), now).is_err());
    }
}
