//! Who a container runs as: what the pod says, else the image's `USER`, looked up in the image's own user database.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use pods::ports::Security;
use rustix::fs::OFlags;

use crate::shim::mounts::open_beneath;
use crate::spec::User;

/// Reads a file of an image from its layers (topmost first) without mounting them.
pub fn read_from_layers(layers_directory: &Path, layers: &[String], path: &str) -> Option<String> {
    for layer in layers {
        let root = layers_directory.join(layer);
        match open_beneath(&root, Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(fd) => {
                let file = File::from(fd);
                // A character device here is a whiteout: the file is gone from here down.
                if !file.metadata().is_ok_and(|m| m.is_file()) {
                    return None;
                }
                let mut text = Vec::new();
                file.take(4 << 20).read_to_end(&mut text).ok()?;
                return Some(String::from_utf8_lossy(&text).into_owned());
            }
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) => return None,
            Err(_) => {}
        }
    }
    None
}

/// The image's user database.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    pub passwd: String,
    pub group: String,
}

impl Accounts {
    pub fn read(layers_directory: &Path, layers: &[String]) -> Self {
        let file = |path| read_from_layers(layers_directory, layers, path).unwrap_or_default();
        Self { passwd: file("/etc/passwd"), group: file("/etc/group") }
    }

    /// Name, uid, gid.
    fn users(&self) -> impl Iterator<Item = (&str, u32, u32)> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            Some((name, fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
        })
    }

    /// Name, gid, members.
    fn groups(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            Some((name, fields.nth(1)?.parse().ok()?, fields.next().unwrap_or_default()))
        })
    }
}

fn id(number: i64) -> Result<u32, String> {
    u32::try_from(number).map_err(|_| format!("{number} is no user or group id"))
}

/// containerd pkg/oci/spec_opts.go (WithUser, WithAdditionalGIDs) and internal/cri/server/container_create.go.
pub fn resolve(security: &Security, image_user: Option<&str>, accounts: &Accounts) -> Result<User, String> {
    let written = match security.user {
        Some(uid) => id(uid)?.to_string(),
        None => image_user.unwrap_or_default().to_owned(),
    };
    let (user, group) = match written.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (written.as_str(), None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let found = match user.parse::<u32>() {
        Ok(uid) => accounts.users().find(|(_, u, _)| *u == uid).or(Some(("", uid, 0))),
        Err(_) => accounts.users().find(|(name, ..)| *name == user),
    };
    let (name, uid, own_gid) =
        found.ok_or_else(|| format!("no users found: user {user:?} is not in the image's /etc/passwd"))?;
    let gid = match (security.group, group) {
        (Some(gid), _) => id(gid)?,
        (None, Some(group)) => match group.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => accounts
                .groups()
                .find(|(name, ..)| *name == group)
                .map(|(_, gid, _)| gid)
                .ok_or_else(|| format!("no groups found: group {group:?} is not in the image's /etc/group"))?,
        },
        (None, None) => own_gid,
    };
    let mut additional = vec![gid];
    if security.supplemental_groups_policy.as_deref() != Some("Strict") && !name.is_empty() {
        let member = accounts.groups().filter(|(_, _, members)| members.split(',').any(|m| m == name));
        additional.extend(member.map(|(_, gid, _)| gid));
    }
    for gid in &security.supplemental_groups {
        additional.push(id(*gid)?);
    }
    let mut seen = std::collections::BTreeSet::new();
    additional.retain(|g| seen.insert(*g));
    Ok(User { uid, gid, additional })
}

/// kubernetes/kubernetes pkg/kubelet/kuberuntime/security_context_others.go: `runAsNonRoot` with its texts. `pod` is
/// `name_namespace(uid)`.
pub fn check_not_root(security: &Security, image_user: Option<&str>, pod: &str, container: &str) -> Result<(), String> {
    if !security.must_not_be_root {
        return Ok(());
    }
    if let Some(uid) = security.user {
        return if uid == 0 {
            Err(format!("container's runAsUser breaks non-root policy (pod: {pod:?}, container: {container})"))
        } else {
            Ok(())
        };
    }
    let user = image_user.unwrap_or_default().split(':').next().unwrap_or_default();
    match user.parse::<i64>() {
        _ if user.is_empty() => {
            Err(format!("container has runAsNonRoot and image will run as root (pod: {pod:?}, container: {container})"))
        }
        Ok(0) => {
            Err(format!("container has runAsNonRoot and image will run as root (pod: {pod:?}, container: {container})"))
        }
        Ok(_) => Ok(()),
        Err(_) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: \
             {pod:?}, container: {container})"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/:/bin/false\n".into(),
            group: "root:x:0:\nweb:x:34:\nlog:x:50:daemon,web\n".into(),
        }
    }

    fn user(image: &str, security: &Security) -> String {
        resolve(security, Some(image), &accounts())
            .map_or_else(|e| e, |u| format!("{}:{} {:?}", u.uid, u.gid, u.additional))
    }

    #[test]
    fn users_by_name_number_and_group() {
        let plain = Security::default();
        assert_eq!(user("", &plain), "0:0 [0]");
        assert_eq!(user("web", &plain), "33:34 [34, 50]");
        assert_eq!(user("33:log", &plain), "33:50 [50]");
        assert_eq!(user("4242", &plain), "4242:0 [0]");
        assert_eq!(user("nobody", &plain), "no users found: user \"nobody\" is not in the image's /etc/passwd");
        let ordered =
            Security { user: Some(1000), group: Some(3000), supplemental_groups: vec![7, 3000], ..Security::default() };
        assert_eq!(user("web", &ordered), "1000:3000 [3000, 7]");
        let strict = Security { supplemental_groups_policy: Some("Strict".into()), ..Security::default() };
        assert_eq!(user("web", &strict), "33:34 [34]");
    }

    #[test]
    fn run_as_non_root_in_upstreams_words() {
        let security = Security { must_not_be_root: true, ..Security::default() };
        let check = |user: &str| check_not_root(&security, Some(user), "p_ns(uid)", "c").err().unwrap_or_default();
        assert_eq!(check("1000"), "");
        insta::assert_snapshot!(check(""), @r#"container has runAsNonRoot and image will run as root (pod: "p_ns(uid)", container: c)"#);
        insta::assert_snapshot!(check("web"), @r#"container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root (pod: "p_ns(uid)", container: c)"#);
    }
}
