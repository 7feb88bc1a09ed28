//! What Go struct tags say of a field: its protobuf number, and whether it is written when empty.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use regex::Regex;

/// A field as its struct declares it.
#[derive(Debug, Clone)]
pub struct Field {
    pub go_type: String,
    pub omit_empty: bool,
    pub omit_zero: bool,
    /// Field numbers from the outermost message inwards: more than one for a field of an embedded struct.
    pub numbers: Vec<u32>,
    /// The embedded structs it stands in, outermost first.
    pub embedded: Vec<String>,
}

/// An embedded struct whose fields are written as if they were the outer one's.
#[derive(Debug, Clone)]
struct Embedded {
    go_type: String,
    number: Option<u32>,
}

/// How a line with a tag looks: of a named field, and of an embedded struct.
struct Tags {
    named: Regex,
    embedded: Regex,
}

#[derive(Debug, Default)]
struct Struct {
    fields: BTreeMap<String, Field>,
    embedded: Vec<Embedded>,
}

/// The structs of one Go package.
#[derive(Debug, Default)]
pub struct Package {
    name: String,
    structs: BTreeMap<String, Struct>,
}

impl Package {
    /// Reads every Go file of a directory but tests and generated code.
    pub fn read(directory: &Path) -> Result<Package> {
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut package = Package { name, ..Package::default() };
        let mut names: Vec<_> = fs::read_dir(directory)
            .with_context(|| directory.display().to_string())?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "go"))
            .collect();
        names.sort();
        for path in names {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with("_test.go") || name.contains("generated") {
                continue;
            }
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            package.read_file(&text)?;
        }
        Ok(package)
    }

    fn read_file(&mut self, text: &str) -> Result<()> {
        let tags = Tags {
            named: Regex::new(r#"^\s+([A-Z]\w*)\s+(\S+)\s+`(?:.*\s)?json:"([^"]*)"(?:.*protobuf:"([^"]*)")?"#)?,
            embedded: Regex::new(r#"^\s+([\w.]+)\s+`json:"([^"]*)"(?:.*protobuf:"([^"]*)")?"#)?,
        };
        let struct_start = Regex::new(r"^type (\w+) struct \{")?;
        let mut current: Option<String> = None;
        for line in text.lines() {
            if let Some(name) = current.clone() {
                if line.starts_with('}') {
                    current = None;
                } else {
                    self.read_field(&name, line, &tags);
                }
            } else if let Some(found) = struct_start.captures(line) {
                current = Some(found[1].to_owned());
                self.structs.entry(found[1].to_owned()).or_default();
            }
        }
        Ok(())
    }

    fn read_field(&mut self, name: &str, line: &str, tags: &Tags) {
        let Some(into) = self.structs.get_mut(name) else { return };
        let (go_type, json, protobuf) = if let Some(found) = tags.named.captures(line) {
            (found[2].to_owned(), found[3].to_owned(), found.get(4).map(|m| m.as_str().to_owned()))
        } else if let Some(found) = tags.embedded.captures(line) {
            (found[1].to_owned(), found[2].to_owned(), found.get(3).map(|m| m.as_str().to_owned()))
        } else {
            return;
        };
        let mut options = json.split(',');
        let json_name = options.next().unwrap_or_default().to_owned();
        let options: Vec<&str> = options.collect();
        let number = protobuf_number(protobuf.as_deref().unwrap_or_default());
        if json_name == "-" {
            return;
        }
        if json_name.is_empty() {
            into.embedded.push(Embedded { go_type, number });
            return;
        }
        let field = Field {
            go_type,
            omit_empty: options.contains(&"omitempty"),
            omit_zero: options.contains(&"omitzero"),
            numbers: number.into_iter().collect(),
            embedded: Vec::new(),
        };
        into.fields.insert(json_name, field);
    }

    /// The fields of a struct under their JSON names, those of embedded structs included.
    pub fn fields(&self, name: &str) -> Option<BTreeMap<String, Field>> {
        let found = self.structs.get(name)?;
        let mut fields = found.fields.clone();
        for outer in &found.embedded {
            // What has no number, as `TypeMeta`, is not part of the protobuf message.
            for (json_name, mut field) in self.fields(&outer.go_type).unwrap_or_default() {
                match outer.number {
                    Some(number) => field.numbers.insert(0, number),
                    None => field.numbers.clear(),
                }
                field.embedded.insert(0, outer.go_type.clone());
                fields.entry(json_name).or_insert(field);
            }
        }
        Some(fields)
    }

    /// The name of the package, as Go prints it before a type's: the version, `v1`.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A field's type as Go prints it in an error (`[]v1.Taint`), where it has a name that its JSON form does not tell: none
/// for what is built into the language.
pub fn printed_type(go_type: &str, package: &str) -> Option<String> {
    let bare = go_type.trim_start_matches('*');
    if let Some(items) = bare.strip_prefix("[]") {
        return printed_type(items, package).map(|items| format!("[]{items}"));
    }
    if let Some((key, values)) = bare.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
        let (of, named) = (printed_type(key, package), printed_type(values, package));
        let key = of.clone().unwrap_or_else(|| key.to_owned());
        return (of.is_some() || named.is_some())
            .then(|| format!("map[{key}]{}", named.unwrap_or_else(|| values.to_owned())));
    }
    match bare.split_once('.') {
        // A package is imported under a name of its own: `metav1` is `v1`.
        Some((import, name)) => {
            let version = import.rfind('v').filter(|at| import[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
            Some(format!("{}.{name}", version.map_or(import, |at| &import[at..])))
        }
        None if bare.starts_with(|c: char| c.is_ascii_uppercase()) => Some(format!("{package}.{bare}")),
        None => None,
    }
}

/// `varint,3,opt,name=x` has the number 3. The wire type that it names is not to be trusted: the field's own type says it.
fn protobuf_number(tag: &str) -> Option<u32> {
    tag.split(',').nth(1)?.parse().ok()
}
