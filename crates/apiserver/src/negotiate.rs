//! Which form an answer takes: the media type and, for objects, whether it is sent whole, as a table or as metadata.
//!
//! `kubernetes/apiserver pkg/endpoints/handlers/negotiation: NegotiateOutputMediaType`.

use http::{HeaderMap, header};
use machinery::status::Status;

use crate::query::Query;

/// How bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    Json,
    PrettyJson,
    Yaml,
}

impl Media {
    pub fn content_type(self) -> &'static str {
        match self {
            Media::Json | Media::PrettyJson => "application/json",
            Media::Yaml => "application/yaml",
        }
    }
}

/// What is written of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Whole,
    Table,
    Metadata,
    MetadataList,
}

/// The form an answer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    pub media: Media,
    pub shape: Shape,
    /// What a table's rows carry.
    pub include: Include,
}

/// What a table row's `object` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    None,
    Metadata,
    Object,
}

impl Accept {
    /// Plain JSON, as the server's own in-process calls want.
    pub const JSON: Accept = Accept { media: Media::Json, shape: Shape::Whole, include: Include::Metadata };

    /// Chooses from the `Accept` header, the first clause that can be served winning.
    pub fn negotiate(headers: &HeaderMap, query: &Query) -> Result<Accept, Status> {
        let pretty = wants_pretty(headers, query);
        let include = match query.get("includeObject").unwrap_or_default() {
            "None" => Include::None,
            "Object" => Include::Object,
            _ => Include::Metadata,
        };
        let clauses: Vec<&str> = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|clause| !clause.is_empty())
            .collect();
        if clauses.is_empty() {
            let media = if pretty { Media::PrettyJson } else { Media::Json };
            return Ok(Accept { media, shape: Shape::Whole, include });
        }
        clauses.iter().find_map(|clause| Some(Accept { include, ..read_clause(clause, pretty)? })).ok_or_else(|| {
            Status::not_acceptable(&["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"])
        })
    }
}

fn wants_pretty(headers: &HeaderMap, query: &Query) -> bool {
    if query.get("pretty").is_some() {
        return query.flag("pretty");
    }
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|known| agent.starts_with(known))
}

fn read_clause(clause: &str, pretty: bool) -> Option<Accept> {
    let mut parts = clause.split(';').map(str::trim);
    let media = match parts.next()? {
        "application/json" | "*/*" | "application/*" if pretty => Media::PrettyJson,
        "application/json" | "*/*" | "application/*" => Media::Json,
        "application/yaml" => Media::Yaml,
        _ => return None,
    };
    let (mut kind, mut group, mut version) = ("", "", "");
    for part in parts {
        match part.split_once('=') {
            Some(("as", value)) => kind = value,
            Some(("g", value)) => group = value,
            Some(("v", value)) => version = value,
            _ => {}
        }
    }
    let shape = match (kind, group, version) {
        ("", _, _) => Shape::Whole,
        ("Table", "meta.k8s.io", "v1" | "v1beta1") => Shape::Table,
        ("PartialObjectMetadata", "meta.k8s.io", "v1" | "v1beta1") => Shape::Metadata,
        ("PartialObjectMetadataList", "meta.k8s.io", "v1" | "v1beta1") => Shape::MetadataList,
        _ => return None,
    };
    Some(Accept { media, shape, include: Include::Metadata })
}
