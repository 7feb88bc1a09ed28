//! `PodMetrics` (metrics.k8s.io/v1beta1): what the containers of a pod use of processors and memory.

use serde_json::Value;

use crate::columns::list;
use crate::kind::{BuiltInColumns, Computed, Declaration, Kind, Verbs};

pub static POD_METRICS: Kind = Declaration {
    kind: "PodMetrics",
    plural: "pods",
    group: "metrics.k8s.io",
    version: "v1beta1",
    schema: "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics",
    verbs: Verbs::GET.and(Verbs::LIST),
    computed: Some(Computed::PodMetrics),
    columns: Some(BuiltInColumns {
        head: super::HEAD,
        cells: |o, _now| {
            let usage: Vec<&Value> = list(o, "/containers").iter().map(|container| &container["usage"]).collect();
            super::row(o, &usage)
        },
    }),
    ..Declaration::NEW
}
.build();

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    #[test]
    fn a_row_sums_the_containers() {
        let container = |cpu: &str, memory: &str| json!({"name": "c", "usage": {"cpu": cpu, "memory": memory}});
        let pod = json!({
            "metadata": {"name": "web"}, "window": "15.2s",
            "containers": [container("1500000n", "20Ki"), container("500u", "4Ki")],
        });
        let cells = super::POD_METRICS.cells(&pod, Timestamp::UNIX_EPOCH);
        assert_eq!(cells, [json!("web"), json!("2m"), json!("24Ki"), json!("15.2s")]);
    }
}
