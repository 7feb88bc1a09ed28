//! Scenario tests: the objects as short YAML, the plan as text; one file a rule, named by the rule.
//!
//! A scenario begins with `# controller KEY [AT] [failure REASON]` and is followed by the objects. `AT` is in seconds
//! after the day begins at which all scenarios play; the plan comes after `=====`. `UPDATE_SCENARIOS=1 cargo test` writes
//! it anew.
#![cfg(test)]

use std::fmt::Write as _;
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

use crate::cache::{Cache, Key, Of, Source};
use crate::controller::{CONTROLLERS, Cx, Failure};
use crate::range::Range;
use crate::settings::{PodRanges, Settings};

/// 2026-01-01T00:00:00Z.
const DAY: i64 = 1_767_225_600;

fn load(cache: &Cache, yaml: &str) {
    for (at, document) in serde_yaml_ng::Deserializer::from_str(yaml).enumerate() {
        let mut object = serde_json::Value::deserialize(document).unwrap();
        if object.is_null() {
            continue;
        }
        let meta = object["metadata"].as_object_mut().unwrap();
        let name = meta["name"].as_str().unwrap().to_string();
        let version = object["apiVersion"].as_str().unwrap().to_string();
        let kind = object["kind"].as_str().unwrap().to_string();
        let mut stores =
            Of::ALL.iter().filter(|of| of.resource().kind == kind && of.resource().api_version() == version);
        let of = stores.next().unwrap_or_else(|| panic!("no store for {version} {kind}"));
        let meta = object["metadata"].as_object_mut().unwrap();
        if of.resource().namespaced {
            meta.entry("namespace").or_insert_with(|| "default".into());
        }
        meta.entry("uid").or_insert_with(|| format!("{}-{name}", kind.to_lowercase()).into());
        meta.entry("resourceVersion").or_insert_with(|| (at + 1).to_string().into());
        meta.entry("creationTimestamp").or_insert_with(|| "2025-12-31T23:00:00Z".into());
        // Where several parts of a kind are kept, a scenario's controller knows its own.
        for of in stores.chain([of]) {
            cache.store(*of).apply_json(&object.to_string(), Source::Watch).unwrap();
        }
    }
}

/// Signs by writing down what it was asked for.
#[derive(Debug)]
struct Signs;

impl crate::ports::TokenSigner for Signs {
    fn sign(&self, token: &crate::ports::SecretToken) -> Result<String, String> {
        Ok(format!("{}/{} {} in {}", token.namespace, token.account, token.account_uid, token.secret))
    }
}

/// Reads `CN O[,DNS]` as a request, and writes down what it signed.
impl crate::ports::CertificateAuthority for Signs {
    fn read(&self, request: &[u8]) -> Result<crate::ports::RequestedCertificate, String> {
        let text = String::from_utf8_lossy(request).into_owned();
        let (names, dns) = text.split_once(',').unwrap_or((&text, ""));
        let (common_name, organization) = names.split_once(' ').ok_or("not a request")?;
        Ok(crate::ports::RequestedCertificate {
            common_name: common_name.into(),
            organizations: vec![organization.into()],
            dns_names: dns.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            ..Default::default()
        })
    }

    fn sign(&self, request: &[u8], terms: &crate::ports::CertificateTerms) -> Result<String, String> {
        let usages = terms.usages.join(", ");
        let names = String::from_utf8_lossy(request);
        Ok(format!("{names} for {usages} from {} until {}", terms.not_before, terms.not_after))
    }

    fn expires(&self, certificate: &[u8]) -> Option<Timestamp> {
        std::str::from_utf8(certificate).ok()?.rsplit(' ').next()?.parse().ok()
    }
}

fn play(text: &str) -> String {
    let first = text.lines().next().unwrap().trim_start_matches('#').trim();
    let words: Vec<&str> = first.split_whitespace().collect();
    let (name, key) = (words[0], words[1]);
    let at: i64 = words.get(2).and_then(|w| w.parse().ok()).unwrap_or(0);
    let failure = words.iter().position(|w| *w == "failure").map(|at| Failure {
        verb: "create",
        resource: words[at + 1].to_string(),
        name: "it".into(),
        reason: words[at + 2].to_string(),
        message: "it was refused".into(),
    });
    let cache = Cache::default();
    load(&cache, text);
    let key = key.split_once('/').map_or_else(|| Key::new("", key), |(namespace, name)| Key::new(namespace, name));
    let controller = CONTROLLERS.iter().find(|c| c.name == name).unwrap_or_else(|| panic!("no controller {name}"));
    let settings = Settings {
        root_ca: Some("CA".into()),
        token_signer: Some(std::sync::Arc::new(Signs)),
        certificate_authority: Some(std::sync::Arc::new(Signs)),
        pod_ranges: Range::parse("10.244.0.0/22").map(|cluster| PodRanges { cluster, node_prefix: 24 }),
        ..Settings::default()
    };
    let cx = Cx {
        cache: &cache,
        now: Timestamp::from_second(DAY + at).unwrap(),
        started: Timestamp::from_second(DAY - 3600).unwrap(),
        settings: &settings,
        failure: failure.as_ref(),
    };
    (controller.sync)(&cx, &key).to_text()
}

#[test]
fn scenarios() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/scenarios");
    let mut wrong = String::new();
    let mut count = 0;
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let (scenario, expected) = text.split_once("=====\n").unwrap_or((&text, ""));
        let plan = play(scenario);
        count += 1;
        if plan == expected {
            continue;
        }
        if std::env::var_os("UPDATE_SCENARIOS").is_some() {
            std::fs::write(&path, format!("{}\n=====\n{plan}", scenario.trim_end())).unwrap();
        } else {
            let _ = writeln!(wrong, "{}\nexpected\n{expected}\nbut it was\n{plan}", path.display());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(count > 30, "{count} scenarios found");
}
