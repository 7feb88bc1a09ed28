//! Which form an answer takes: the media type and, for objects, whether it is sent whole, as a table or as metadata.
//!
//! `kubernetes/apiserver pkg/endpoints/handlers/negotiation: NegotiateOutputMediaType`.

use http::{HeaderMap, header};
use kinds::Kind;
use kinds::kind::SchemaSource;
use machinery::status::Status;

use crate::query::Query;

/// How bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    Json,
    PrettyJson,
    Yaml,
    Protobuf,
}

/// The media types there are, in the order in which a wildcard chooses.
pub const MEDIA_TYPES: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
/// Those in which a watch can be answered.
pub const STREAM_MEDIA_TYPES: [&str; 2] =
    ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

impl Media {
    pub fn content_type(self) -> &'static str {
        match self {
            Media::Json | Media::PrettyJson => MEDIA_TYPES[0],
            Media::Yaml => MEDIA_TYPES[1],
            Media::Protobuf => MEDIA_TYPES[2],
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

/// What can be sent from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Objects of a built-in kind.
    BuiltIn,
    /// Custom resources, which have no protobuf form.
    Custom,
    /// Whatever is no object of a resource: a Status, discovery.
    Plain,
}

impl Endpoint {
    pub fn of(kind: &Kind) -> Endpoint {
        match kind.schema {
            SchemaSource::Facts(_) => Endpoint::BuiltIn,
            SchemaSource::Custom(_) => Endpoint::Custom,
        }
    }

    /// `kubernetes/apiserver pkg/endpoints/handlers/rest.go: AllowsMediaTypeTransform`.
    fn allows(self, media: Media, shape: Shape) -> bool {
        match (self, shape, media) {
            (Endpoint::Plain, shape, _) => shape == Shape::Whole,
            (_, Shape::Table, Media::Protobuf) | (Endpoint::Custom, Shape::Whole, Media::Protobuf) => false,
            _ => true,
        }
    }
}

impl Accept {
    /// Plain JSON, as the server's own in-process calls want.
    pub const JSON: Accept = Accept { media: Media::Json, shape: Shape::Whole, include: Include::Metadata };

    /// Chooses from the `Accept` header, the first clause that can be served winning.
    pub fn negotiate(headers: &HeaderMap, query: &Query, endpoint: Endpoint) -> Result<Accept, Status> {
        let include = match query.get("includeObject").unwrap_or_default() {
            "None" => Include::None,
            "Object" => Include::Object,
            _ => Include::Metadata,
        };
        let header = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let pretty = wants_pretty(headers, query);
        if header.is_empty() {
            let media = if pretty { Media::PrettyJson } else { Media::Json };
            return Ok(Accept { media, shape: Shape::Whole, include });
        }
        let found = clauses(header).iter().find_map(|clause| clause.choose(endpoint, pretty));
        let (media, shape) = found.ok_or_else(|| Status::not_acceptable(&MEDIA_TYPES))?;
        Ok(Accept { media, shape, include })
    }
}

fn wants_pretty(headers: &HeaderMap, query: &Query) -> bool {
    if query.get("pretty").is_some_and(|value| !value.is_empty()) {
        return query.flag("pretty");
    }
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|known| agent.starts_with(known))
}

/// One alternative of an `Accept` header.
#[derive(Debug)]
struct Clause<'a> {
    media: (&'a str, &'a str),
    quality: f64,
    parameters: Vec<(&'a str, &'a str)>,
}

/// The alternatives, the best first. `munnerz/goautoneg: ParseAccept`, whose order is not one of numbers alone, and which
/// its sort therefore shapes too: up to twelve elements are sorted by insertion.
fn clauses(header: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = header.split(',').filter_map(Clause::read).collect();
    for from in 1..clauses.len() {
        let mut at = from;
        while at > 0 && clauses[at].goes_before(&clauses[at - 1]) {
            clauses.swap(at, at - 1);
            at -= 1;
        }
    }
    clauses
}

impl<'a> Clause<'a> {
    fn read(text: &'a str) -> Option<Clause<'a>> {
        let (media, rest) = text.trim_matches(' ').split_once(';').unwrap_or((text.trim_matches(' '), ""));
        let media = match media.split_once('/') {
            Some((of, sub)) if !sub.is_empty() && !sub.contains('/') => (of.trim_matches(' '), sub.trim_matches(' ')),
            None if media.trim_matches(' ') == "*" => ("*", "*"),
            _ => return None,
        };
        let mut clause = Clause { media, quality: 1.0, parameters: Vec::new() };
        for (name, value) in rest.split(';').filter_map(|parameter| parameter.split_once('=')) {
            match name.trim_matches(' ') {
                _ if value.is_empty() || value.contains('=') => {}
                "q" => clause.quality = value.parse().unwrap_or(0.0),
                name => clause.parameters.push((name, value.trim_matches(' '))),
            }
        }
        Some(clause)
    }

    fn goes_before(&self, other: &Clause<'_>) -> bool {
        self.quality > other.quality
            || (self.media.0 != "*" && other.media.0 == "*")
            || (self.media.1 != "*" && other.media.1 == "*")
    }

    fn parameter(&self, name: &str) -> &'a str {
        self.parameters.iter().rev().find(|(key, _)| *key == name).map_or("", |(_, value)| *value)
    }

    fn choose(&self, endpoint: Endpoint, pretty: bool) -> Option<(Media, Shape)> {
        let shape = self.shape()?;
        [Media::Json, Media::Yaml, Media::Protobuf].into_iter().find_map(|media| {
            let sub = media.content_type().trim_start_matches("application/");
            let named = matches!(self.media, ("*", "*") | ("application", "*")) || self.media == ("application", sub);
            // YAML cannot be told apart in a stream; and of streams there is one.
            let stream = self.parameter("stream");
            let streams = stream.is_empty() || (stream == "watch" && media != Media::Yaml);
            if !named || !streams || !endpoint.allows(media, shape) {
                return None;
            }
            let pretty = media == Media::Json && (pretty || self.parameter("pretty") == "1");
            Some((if pretty { Media::PrettyJson } else { media }, shape))
        })
    }

    /// What the clause asks to be made of an object; nothing if that cannot be done.
    fn shape(&self) -> Option<Shape> {
        match (self.parameter("as"), self.parameter("g"), self.parameter("v")) {
            ("", "", "") => Some(Shape::Whole),
            ("Table", "meta.k8s.io", "v1" | "v1beta1") => Some(Shape::Table),
            ("PartialObjectMetadata", "meta.k8s.io", "v1" | "v1beta1") => Some(Shape::Metadata),
            ("PartialObjectMetadataList", "meta.k8s.io", "v1" | "v1beta1") => Some(Shape::MetadataList),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept: &str, endpoint: Endpoint) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        match Accept::negotiate(&headers, &Query::default(), endpoint) {
            Ok(accept) => format!("{:?} {:?}", accept.media, accept.shape),
            Err(status) => status.message,
        }
    }

    #[test]
    fn the_first_clause_that_can_be_served_wins() {
        let refused = format!("only the following media types are accepted: {}", MEDIA_TYPES.join(", "));
        let protobuf = "application/vnd.kubernetes.protobuf";
        let table = "as=Table;g=meta.k8s.io;v=v1";
        for (accept, endpoint, expected) in [
            ("*/*".to_owned(), Endpoint::BuiltIn, "Json Whole"),
            (format!("{protobuf},application/json"), Endpoint::BuiltIn, "Protobuf Whole"),
            (format!("{protobuf},application/json"), Endpoint::Custom, "Json Whole"),
            (protobuf.to_owned(), Endpoint::Custom, &refused),
            (protobuf.to_owned(), Endpoint::Plain, "Protobuf Whole"),
            (format!("{protobuf};stream=watch"), Endpoint::BuiltIn, "Protobuf Whole"),
            (format!("{protobuf};{table}"), Endpoint::BuiltIn, &refused),
            (format!("{protobuf};{table},application/json;{table}"), Endpoint::BuiltIn, "Json Table"),
            (format!("{protobuf};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"), Endpoint::Custom, "Protobuf Metadata"),
            (format!("application/json;{table},application/yaml"), Endpoint::Plain, "Yaml Whole"),
            ("application/json;q=0.5,application/yaml;q=0.9".to_owned(), Endpoint::BuiltIn, "Yaml Whole"),
            ("*/*,application/yaml;q=0.1".to_owned(), Endpoint::BuiltIn, "Yaml Whole"),
            ("application/json;pretty=1".to_owned(), Endpoint::BuiltIn, "PrettyJson Whole"),
            ("application/yaml;stream=watch".to_owned(), Endpoint::BuiltIn, &refused),
            ("text/html".to_owned(), Endpoint::BuiltIn, &refused),
        ] {
            assert_eq!(chosen(&accept, endpoint), expected, "{accept} {endpoint:?}");
        }
    }
}
