//! The kinds of the group `metrics.k8s.io`: a file each. None is stored; each is read off the kubelets when it is asked
//! for. `kubernetes-sigs/metrics-server pkg/api`: shapes, columns and errors.

pub mod node_metrics;
pub mod pod_metrics;

use machinery::quantity::Quantity;
use serde_json::{Value, json};

use crate::columns::named;
use crate::kind::{Column, Str};

const fn figure(name: &'static str, format: &'static str) -> Column {
    Column {
        name: Str::Borrowed(name),
        of: Str::Borrowed("string"),
        format: Str::Borrowed(format),
        priority: 0,
        description: Str::Borrowed(""),
        documented_by: None,
    }
}

static HEAD: &[Column] =
    &[named("Name", 0), figure("cpu", "quantity"), figure("memory", "quantity"), figure("Window", "duration")];

/// The cells of one row: the sums of all `usage` given.
fn row(object: &Value, usage: &[&Value]) -> Vec<Value> {
    let sum = |resource: &str| {
        let amounts = usage.iter().filter_map(|usage| Quantity::parse(usage[resource].as_str()?).ok());
        amounts.reduce(|sum, amount| sum + amount).unwrap_or(Quantity::ZERO).to_string()
    };
    vec![object["metadata"]["name"].clone(), json!(sum("cpu")), json!(sum("memory")), object["window"].clone()]
}
