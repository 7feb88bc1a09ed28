//! A server on an in-memory store, with certificates and a kubeconfig of its own, for tests and for looking.

#![allow(dead_code, reason = "each test uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test support: a failure here is the test's")]

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;

use apiserver::{ApiServer, Config, UserInfo};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use store::{Embedded, Options, Store};

pub struct Cluster {
    pub server: ApiServer,
    pub address: std::net::SocketAddr,
    pub kubeconfig: PathBuf,
    pub ca: String,
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

/// A certificate for a user, and its key.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn sign(issuer: &CertifiedIssuer<'static, KeyPair>, name: &str, groups: &[&str], server: bool) -> Identity {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    for group in groups {
        params.distinguished_name.push(DnType::OrganizationName, *group);
    }
    if server {
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    } else {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    Identity { certificate: certificate.pem(), key: key.serialize_pem() }
}

/// As a server shows it.
pub fn served(identity: &Identity) -> Arc<dyn ResolvesServerCert> {
    let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Arc::new(SingleCertAndKey::from(CertifiedKey::from_der(chain, key, &provider).unwrap()))
}

impl Cluster {
    pub async fn start() -> Cluster {
        Cluster::start_on(Arc::new(Embedded::in_memory(Options::default())), 0).await
    }

    pub async fn start_on(store: Arc<dyn Store>, port: u16) -> Cluster {
        let issuer = authority("test-ca");
        let serving = sign(&issuer, "kube-apiserver", &[], true);
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let ca = issuer.pem();
        let config = Config {
            serving: Some(served(&serving)),
            client_ca: ca.clone().into_bytes(),
            service_account_key: KeyPair::generate().unwrap().serialize_pem().into_bytes(),
            port: address.port(),
            ..Config::default()
        };
        let server = ApiServer::new(config, store).await.expect("the server starts");
        let serving = server.clone();
        tokio::spawn(async move { serving.serve(listener).await });
        let dir = tempfile::tempdir().unwrap();
        let admin = sign(&issuer, "kubernetes-admin", &["system:masters"], false);
        let cluster = Cluster { server, address, kubeconfig: dir.path().join("admin.conf"), ca, issuer, dir };
        cluster.write_kubeconfig(&cluster.kubeconfig, &admin);
        cluster
    }

    /// A certificate of the cluster's authority.
    pub fn identity(&self, name: &str, groups: &[&str]) -> Identity {
        sign(&self.issuer, name, groups, false)
    }

    /// A certificate of the cluster's authority for a server on this machine.
    pub fn serving_identity(&self, name: &str) -> Identity {
        sign(&self.issuer, name, &[], true)
    }

    pub fn kubeconfig_of(&self, name: &str, groups: &[&str]) -> PathBuf {
        let path = self.dir.path().join(format!("{}.conf", name.replace(':', "_")));
        self.write_kubeconfig(&path, &self.identity(name, groups));
        path
    }

    /// A kubeconfig with a certificate that another authority has signed.
    pub fn foreign_kubeconfig(&self) -> PathBuf {
        let path = self.dir.path().join("foreign.conf");
        self.write_kubeconfig(&path, &sign(&authority("other-ca"), "kubernetes-admin", &["system:masters"], false));
        path
    }

    /// A kubeconfig with a certificate of the cluster's own authority that is good no more.
    pub fn expired_kubeconfig(&self) -> PathBuf {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "kubernetes-admin");
        params.distinguished_name.push(DnType::OrganizationName, "system:masters");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let path = self.dir.path().join("expired.conf");
        self.write_kubeconfig(&path, &Identity { certificate, key: key.serialize_pem() });
        path
    }

    /// A kubeconfig without credentials.
    pub fn anonymous_kubeconfig(&self) -> PathBuf {
        use base64::Engine;
        let path = self.dir.path().join("anonymous.conf");
        let ca = base64::engine::general_purpose::STANDARD.encode(&self.ca);
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\nclusters:\n- name: test\n  cluster: {{server: 'https://{}', \
             certificate-authority-data: {ca}}}\ncontexts:\n- name: test\n  context: {{cluster: test, user: test}}\nusers:\n- name: test\n  \
             user: {{}}\n",
            self.address
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn write_kubeconfig(&self, path: &std::path::Path, identity: &Identity) {
        use base64::Engine;
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\nclusters:\n- name: test\n  cluster:\n    server: https://{}\n    \
             certificate-authority-data: {}\ncontexts:\n- name: test\n  context: {{cluster: test, user: test}}\nusers:\n- name: test\n  \
             user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
            self.address,
            encode(&self.ca),
            encode(&identity.certificate),
            encode(&identity.key)
        );
        std::fs::write(path, text).unwrap();
    }

    pub fn admin(&self) -> kube::Client {
        self.server.client(UserInfo::new("kubernetes-admin", &["system:masters"]))
    }

    /// Runs kubectl as the administrator; `input` is its standard input.
    pub async fn kubectl(&self, args: &[&str], input: &str) -> Outcome {
        self.kubectl_with(&self.kubeconfig, args, input).await
    }

    pub async fn kubectl_with(&self, kubeconfig: &std::path::Path, args: &[&str], input: &str) -> Outcome {
        use tokio::io::AsyncWriteExt;
        let mut command = tokio::process::Command::new(kubectl());
        command
            .args(args)
            .env("KUBECONFIG", kubeconfig)
            .env("HOME", self.dir.path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().expect("kubectl starts");
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let Output { status, stdout, stderr } = child.wait_with_output().await.unwrap();
        Outcome {
            ok: status.success(),
            out: String::from_utf8_lossy(&stdout).into_owned(),
            err: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.server.stop();
    }
}

/// What a command printed.
#[derive(Debug)]
pub struct Outcome {
    pub ok: bool,
    pub out: String,
    pub err: String,
}

impl Outcome {
    /// The output of a command that must succeed.
    #[track_caller]
    pub fn good(self) -> String {
        assert!(self.ok, "kubectl failed: {}{}", self.out, self.err);
        self.out
    }

    /// The error output of a command that must fail.
    #[track_caller]
    pub fn bad(self) -> String {
        assert!(!self.ok, "kubectl succeeded: {}", self.out);
        self.err
    }
}

/// The real kubectl: `$KUBECTL`, or the one that the peers' script has built.
pub fn kubectl() -> PathBuf {
    if let Some(path) = std::env::var_os("KUBECTL") {
        return PathBuf::from(path);
    }
    let home = std::env::var_os("HOME").unwrap_or_default();
    PathBuf::from(home).join(".cache/windlass-peers/kubectl")
}
