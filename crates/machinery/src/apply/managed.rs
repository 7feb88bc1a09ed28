//! `metadata.managedFields`: who owns which fields, by which operation, since when.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::compare::Comparison;
use super::conflict::Conflict;
use super::set::FieldSet;
use crate::object;

/// What tells one manager from another. An applier is the same across versions, so it has none here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Manager {
    pub name: String,
    pub applies: bool,
    pub api_version: String,
    pub subresource: String,
}

impl Manager {
    pub fn update(name: &str, api_version: &str, subresource: &str) -> Self {
        let name = if name.is_empty() { "unknown" } else { name }.to_owned();
        Self { name, applies: false, api_version: api_version.to_owned(), subresource: subresource.to_owned() }
    }

    pub fn apply(name: &str, subresource: &str) -> Self {
        Self { applies: true, ..Self::update(name, "", subresource) }
    }
}

#[derive(Clone, PartialEq, Debug)]
struct Entry {
    set: FieldSet,
    api_version: String,
    /// RFC 3339, as stored.
    time: Option<String>,
}

/// All managers of an object.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Managed {
    entries: BTreeMap<Manager, Entry>,
}

/// Fields of the metadata that the system itself sets, and nobody owns.
pub(super) fn never_owned() -> FieldSet {
    let meta = |name| ["metadata", name];
    let names = ["name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation"];
    let more = ["managedFields", "resourceVersion"];
    let under: Vec<[&str; 2]> = names.into_iter().chain(more).map(meta).collect();
    let mut paths: Vec<&[&str]> = vec![&["apiVersion"], &["kind"], &["metadata"]];
    paths.extend(under.iter().map(<[&str; 2]>::as_slice));
    FieldSet::of_fields(&paths)
}

impl Managed {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Reads `metadata.managedFields`; missing or null is none.
    pub fn read(list: Option<&Value>) -> Result<Self, String> {
        let mut out = Self::default();
        let entries = list.and_then(Value::as_array).into_iter().flatten();
        for (at, entry) in entries.enumerate() {
            let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or("");
            let operation = text("operation");
            if !matches!(operation, "Apply" | "Update") {
                return Err("operation must be `Apply` or `Update`".to_owned());
            }
            let api_version = text("apiVersion");
            if api_version.is_empty() {
                return Err("apiVersion must not be empty".to_owned());
            }
            match text("fieldsType") {
                "FieldsV1" => {}
                "" => return Err(format!("missing fieldsType in managed fields entry {at}")),
                other => {
                    let other = crate::go::quote(other);
                    return Err(format!("invalid fieldsType {other} in managed fields entry {at}"));
                }
            }
            let set = match entry.get("fieldsV1").filter(|fields| !fields.is_null()) {
                Some(fields) => FieldSet::from_fields_v1(fields).map_err(|error| error.to_string())?,
                None => FieldSet::new(),
            };
            let manager = Manager {
                name: text("manager").to_owned(),
                applies: operation == "Apply",
                api_version: if operation == "Apply" { String::new() } else { api_version.to_owned() },
                subresource: text("subresource").to_owned(),
            };
            let time = entry.get("time").and_then(Value::as_str).map(str::to_owned);
            out.entries.insert(manager, Entry { set, api_version: api_version.to_owned(), time });
        }
        Ok(out)
    }

    /// As `metadata.managedFields`, in upstream's order: operation, time, manager, version, subresource.
    pub fn to_value(&self) -> Value {
        let mut entries: Vec<(&Manager, &Entry)> = self.entries.iter().collect();
        entries.sort_by_key(|(manager, entry)| {
            let operation = if manager.applies { "Apply" } else { "Update" };
            (operation, entry.time.as_deref().unwrap_or(""), &manager.name, &entry.api_version, &manager.subresource)
        });
        entries.into_iter().map(|(manager, entry)| encode(manager, entry)).collect()
    }

    /// Sets `metadata.managedFields`, or removes it when nobody owns anything.
    pub fn write_to(&self, object: &mut Value) {
        if self.is_empty() {
            object::take(object, &["metadata", "managedFields"]);
        } else {
            object::put(object, &["metadata", "managedFields"], self.to_value());
        }
    }

    pub fn set_of(&self, manager: &Manager) -> Option<&FieldSet> {
        self.entries.get(manager).map(|entry| &entry.set)
    }

    /// Every manager and what it owns.
    pub fn iter(&self) -> impl Iterator<Item = (&Manager, &FieldSet)> {
        self.entries.iter().map(|(manager, entry)| (manager, &entry.set))
    }

    pub(super) fn all_owned(&self) -> FieldSet {
        self.entries.values().fold(FieldSet::new(), |all, entry| all.union(&entry.set))
    }

    /// What an ordinary write changed is nobody's any more; empty managers go.
    pub(super) fn take_from_all(&mut self, changes: &Comparison) {
        self.take(changes, |_| true);
    }

    pub(super) fn take_from_others(&mut self, writer: &Manager, changes: &Comparison) {
        self.take(changes, |manager| manager != writer);
    }

    fn take(&mut self, changes: &Comparison, from: impl Fn(&Manager) -> bool) {
        let gone = changes.modified.union(&changes.added).union(&changes.removed);
        for (manager, entry) in &mut self.entries {
            if from(manager) {
                entry.set = entry.set.difference(&gone);
            }
        }
        self.entries.retain(|_, entry| !entry.set.is_empty());
    }

    /// Fields the writer changed are its own from now on.
    pub(super) fn gain(&mut self, manager: Manager, api_version: &str, set: FieldSet, now: jiff::Timestamp) {
        let set = match self.entries.get(&manager) {
            Some(entry) => entry.set.union(&set),
            None => set,
        };
        let entry = Entry { set, api_version: api_version.to_owned(), time: Some(stamp(now)) };
        self.entries.insert(manager, entry);
    }

    /// An applier owns what it names, and nothing else.
    pub(super) fn replace(&mut self, manager: Manager, api_version: &str, set: FieldSet) {
        let time = self.entries.get(&manager).and_then(|entry| entry.time.clone());
        self.entries.insert(manager, Entry { set, api_version: api_version.to_owned(), time });
    }

    pub(super) fn strip(&mut self, manager: &Manager, fields: &FieldSet) {
        if let Some(entry) = self.entries.get_mut(manager) {
            entry.set = entry.set.difference(fields);
        }
        self.entries.retain(|_, entry| !entry.set.is_empty());
    }

    pub(super) fn touch(&mut self, manager: &Manager, now: jiff::Timestamp) {
        if let Some(entry) = self.entries.get_mut(manager) {
            entry.time = Some(stamp(now));
        }
    }

    /// Fields of others that an apply would change.
    pub(super) fn conflicts(&self, applier: &Manager, changes: &Comparison) -> Vec<Conflict> {
        let changed = changes.modified.union(&changes.added);
        let mut out = Vec::new();
        for (manager, entry) in self.entries.iter().filter(|(manager, _)| *manager != applier) {
            for path in entry.set.intersection(&changed).paths() {
                out.push(Conflict { manager: manager.clone(), path });
            }
        }
        out
    }

    /// Puts the oldest update managers of a version together as `ancient-changes` until at most `max` are left.
    pub(super) fn cap(&mut self, max: usize) {
        let mut updaters: Vec<(String, Manager)> = Vec::new();
        for (manager, entry) in self.entries.iter().filter(|(manager, _)| !manager.applies) {
            updaters.push((entry.time.clone().unwrap_or_default(), manager.clone()));
        }
        updaters.sort();
        let mut count = updaters.len();
        let mut first_of_version: BTreeMap<String, Manager> = BTreeMap::new();
        for (time, manager) in updaters {
            if count <= max {
                return;
            }
            let version = manager.api_version.clone();
            let Some(first) = first_of_version.get(&version) else {
                first_of_version.insert(version, manager);
                continue;
            };
            let bucket = Manager::update("ancient-changes", &version, "");
            let oldest = self.entries.remove(&bucket).or_else(|| self.entries.remove(first));
            let mut set = oldest.map(|entry| entry.set).unwrap_or_default();
            if let Some(entry) = self.entries.remove(&manager) {
                set = set.union(&entry.set);
            }
            let time = (!time.is_empty()).then_some(time);
            self.entries.insert(bucket, Entry { set, api_version: version, time });
            count -= 1;
        }
    }
}

fn stamp(now: jiff::Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn encode(manager: &Manager, entry: &Entry) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, text: &str| {
        if !text.is_empty() {
            out.insert(name.to_owned(), Value::from(text));
        }
    };
    put("manager", &manager.name);
    put("operation", if manager.applies { "Apply" } else { "Update" });
    put("apiVersion", &entry.api_version);
    put("time", entry.time.as_deref().unwrap_or(""));
    put("fieldsType", "FieldsV1");
    put("subresource", &manager.subresource);
    out.insert("fieldsV1".to_owned(), entry.set.to_fields_v1());
    json!(out)
}
