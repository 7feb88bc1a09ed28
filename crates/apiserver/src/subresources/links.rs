//! Pages that come through the proxy: their links to the server behind it lead through the proxy too.
//! `kubernetes/apimachinery pkg/util/proxy/transport.go`.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use http_body::Frame;
use http_body_util::{BodyDataStream, BodyExt, StreamBody};
use lol_html::html_content::Element;
use lol_html::send::{HtmlRewriter, Settings};

use crate::http::{Body, BoxError};

/// The attributes that hold one URL, by element.
const ATTRIBUTES: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["formaction", "src", "usemap"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// How a link is made to lead through the proxy.
#[derive(Clone, Debug)]
pub struct Links {
    /// The path that stands for the root of the server behind: `/api/v1/namespaces/x/pods/y/proxy`.
    pub prefix: String,
    /// The hosts (with their ports) that mean the server behind: its own address, and what the client calls the proxy.
    pub hosts: Vec<String>,
}

impl Links {
    /// The answer with its `Location`, or the links of its page, rewritten.
    pub fn rewrite(&self, headers: &mut HeaderMap, body: Body) -> Body {
        if let Some(location) = headers.get(LOCATION) {
            let through = location.to_str().ok().and_then(|url| self.through(url));
            if let Some(through) = through.and_then(|url| HeaderValue::from_str(&url).ok()) {
                headers.insert(LOCATION, through);
            }
            return body;
        }
        if !is_plain_page(headers) {
            return body;
        }
        headers.remove(CONTENT_LENGTH);
        self.page(body)
    }

    /// The same URL through the proxy; `None` for one that is relative or of another host.
    fn through(&self, url: &str) -> Option<String> {
        let path = match url.split_once("//") {
            Some((scheme, rest)) if scheme.is_empty() || is_scheme(scheme) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                let (host, path) = rest.split_at(end);
                self.hosts.iter().any(|known| known == host).then_some(path)?
            }
            _ => url,
        };
        if !path.starts_with('/') {
            return None;
        }
        Some(if path.starts_with(&self.prefix) { path.to_owned() } else { format!("{}{path}", self.prefix) })
    }

    /// The page piece by piece, as it comes.
    fn page(&self, body: Body) -> Body {
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&written);
        let links = self.clone();
        let settings = Settings::new_send()
            .append_element_content_handler(lol_html::element!("*", move |element| Ok(links.visit(element)?)));
        let rewriter = HtmlRewriter::new(settings, move |piece: &[u8]| {
            sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(piece);
        });
        let take = move || {
            Frame::data(Bytes::from(std::mem::take(&mut *written.lock().unwrap_or_else(PoisonError::into_inner))))
        };
        let pieces =
            futures::stream::unfold((BodyDataStream::new(body), Some(rewriter)), move |(mut body, rewriter)| {
                let take = take.clone();
                async move {
                    let mut rewriter = rewriter?;
                    let (done, rewriter) = match body.next().await {
                        Some(Ok(piece)) => (rewriter.write(&piece).map_err(BoxError::from), Some(rewriter)),
                        Some(Err(error)) => (Err(error), None),
                        None => (rewriter.end().map_err(BoxError::from), None),
                    };
                    Some((done.map(|()| take()), (body, rewriter)))
                }
            });
        StreamBody::new(pieces).boxed_unsync()
    }

    fn visit(
        &self,
        element: &mut Element<'_, '_, lol_html::send::SendHandlerTypes>,
    ) -> Result<(), lol_html::errors::AttributeNameError> {
        let name = element.tag_name();
        let known = ATTRIBUTES.iter().find(|(known, _)| *known == name);
        for attribute in known.map_or(&[][..], |(_, attributes)| attributes) {
            if let Some(through) = element.get_attribute(attribute).and_then(|url| self.through(&url)) {
                element.set_attribute(attribute, &through)?;
            }
        }
        Ok(())
    }
}

fn is_scheme(text: &str) -> bool {
    matches!(text, "http:" | "https:")
}

/// HTML that can be read: what is compressed passes as it is.
fn is_plain_page(headers: &HeaderMap) -> bool {
    let content = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content.split(';').next().is_some_and(|kind| kind.trim() == "text/html") && !headers.contains_key(CONTENT_ENCODING)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        Links {
            prefix: "/api/v1/namespaces/n/pods/p/proxy".into(),
            hosts: vec!["10.0.0.1:80".into(), "localhost:8001".into()],
        }
    }

    #[test]
    fn a_location_leads_through_the_proxy_if_it_is_of_the_server_behind() {
        for (url, through) in [
            ("/x?y=/z#w", Some("/api/v1/namespaces/n/pods/p/proxy/x?y=/z#w")),
            ("http://10.0.0.1:80/x/", Some("/api/v1/namespaces/n/pods/p/proxy/x/")),
            ("//localhost:8001/x", Some("/api/v1/namespaces/n/pods/p/proxy/x")),
            ("/api/v1/namespaces/n/pods/p/proxy/x", Some("/api/v1/namespaces/n/pods/p/proxy/x")),
            ("https://example.com/x", None),
            ("x//y", None),
            ("mailto:a@b", None),
        ] {
            assert_eq!(links().through(url).as_deref(), through, "{url}");
        }
    }

    #[tokio::test]
    async fn the_links_of_a_page_lead_through_the_proxy() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("1"));
        let page = r#"<p title="/kept"><a href="/go">&lt;</a><img src='/i.png' alt=x><a href="near">"#;
        let body = http_body_util::Full::new(Bytes::from(page)).map_err(|never| match never {}).boxed_unsync();
        let body = links().rewrite(&mut headers, body).collect().await.unwrap().to_bytes();
        let prefix = links().prefix;
        let wanted = format!(
            r#"<p title="/kept"><a href="{prefix}/go">&lt;</a><img src="{prefix}/i.png" alt=x><a href="near">"#
        );
        assert_eq!(String::from_utf8_lossy(&body), wanted);
        assert!(!headers.contains_key(CONTENT_LENGTH));
    }
}
