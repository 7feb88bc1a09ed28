//! What a verb is handed: the request as far as it has been understood.

use std::sync::{Arc, Mutex, PoisonError};

use admit::UserInfo;
use bytes::Bytes;
use http::HeaderMap;
use jiff::Timestamp;
use kinds::Kind;
use kinds::kind::SchemaSource;
use machinery::gvk::{GroupKind, GroupResource};
use machinery::status::Status;

use crate::cache::Cache;
use crate::negotiate::Accept;
use crate::query::Query;
use crate::registry;
use crate::request_info::RequestInfo;
use crate::server::Inner;

/// A request for a resource of a known kind.
pub struct Cx {
    pub server: Arc<Inner>,
    pub kind: Arc<Kind>,
    pub user: UserInfo,
    pub info: RequestInfo,
    pub query: Query,
    pub headers: HeaderMap,
    pub accept: Accept,
    /// One instant for the whole request.
    pub now: Timestamp,
    warnings: Mutex<Vec<String>>,
}

impl Cx {
    pub fn new(
        server: Arc<Inner>,
        kind: Arc<Kind>,
        user: UserInfo,
        info: RequestInfo,
        query: Query,
        headers: HeaderMap,
        accept: Accept,
    ) -> Cx {
        Cx { server, kind, user, info, query, headers, accept, now: Timestamp::now(), warnings: Mutex::default() }
    }

    /// A request the server makes of itself.
    pub fn internal(server: &Arc<Inner>, kind: &Arc<Kind>, namespace: &str, name: &str) -> Cx {
        let info = RequestInfo {
            is_resource: true,
            group: kind.group.to_string(),
            version: kind.version.to_string(),
            resource: kind.names.plural.to_string(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..RequestInfo::default()
        };
        let user = UserInfo::new("system:apiserver", &["system:masters"]);
        Cx::new(Arc::clone(server), Arc::clone(kind), user, info, Query::default(), HeaderMap::new(), Accept::JSON)
    }

    /// The same request about one object.
    pub fn named(&self, namespace: &str, name: &str) -> Cx {
        let info = RequestInfo { namespace: namespace.to_owned(), name: name.to_owned(), ..self.info.clone() };
        Cx {
            server: Arc::clone(&self.server),
            kind: Arc::clone(&self.kind),
            user: self.user.clone(),
            info,
            query: self.query.clone(),
            headers: self.headers.clone(),
            accept: self.accept,
            now: self.now,
            warnings: Mutex::default(),
        }
    }

    pub fn resource(&self) -> GroupResource {
        registry::group_resource(&self.kind)
    }

    /// What failures name: the kind in the group that it is kept in, where two groups serve it.
    pub fn group_kind(&self) -> GroupKind {
        GroupKind::new(self.kind.storage_version.0.as_ref(), self.kind.names.kind.as_ref())
    }

    pub fn not_found(&self) -> Status {
        Status::not_found(&self.resource(), &self.info.name)
    }

    /// The answer to a verb that the resource does not have. Upstream's router says it of what is built in, the
    /// handler of custom resources in words of its own.
    pub fn unsupported(&self) -> Status {
        match self.kind.schema {
            SchemaSource::Facts(_) => Status::method_not_allowed(),
            SchemaSource::Custom(_) => Status::method_not_supported(&self.resource(), &self.info.verb),
        }
    }

    /// The storage key of the named object.
    pub fn key(&self, name: &str) -> String {
        self.kind.key(&self.info.namespace, name)
    }

    /// The kind's cache; every stored kind has one.
    pub fn cache(&self) -> Result<Arc<Cache>, Status> {
        self.server.caches.of(&self.kind).ok_or_else(Status::unknown_path)
    }

    pub fn user_agent(&self) -> &str {
        self.headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Text for a `Warning:` header of the answer.
    pub fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A request's body, read whole, and its declared type.
pub struct Payload {
    pub bytes: Bytes,
    pub content_type: String,
}

impl Payload {
    /// The media type without parameters.
    pub fn media_type(&self) -> &str {
        self.content_type.split(';').next().unwrap_or_default().trim()
    }
}
