//! `windlass image`: the node's image store, with or without a running node.

use std::path::PathBuf;

use anyhow::{Context, bail};
use pods::ports::{Image, RegistryAuth};
use runtime::NodeImages;

use crate::config::Settings;

#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// List the images of this node
    Ls,
    /// Fetch an image from its registry
    Pull {
        image: String,
        /// `USER:PASSWORD` for the registry
        #[arg(long, env = "WINDLASS_REGISTRY_CREDENTIALS", hide_env_values = true)]
        credentials: Option<String>,
    },
    /// Take images from a tar file: an OCI layout, or what `docker save` writes
    Import { file: PathBuf },
    /// Remove images
    Rm {
        #[arg(required = true)]
        images: Vec<String>,
    },
}

#[tokio::main(worker_threads = 2)]
pub async fn run(settings: &Settings, action: Action) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the node's images belong to root: run this as root (sudo windlass image ...)");
    }
    // The images alone: a running node keeps its containers to itself.
    let images = NodeImages::open(&settings.runtime())?;
    match action {
        Action::Ls => list(&images.list()?),
        Action::Pull { image, credentials } => {
            let auth: Vec<RegistryAuth> = credentials.as_deref().map(credential).transpose()?.into_iter().collect();
            let pulled = images.pull(&image, &auth).await.with_context(|| format!("cannot pull {image}"))?;
            println!("{}", pulled.repo_digests.first().unwrap_or(&pulled.id));
        }
        Action::Import { file } => {
            let archive = std::fs::File::open(&file).with_context(|| format!("cannot open {}", file.display()))?;
            let imported = tokio::task::block_in_place(|| images.store.import_archive(archive, None))
                .with_context(|| format!("cannot import {}", file.display()))?;
            for image in imported {
                println!("{}", image.image().repo_tags.first().unwrap_or(&image.id));
            }
        }
        Action::Rm { images: names } => {
            for name in names {
                if images.store.find(&name)?.is_none() {
                    bail!("cannot remove {name}: no such image");
                }
                images.remove(&name).with_context(|| format!("cannot remove {name}"))?;
                println!("{name}");
            }
        }
    }
    Ok(())
}

fn credential(text: &str) -> anyhow::Result<RegistryAuth> {
    let (username, password) = text.split_once(':').context("--credentials: expected USER:PASSWORD")?;
    Ok(RegistryAuth { username: username.to_owned(), password: password.to_owned(), identity_token: None })
}

fn list(images: &[Image]) {
    let width = images.iter().flat_map(|i| &i.repo_tags).map(String::len).max().unwrap_or(0).max(5);
    println!("{:width$}  {:12}  {:>9}", "IMAGE", "ID", "SIZE");
    for image in images {
        let id: String = image.id.trim_start_matches("sha256:").chars().take(12).collect();
        let size = format!("{:.1} MB", image.size_bytes as f64 / 1e6);
        let names = if image.repo_tags.is_empty() { &image.repo_digests } else { &image.repo_tags };
        for name in names {
            println!("{name:width$}  {id:12}  {size:>9}");
        }
    }
}
