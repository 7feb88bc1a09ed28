//! Bodies to objects: media types, strict field validation, YAML.

use kinds::kind::SchemaSource;
use kinds::{protobuf, registered};
use machinery::decode::{self, DecodeError, Decoded, Problem};
use machinery::object;
use machinery::schema::Schema;
use machinery::status::Status;
use serde_json::Value;

use crate::context::{Cx, Payload};
use crate::negotiate::MEDIA_TYPES;
use crate::query::FieldValidation;
use crate::strategy;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// The version and kind that a body is of if it does not say so.
type Expected<'a> = (&'a str, &'a str);

fn parse(
    payload: &Payload,
    schema: Option<&Schema>,
    expected: Expected<'_>,
) -> Result<Result<Decoded, DecodeError>, Status> {
    match payload.media_type() {
        "" | "application/json" | "*/*" => Ok(decode::json(&payload.bytes, schema)),
        "application/yaml" | "text/yaml" => Ok(decode::yaml(&payload.bytes, schema)),
        PROTOBUF => Ok(unpack(&payload.bytes, schema, expected)),
        _ => Err(Status::unsupported_media_type(&MEDIA_TYPES)),
    }
}

fn open<'a>(bytes: &'a [u8], (version, kind): Expected<'_>) -> Result<protobuf::Envelope<'a>, protobuf::Unreadable> {
    let mut opened = protobuf::open(bytes)?;
    if opened.kind.is_empty() {
        opened.kind = kind.to_owned();
    }
    if opened.api_version.is_empty() {
        opened.api_version = version.to_owned();
    }
    Ok(opened)
}

fn unpack(bytes: &[u8], schema: Option<&Schema>, expected: Expected<'_>) -> Result<Decoded, DecodeError> {
    let read = open(bytes, expected).and_then(protobuf::Envelope::read);
    let value = read.map_err(|error| DecodeError::Syntax(error.to_string()))?;
    match schema {
        Some(schema) => decode::value(value, schema),
        None => Ok(Decoded { value, problems: Vec::new() }),
    }
}

/// A body as far as it has to be read to know of what kind it is: in protobuf its envelope. The error is upstream's text.
fn head(payload: &Payload, expected: Expected<'_>) -> Result<Result<Decoded, String>, Status> {
    if payload.media_type() == PROTOBUF {
        let of = |it: protobuf::Envelope<'_>| serde_json::json!({ "apiVersion": it.api_version, "kind": it.kind });
        let opened = open(&payload.bytes, expected).map(|it| Decoded { value: of(it), problems: Vec::new() });
        return Ok(opened.map_err(|error| error.to_string()));
    }
    let is_yaml = payload.media_type().ends_with("/yaml");
    Ok(parse(payload, None, expected)?.map_err(|error| match is_yaml {
        true => error.to_string().trim_start_matches("error converting YAML to JSON: ").to_owned(),
        false => unparsed(&error.to_string()),
    }))
}

fn unparsed(error: &str) -> String {
    format!("couldn't get version/kind; json parse error: {error}")
}

/// A body as a tree, whatever it says.
pub fn tree(payload: &Payload) -> Result<Value, Status> {
    match parse(payload, None, ("", ""))? {
        Ok(decoded) => Ok(decoded.value),
        Err(error) => Err(Status::bad_request(unparsed(&error.to_string()))),
    }
}

const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// DeleteOptions of the right types, where a body is given at all. Unknown fields are passed over.
/// `kubernetes/apiserver pkg/endpoints/handlers/delete.go: DeleteResource`.
pub fn delete_options(payload: &Payload) -> Result<Option<Value>, Status> {
    if payload.bytes.is_empty() {
        return Ok(None);
    }
    let bare = tree(payload)?;
    let value = match bare {
        Value::Object(_) => {
            as_type(payload, DELETE_OPTIONS)?.map_err(|error| Status::bad_request(error.to_string()))?
        }
        Value::Null => return Ok(Some(Value::Object(serde_json::Map::new()))),
        other => return Err(Status::bad_request(no_object(&other))),
    };
    match (object::kind(&value), object::api_version(&value)) {
        ("" | "DeleteOptions", _) => Ok(Some(value)),
        (kind, version) => Err(Status::bad_request(format!(
            "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:111\""
        ))),
    }
}

/// What upstream says of a body that has no members to look for its kind in.
fn no_object(value: &Value) -> String {
    let go = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
    unparsed(&format!("json: cannot unmarshal {} into Go value of type {go}", type_of(value)))
}

/// What is wrong with a body's version or kind when it is no text; they are read before anything else.
fn unreadable_kind(value: &Value) -> Option<String> {
    let fields = value.as_object()?;
    let (name, wrong) = fields.iter().find(|(name, value)| {
        matches!(name.as_str(), "apiVersion" | "kind") && !(value.is_string() || value.is_null())
    })?;
    Some(format!("json: cannot unmarshal {} into Go struct field .{name} of type string", type_of(wrong)))
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::Object(_) | Value::Null => "object",
    }
}

fn as_type(payload: &Payload, definition: &'static str) -> Result<Result<Value, DecodeError>, Status> {
    let expected = version_and_kind(definition);
    let decoded = parse(payload, Some(&kinds::facts::schema(definition)), (&expected.0, expected.1))?;
    Ok(decoded.map(|decoded| decoded.value))
}

/// The first version and kind of a definition's.
fn version_and_kind(definition: &'static str) -> (String, &'static str) {
    let of = kinds::facts::definition(definition).and_then(|facts| facts.kinds.first());
    let (group, version, kind) = of.copied().unwrap_or_default();
    (if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }, kind)
}

/// A body as one of the facts' types, `io.k8s.api.policy.v1.Eviction`, that is no kind of its own. It may be of other
/// versions too, if they are the same.
pub fn typed(payload: &Payload, definition: &'static str, or: &[&str]) -> Result<Value, Status> {
    let (expected, kind) = version_and_kind(definition);
    let head = head(payload, (&expected, kind))?.map_err(Status::bad_request)?.value;
    let (given_version, given) = (object::api_version(&head), object::kind(&head));
    let bare = |version: &str| version.rsplit('/').next().unwrap_or_default().to_owned();
    let words = |given: &str, version: &str, error: &str| {
        let version = bare(version);
        Status::bad_request(format!("{given} in version {version:?} cannot be handled as a {kind}: {error}"))
    };
    if !given.is_empty() && given != kind {
        let mut group = definition.rsplit('.').skip(2);
        let (from, group) = (bare(given_version), group.next().unwrap_or_default());
        let error = format!("converting ({from}.{given}) to ({group}.{kind}): unknown conversion");
        return Err(words(given, given_version, &error));
    }
    let accepted = given_version.is_empty() || given_version == expected || or.contains(&given_version);
    if !accepted && registered::is_registered(given_version, kind) {
        return Err(Status::bad_request(mismatch(given_version, &expected)));
    }
    as_type(payload, definition)?.map_err(|error| words(kind, &expected, &error.to_string()))
}

fn mismatch(given: &str, expected: &str) -> String {
    format!("the API version in the data ({given}) does not match the expected API version ({expected})")
}

/// An object of the request's kind: checked, defaulted, its fields validated as asked.
pub fn decode(cx: &Cx, payload: &Payload, validation: FieldValidation) -> Result<Value, Status> {
    let (version, kind) = (cx.kind.api_version(), &cx.kind.names.kind);
    let unrecognized = |words: &str| {
        let shown = summary(&payload.bytes);
        Status::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {words} ({shown})"))
    };
    let schema = built_in_schema(cx);
    if schema.is_none() && payload.media_type() == PROTOBUF {
        return Err(Status::unsupported_media_type(&MEDIA_TYPES[..2]));
    }
    let head = head(payload, (&version, kind))?.map_err(|words| unrecognized(&words))?;
    if !head.value.is_object() {
        return Err(unrecognized(&no_object(&head.value)));
    }
    if let Some(words) = unreadable_kind(&head.value) {
        return Err(unrecognized(&unparsed(&words)));
    }
    if let Err(other) = check_kind(cx, &head.value) {
        return Err(other.of_body(cx));
    }
    let decoded = match schema {
        None => Ok(head),
        Some(schema) => parse(payload, Some(&schema), (&version, kind))?,
    };
    let decoded = decoded.map_err(|error| unreadable(cx, &bare_kind(cx), &error.to_string()))?;
    let value = finish(cx, decoded, validation, |words| unreadable(cx, &bare_kind(cx), words))?;
    Ok(value)
}

/// The same for a tree that a patch has made; `patch` is what a refusal shows.
pub fn check(cx: &Cx, value: Value, patch: &Value, validation: FieldValidation) -> Result<Value, Status> {
    let refuse = |words: &str| machinery::patch::undecodable(patch, words);
    check_kind(cx, &value).map_err(|other| refuse(&other.words))?;
    let decoded = match built_in_schema(cx) {
        None => Decoded { value, problems: Vec::new() },
        Some(schema) => decode::value(value, &schema).map_err(|error| refuse(&error.to_string()))?,
    };
    finish(cx, decoded, validation, refuse)
}

/// Custom resources are decoded as they come, and pruned by their own schema afterwards.
fn built_in_schema(cx: &Cx) -> Option<Schema> {
    match &cx.kind.schema {
        SchemaSource::Facts(_) => Some(cx.kind.schema()),
        SchemaSource::Custom(_) => None,
    }
}

fn finish(
    cx: &Cx,
    decoded: Decoded,
    validation: FieldValidation,
    refuse: impl Fn(&str) -> Status,
) -> Result<Value, Status> {
    let Decoded { mut value, mut problems } = decoded;
    if let SchemaSource::Custom(schema) = &cx.kind.schema {
        problems.extend(schema.prune(&mut value).into_iter().map(Problem::Unknown));
        schema.drop_nulls(&mut value);
    }
    match validation {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => problems.iter().for_each(|problem| cx.warn(problem.to_string())),
        FieldValidation::Strict => {
            if let Some(words) = decode::strict_error(&problems) {
                return Err(refuse(&words));
            }
        }
    }
    value["apiVersion"] = Value::String(cx.kind.api_version());
    value["kind"] = Value::String(cx.kind.names.kind.to_string());
    strategy::default(&cx.kind, &mut value);
    Ok(value)
}

fn bare_kind(cx: &Cx) -> (String, String) {
    (cx.kind.names.kind.to_string(), cx.kind.version.to_string())
}

/// `kubernetes/apiserver pkg/endpoints/handlers/rest.go: transformDecodeError`.
fn unreadable(cx: &Cx, (kind, version): &(String, String), error: &str) -> Status {
    Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {}: {error}", cx.kind.names.kind))
}

/// `kubernetes/apiserver pkg/endpoints/handlers/rest.go: summarizeData`, thirty bytes of it.
fn summary(bytes: &[u8]) -> String {
    const SHOWN: usize = 30;
    let cut = &bytes[..bytes.len().min(SHOWN)];
    let more = if bytes.len() > SHOWN { " ..." } else { "" };
    match bytes.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(cut)),
        Some(_) => format!("{}{more}", cut.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}

/// A body of another kind or version than the resource's.
struct OtherKind {
    kind: String,
    version: String,
    words: String,
    /// It is of the resource's kind, in another of its versions.
    known_version: bool,
}

impl OtherKind {
    /// `kubernetes/apiserver pkg/endpoints/handlers/create.go: the body must be of the resource's own version and kind`.
    fn of_body(self, cx: &Cx) -> Status {
        match self.known_version {
            true => Status::bad_request(self.words),
            false => unreadable(cx, &(self.kind, self.version), &self.words),
        }
    }
}

fn check_kind(cx: &Cx, value: &Value) -> Result<(), OtherKind> {
    let (version, kind) = (cx.kind.api_version(), cx.kind.names.kind.to_string());
    let given_version = Some(object::api_version(value)).filter(|text| !text.is_empty()).unwrap_or(&version);
    let given_kind = Some(object::kind(value)).filter(|text| !text.is_empty()).unwrap_or(&kind);
    if given_kind == kind && given_version == version {
        return Ok(());
    }
    let catalog = cx.server.catalog.load();
    let (group, bare) = given_version.rsplit_once('/').unwrap_or(("", given_version));
    let known =
        catalog.by_kind(group, bare, given_kind).is_some() || registered::is_registered(given_version, given_kind);
    let words = match (known, given_kind == kind) {
        (true, true) => mismatch(given_version, &version),
        (true, false) => format!(
            "converting ({bare}.{given_kind}) to ({}.{kind}): unknown conversion",
            if cx.kind.group.is_empty() { "core" } else { &cx.kind.group }
        ),
        (false, _) => format!(
            "no kind {given_kind:?} is registered for version {given_version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
        ),
    };
    Err(OtherKind {
        kind: given_kind.to_owned(),
        version: bare.to_owned(),
        words,
        known_version: known && given_kind == kind,
    })
}
