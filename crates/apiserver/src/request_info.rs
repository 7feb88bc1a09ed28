//! What a request's path and method ask for, before anything is known of the resource.
//!
//! `kubernetes/apiserver pkg/endpoints/request/requestinfo.go` decides the same from the same parts.

use http::Method;
use machinery::fields::FieldSelector;

use crate::query::Query;

/// The parts of a request that authorization, routing and metrics look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    pub is_resource: bool,
    /// The path as asked, with its leading slash.
    pub path: String,
    /// A Kubernetes verb for a resource, the lower-case HTTP method for anything else.
    pub verb: String,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// What stands after the subresource; proxies hand it on.
    pub rest: Vec<String>,
    /// The path was of the old `/watch/` form.
    pub watch_by_path: bool,
    /// What a list, a watch or a deletecollection is limited to; `None` where it cannot be read.
    pub fields: Option<FieldSelector>,
}

impl RequestInfo {
    /// Reads the path, the method and the few query parameters that change the verb.
    pub fn parse(method: &Method, path: &str, query: &Query) -> RequestInfo {
        let mut info =
            RequestInfo { path: path.to_owned(), verb: method.as_str().to_ascii_lowercase(), ..RequestInfo::default() };
        let trimmed = path.trim_matches('/');
        let parts: Vec<&str> = if trimmed.is_empty() { Vec::new() } else { trimmed.split('/').collect() };
        if parts.len() < 3 {
            return info;
        }
        let mut rest = match parts[0] {
            "api" => &parts[1..],
            "apis" if parts.len() >= 4 => {
                info.group = percent_decode(parts[1]);
                &parts[2..]
            }
            _ => return info,
        };
        info.is_resource = true;
        info.version = percent_decode(rest[0]);
        rest = &rest[1..];
        if rest[0] == "watch" && rest.len() > 1 {
            info.verb = "watch".to_owned();
            info.watch_by_path = true;
            rest = &rest[1..];
        } else {
            info.verb = verb_of(method).to_owned();
        }
        rest = info.take_namespace(rest);
        info.take_resource(rest);
        info.refine_verb(query);
        info
    }

    fn take_namespace<'a>(&mut self, rest: &'a [&'a str]) -> &'a [&'a str] {
        if rest[0] != "namespaces" || rest.len() < 2 {
            return rest;
        }
        self.namespace = percent_decode(rest[1]);
        if rest.len() > 2 && !matches!(rest[2], "status" | "finalize") { &rest[2..] } else { rest }
    }

    fn take_resource(&mut self, rest: &[&str]) {
        self.resource = percent_decode(rest[0]);
        if let Some(name) = rest.get(1) {
            self.name = percent_decode(name);
        }
        if let Some(subresource) = rest.get(2) {
            self.subresource = percent_decode(subresource);
            self.rest = rest[3..].iter().map(|part| (*part).to_owned()).collect();
        }
    }

    /// A `get` without a name lists or watches, a `delete` without one empties the collection. Whoever may read only
    /// one object may list and watch just that one.
    fn refine_verb(&mut self, query: &Query) {
        let selector = FieldSelector::parse(query.get("fieldSelector").unwrap_or_default()).ok();
        match (self.verb.as_str(), self.name.is_empty()) {
            ("get", true) => {
                self.verb = if query.flag("watch") { "watch" } else { "list" }.to_owned();
                if let Some(name) = selector.as_ref().and_then(|selector| selector.required_value("metadata.name"))
                    && !name.contains(['/', '%'])
                    && !matches!(name, "." | "..")
                {
                    self.name = name.to_owned();
                }
            }
            ("delete", true) => self.verb = "deletecollection".to_owned(),
            _ => {}
        }
        if matches!(self.verb.as_str(), "list" | "watch" | "deletecollection") && !self.watch_by_path {
            self.fields = selector;
        }
    }
}

fn verb_of(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// Undoes `%XX` escapes; a broken escape is left as it stands.
pub fn percent_decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()))
            .flatten();
        match escaped {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: Method, target: &str) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let info = RequestInfo::parse(&method, path, &Query::parse(query));
        format!(
            "{} {}/{} ns={} {} name={}",
            info.verb,
            info.group,
            info.version,
            info.namespace,
            [info.resource.as_str(), info.subresource.as_str()].join("/").trim_end_matches('/'),
            info.name
        )
    }

    #[test]
    fn paths_are_read_as_upstream_reads_them() {
        assert_eq!(parse(Method::GET, "/api/v1/namespaces"), "list /v1 ns= namespaces name=");
        assert_eq!(parse(Method::GET, "/api/v1/namespaces/x"), "get /v1 ns=x namespaces name=x");
        assert_eq!(parse(Method::PUT, "/api/v1/namespaces/x/finalize"), "update /v1 ns=x namespaces/finalize name=x");
        assert_eq!(parse(Method::GET, "/api/v1/namespaces/x/pods?watch=1"), "watch /v1 ns=x pods name=");
        assert_eq!(
            parse(Method::GET, "/api/v1/namespaces/x/secrets?watch=1&fieldSelector=metadata.name%3Ds"),
            "watch /v1 ns=x secrets name=s"
        );
        assert_eq!(
            parse(Method::DELETE, "/apis/apps/v1/namespaces/x/deployments"),
            "deletecollection apps/v1 ns=x deployments name="
        );
        assert_eq!(parse(Method::GET, "/api/v1/namespaces/x/pods/p/log"), "get /v1 ns=x pods/log name=p");
        assert_eq!(parse(Method::GET, "/apis/apps/v1"), "get / ns=  name=");
    }
}
