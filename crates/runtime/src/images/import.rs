//! Images made here: one layer, written by a closure. The binary registers what it carries in itself this way.

use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::reference::Reference;
use super::store::{Images, Stored};
use crate::spec::ImageConfig;

pub fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

impl Images {
    /// Registers an image whose one layer the closure writes. Does nothing when `name` already is this `version`, which
    /// the caller chooses (a digest of what goes in, a program's version).
    pub fn import_rootfs(
        &self,
        name: &str,
        version: &str,
        config: &ImageConfig,
        fill: impl FnOnce(&mut tar::Builder<&mut dyn io::Write>) -> io::Result<()>,
    ) -> io::Result<Stored> {
        let reference = Reference::parse(name).ok_or_else(|| invalid(format!("couldn't parse image name {name:?}")))?;
        let tag = reference.tagged().ok_or_else(|| invalid("a built-in image needs a tag"))?;
        let marker = self.ingest().join(format!("{}.version", tag.replace('/', "_")));
        if let Some(found) = self.find(&tag)?
            && std::fs::read_to_string(&marker).is_ok_and(|v| v == version)
        {
            return Ok(found);
        }
        let temporary = self.ingest().join(format!("tmp-{}.tar", uuid::Uuid::new_v4()));
        let imported = self.import_one_layer(&temporary, &tag, config, fill);
        std::fs::remove_file(&temporary)?;
        let image = imported?;
        std::fs::write(&marker, version)?;
        Ok(image)
    }

    fn import_one_layer(
        &self,
        temporary: &Path,
        tag: &str,
        config: &ImageConfig,
        fill: impl FnOnce(&mut tar::Builder<&mut dyn io::Write>) -> io::Result<()>,
    ) -> io::Result<Stored> {
        let mut file = io::BufWriter::new(std::fs::File::create(temporary)?);
        let mut builder = tar::Builder::new(&mut file as &mut dyn io::Write);
        fill(&mut builder)?;
        builder.finish()?;
        drop(builder);
        file.into_inner().map_err(io::IntoInnerError::into_error)?;
        let lease = self.lease(&[])?;
        let layer = self.add_layer(&lease, std::fs::File::open(temporary)?, None)?;
        let text = serde_json::to_vec(&config_file(config, &[layer.diff_id]))?;
        self.add_image(&text, &[tag.to_owned()], &[], true)
    }
}

fn config_file(config: &ImageConfig, diff_ids: &[String]) -> Value {
    json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "User": config.user.clone().unwrap_or_default(),
            "Env": config.env,
            "Entrypoint": config.entrypoint,
            "Cmd": config.command,
            "WorkingDir": config.working_directory.clone().unwrap_or_default(),
            "StopSignal": config.stop_signal,
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
}

/// This machine's architecture by its name in image indexes.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "riscv64" => "riscv64",
        other => other,
    }
}
