//! Requests of a front proxy, which says in headers for whom it speaks; its certificate proves that it may.
//!
//! `kubernetes/apiserver pkg/authentication/request/headerrequest/requestheader.go`.

use admit::UserInfo;
use http::HeaderMap;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::aggregate::headers;
use crate::authn::x509;
use crate::request_info::percent_decode;
use crate::server::Inner;

/// The common name of the certificate that may speak for others.
const NAME: &str = "front-proxy-client";

/// The user of the headers, if the request is a front proxy's and names one.
pub fn user(server: &Inner, chain: &[CertificateDer<'static>], given: &HeaderMap) -> Option<UserInfo> {
    let text = |name: &str| given.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
    let name = text(headers::USER)?;
    let (first, rest) = chain.split_first()?;
    server.front_proxy_verifier.as_ref()?.verify_client_cert(first, rest, UnixTime::now()).ok()?;
    if x509::common_name(first)? != NAME {
        return None;
    }
    let groups = given.get_all(headers::GROUPS).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned);
    let mut user = UserInfo { name: name.to_owned(), groups: groups.collect(), ..UserInfo::default() };
    user.uid = text(headers::UID).unwrap_or_default().to_owned();
    for (name, value) in given {
        if let (Some(key), Ok(value)) = (name.as_str().strip_prefix(headers::EXTRA), value.to_str()) {
            user.extra.entry(percent_decode(key)).or_default().push(value.to_owned());
        }
    }
    let implied = if user.name == "system:anonymous" { "system:unauthenticated" } else { "system:authenticated" };
    if !user.in_group(implied) {
        user.groups.push(implied.to_owned());
    }
    Some(user)
}
