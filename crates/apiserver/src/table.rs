//! `kubectl get`'s tables, made on the server from the kind's columns.

use jiff::Timestamp;
use kinds::{Columns, Kind};
use serde_json::{Value, json};

use crate::negotiate::Include;
use crate::respond;

/// A table of objects. `head` is false for all but the first event of a watch, as upstream sends the columns once.
pub fn table(kind: &Kind, objects: &[Value], include: Include, head: bool, metadata: Value, now: Timestamp) -> Value {
    let rows: Vec<Value> = objects.iter().map(|object| row(kind, object, include, now)).collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": if head { Value::Array(definitions(kind)) } else { Value::Null },
        "rows": rows,
    })
}

fn definitions(kind: &Kind) -> Vec<Value> {
    let define = |name: &str, of: &str, format: &str, description: &str, priority: i32| json!({ "name": name, "type": of, "format": format, "description": description, "priority": priority });
    let of = |column: &kinds::kind::Column| {
        define(&column.name, &column.of, &column.format, &column.description, column.priority)
    };
    let name = define("Name", "string", "name", "Name must be unique within a namespace.", 0);
    match &kind.columns {
        Columns::Generic => {
            vec![
                name,
                define(
                    "Created At",
                    "date",
                    "",
                    "CreationTimestamp is a timestamp representing the server time when this object was created.",
                    0,
                ),
            ]
        }
        Columns::BuiltIn { head, .. } => head.iter().map(of).collect(),
        Columns::Paths(columns) => std::iter::once(name).chain(columns.iter().map(|(column, _)| of(column))).collect(),
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
