//! `kubectl get`'s tables, made on the server from the kind's columns.

use jiff::Timestamp;
use kinds::kind::Column;
use kinds::{Columns, Kind};
use serde_json::{Value, json};

use crate::negotiate::Include;
use crate::openapi::descriptions;
use crate::respond;

/// A table of objects. `head` is false for all but the first event of a watch, as upstream sends the columns once.
pub fn table(kind: &Kind, objects: &[Value], include: Include, head: bool, metadata: Value, now: Timestamp) -> Value {
    let rows: Vec<Value> = objects.iter().map(|object| row(kind, object, include, now)).collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": if head { Value::Array(definitions(kind)) } else { Value::Null },
        "rows": if rows.is_empty() && begins_without_rows(kind) { Value::Null } else { Value::Array(rows) },
    })
}

/// Upstream's generic table begins with no list of rows at all, as does the one of the server for definitions.
fn begins_without_rows(kind: &Kind) -> bool {
    matches!(kind.columns, Columns::Generic) || kind.group == "apiextensions.k8s.io"
}

fn definitions(kind: &Kind) -> Vec<Value> {
    let of = |column: &Column| {
        json!({
            "name": column.name, "type": column.of, "format": column.format, "description": description(column),
            "priority": column.priority,
        })
    };
    let name = of(&kinds::columns::named("Name", 0));
    match &kind.columns {
        Columns::Generic => vec![name, of(&kinds::columns::column("Created At", "date"))],
        Columns::BuiltIn { head, .. } => head.iter().map(of).collect(),
        Columns::Paths(columns) => std::iter::once(name).chain(columns.iter().map(|(column, _)| of(column))).collect(),
    }
}

/// A column's own words, or those of the field it shows.
fn description(column: &Column) -> String {
    const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    let documented_by = match (column.documented_by, column.name.as_ref()) {
        (None, "Name") if column.format == "name" => Some((METADATA, "name")),
        (None, "Age" | "Created At") if column.description.is_empty() => Some((METADATA, "creationTimestamp")),
        (given, _) => given,
    };
    match documented_by {
        Some((definition, field)) => descriptions::of_field(definition, field),
        None => column.description.to_string(),
    }
}

fn row(kind: &Kind, object: &Value, include: Include, now: Timestamp) -> Value {
    let cells = match &kind.columns {
        Columns::Generic => vec![at(object, "/metadata/name"), at(object, "/metadata/creationTimestamp")],
        Columns::BuiltIn { cells, .. } => cells(object, now),
        Columns::Paths(columns) => std::iter::once(at(object, "/metadata/name"))
            .chain(columns.iter().map(|(column, path)| kinds::custom::cell(object, column, path, now)))
            .collect(),
    };
    with_object(cells, object, include)
}

/// A table of one row, for an object that is no kind's own.
pub fn single(head: &[(&str, &str, &str, &str)], cells: Vec<Value>, object: &Value, include: Include) -> Value {
    let define = |(name, of, format, description): &(&str, &str, &str, &str)| json!({ "name": name, "type": of, "format": format, "description": description, "priority": 0 });
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": { "resourceVersion": object.pointer("/metadata/resourceVersion") },
        "columnDefinitions": head.iter().map(define).collect::<Vec<_>>(),
        "rows": [with_object(cells, object, include)],
    })
}

fn with_object(cells: Vec<Value>, object: &Value, include: Include) -> Value {
    match include {
        Include::None => json!({ "cells": cells, "object": null }),
        Include::Metadata => json!({ "cells": cells, "object": respond::partial(object) }),
        Include::Object => json!({ "cells": cells, "object": object }),
    }
}

fn at(object: &Value, pointer: &str) -> Value {
    object.pointer(pointer).cloned().unwrap_or(Value::Null)
}
