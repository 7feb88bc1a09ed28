//! What a client is warned of when it makes a pod, or a template of pods, that is valid and yet hardly meant so.
//!
//! `kubernetes/kubernetes pkg/api/pod/warnings.go`: which warnings there are and how they read.

use machinery::go;

use super::At;
use super::resources::amount;

/// Labels that have a newer name, and what to use in their place.
const OLD_LABELS: [(&str, &str); 8] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
    ("beta.kubernetes.io/instance-type", "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    ("scheduler.alpha.kubernetes.io/preferAvoidPods", "deprecated since v1.22; use Taints and Tolerations instead"),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];

/// Volumes that are no longer served, and since when.
const OLD_VOLUMES: [(&str, &str); 9] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";

fn old_label(key: &str) -> Option<&'static str> {
    OLD_LABELS.iter().find(|(old, _)| *old == key).map(|(_, instead)| *instead)
}

/// The warnings of a pod, or of a template where it stands.
pub fn pod(pod: &At) -> Vec<String> {
    let mut warnings = Vec::new();
    let spec = pod.field("spec");
    for (key, entry) in spec.field("nodeSelector").entries() {
        warnings.extend(old_label(key).map(|instead| format!("{}: {instead}", entry.path)));
    }
    for constraint in spec.field("topologySpreadConstraints").items() {
        let (key, selector) = (constraint.field("topologyKey"), constraint.field("labelSelector"));
        warnings.extend(old_label(key.text()).map(|instead| format!("{}: {} is {instead}", key.path, key.text())));
        if !selector.is_set() {
            warnings.push(format!("{}: {NO_SELECTOR}", selector.path));
        }
    }
    for volume in spec.field("volumes").items() {
        volume_warnings(&volume, &mut warnings);
    }
    repeated(&spec.field("hostAliases"), "ip", &mut warnings);
    repeated(&spec.field("imagePullSecrets"), "name", &mut warnings);
    for name in spec.field("imagePullSecrets").items().map(|secret| secret.field("name")) {
        if name.is_empty() {
            warnings.push(format!("{}: invalid empty name \"\"", name.path));
        }
    }
    for list in ["initContainers", "containers"] {
        spec.field(list).items().for_each(|container| container_warnings(&container, &mut warnings));
    }
    port_names(&spec, &mut warnings);
    let grace = spec.field("terminationGracePeriodSeconds");
    if grace.int() < 0 {
        warnings.push(format!("{}: must be >= 0; negative values are invalid and will be treated as 1", grace.path));
    }
    affinity(&spec.field("affinity"), &mut warnings);
    warnings
}

fn affinity(affinity: &At, warnings: &mut Vec<String>) {
    for of in ["podAffinity", "podAntiAffinity"].map(|name| affinity.field(name)) {
        let required = of.field("requiredDuringSchedulingIgnoredDuringExecution");
        let preferred = of.field("preferredDuringSchedulingIgnoredDuringExecution");
        let terms = required.items().chain(preferred.items().map(|weighted| weighted.field("podAffinityTerm")));
        for selector in terms.map(|term| term.field("labelSelector")).filter(|selector| !selector.is_set()) {
            warnings.push(format!("{}: {NO_SELECTOR}", selector.path));
        }
    }
}

fn volume_warnings(volume: &At, warnings: &mut Vec<String>) {
    for (name, since) in OLD_VOLUMES {
        warnings.extend(volume.set(name).map(|source| format!("{}: {since}", source.path)));
    }
    for source in volume.fields(&["projected", "sources"]).items() {
        if source.count() == 0 {
            let name = go::quote(volume.field("name").text());
            warnings.push(format!("volume {name} (Projected) has no sources provided"));
        }
    }
}

/// Items of a list that say the same in a field which tells them apart.
fn repeated(list: &At, field: &str, warnings: &mut Vec<String>) {
    let mut seen = Vec::new();
    for at in list.items().map(|item| item.field(field)) {
        if seen.contains(&at.text()) {
            warnings.push(format!("{}: duplicate {field} {}", at.path, go::quote(at.text())));
        }
        seen.push(at.text());
    }
}

fn container_warnings(container: &At, warnings: &mut Vec<String>) {
    for resource in ["memory", "ephemeral-storage"] {
        for list in ["limits", "requests"] {
            let entries = container.fields(&["resources", list]);
            let Some(entry) = entries.entries().find(|(name, _)| *name == resource).map(|(_, entry)| entry) else {
                continue;
            };
            let quantity = amount(entry.value);
            if quantity.milli() % 1000 != 0 {
                let shown = go::quote(&quantity.to_string());
                warnings.push(format!("{}: fractional byte value {shown} is invalid, must be an integer", entry.path));
            }
        }
    }
    let mut names = Vec::new();
    for variable in container.field("env").items() {
        let (name, value) = (variable.field("name").text(), variable.field("value").text());
        let itself = format!("$({name})");
        let hides = variable.field("valueFrom").is_set() || value == itself || !value.contains(&itself);
        if names.contains(&name) && hides {
            let name = go::quote(name);
            let place = &variable.path;
            let words = "which may be dropped when using apply";
            warnings.push(format!("{place}: hides previous definition of {name}, {words}"));
        }
        names.push(name);
    }
}

fn port_names(spec: &At, warnings: &mut Vec<String>) {
    let lists = ["initContainers", "containers"].map(|list| spec.field(list));
    let containers = lists.iter().flat_map(At::items);
    let mut seen: Vec<(String, String)> = Vec::new();
    for port in containers.flat_map(|container| container.field("ports").items().collect::<Vec<_>>()) {
        let (name, place) = (port.field("name").text(), port.path.to_string());
        match seen.iter().find(|(known, _)| known == name) {
            Some((_, first)) if !name.is_empty() => warnings.push(format!(
                "{place}: duplicate port name {} with {first}, services and probes that select ports by name will use {first}",
                go::quote(name)
            )),
            _ => seen.push((name.to_owned(), place)),
        }
    }
}
