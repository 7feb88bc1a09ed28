//! Image references, normalised as docker's and containerd's libraries do: `nginx` is `docker.io/library/nginx:latest`.

/// A reference with nothing left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub registry: String,
    pub repository: String,
    pub tag: Option<String>,
    /// `sha256:...`
    pub digest: Option<String>,
}

fn valid_digest(digest: &str) -> bool {
    digest
        .strip_prefix("sha256:")
        .is_some_and(|h| h.len() == 64 && h.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

fn valid_tag(tag: &str) -> bool {
    let mut bytes = tag.bytes();
    tag.len() <= 128
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Lower-case words joined by `.`, `_`, `__` or dashes.
fn valid_component(component: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (component.bytes().next(), component.bytes().last()) else { return false };
    let mut separators =
        component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).filter(|s| !s.is_empty());
    word(first) && word(last) && separators.all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn valid_registry(registry: &str) -> bool {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !port.contains(']') => (host, Some(port)),
        _ => (registry, None),
    };
    let host_valid = if host.starts_with('[') && host.ends_with(']') {
        host[1..host.len() - 1].parse::<std::net::Ipv6Addr>().is_ok()
    } else {
        !host.is_empty()
            && host.split('.').all(|l| {
                !l.is_empty()
                    && !l.starts_with('-')
                    && !l.ends_with('-')
                    && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            })
    };
    host_valid && port.is_none_or(|p| p.parse::<u16>().is_ok())
}

impl Reference {
    pub fn parse(text: &str) -> Option<Self> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) if valid_digest(digest) => (name, Some(digest.to_owned())),
            Some(_) => return None,
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        if tag.is_some_and(|t| !valid_tag(t)) {
            return None;
        }
        let (registry, rest) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" || has_upper(first) => {
                (first, rest)
            }
            _ => ("docker.io", name),
        };
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        let repository =
            if registry == "docker.io" && !rest.contains('/') { format!("library/{rest}") } else { rest.to_owned() };
        if !valid_registry(registry) || repository.len() > 255 || !repository.split('/').all(valid_component) {
            return None;
        }
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Some(Self { registry: registry.to_owned(), repository, tag, digest })
    }

    /// `registry/repository`, as it stands before `:tag` and `@digest`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// `registry/repository:tag`, unless there is only a digest.
    pub fn tagged(&self) -> Option<String> {
        // containerd keeps an image pulled by tag and digest under the digest alone.
        if self.digest.is_some() { None } else { self.tag.as_ref().map(|t| format!("{}:{t}", self.name())) }
    }

    pub fn digested(&self) -> Option<String> {
        self.digest.as_ref().map(|d| format!("{}@{d}", self.name()))
    }

    /// Whether the registry is on this machine's loopback, where plain HTTP is spoken.
    pub fn is_loopback(host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            // `::1` is an address whole, not a host with a port.
            Some((name, port)) if !name.ends_with(':') && port.parse::<u16>().is_ok() => name,
            _ => host,
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback())
    }
}

fn has_upper(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_uppercase())
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        Reference::parse(text).map_or_else(|| "invalid".into(), |r| r.to_string())
    }

    #[test]
    fn normalises_as_docker_does() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, wanted) in [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.27", "docker.io/library/nginx:1.27".to_owned()),
            ("user/app", "docker.io/user/app:latest".to_owned()),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest".to_owned()),
            ("localhost/app", "localhost/app:latest".to_owned()),
            ("localhost:5000/app:v1", "localhost:5000/app:v1".to_owned()),
            ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest".to_owned()),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10".to_owned()),
            (&format!("r.io/a@{digest}"), format!("r.io/a@{digest}")),
            (&format!("r.io/a:t@{digest}"), format!("r.io/a:t@{digest}")),
        ] {
            assert_eq!(normal(text), wanted, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_reference() {
        let too_long = "a".repeat(300);
        for text in
            ["", "Nginx", "a//b", "a:", "a:b c", "a@sha256:12", "../x", "r.io/", "r.io/A", "a..b", "-a", &too_long]
        {
            assert_eq!(normal(text), "invalid", "{text}");
        }
    }

    #[test]
    fn loopback_hosts() {
        let loopback = ["localhost:5000", "127.0.0.1", "[::1]:5000", "::1", "10.0.0.1:5000", "r.io"];
        assert_eq!(loopback.map(Reference::is_loopback), [true, true, true, true, false, false]);
    }
}
