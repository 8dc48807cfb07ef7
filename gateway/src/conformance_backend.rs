//! `babelvisor conformance backend`: the backend kit on a backend of a configuration.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use babelvisor_conformance::kit::{Format, GuestHabit, KitConfig, KitImage, cli};
use babelvisor_core::model::{BackendId, ImageKind};
use clap::{Args, ValueEnum};

use crate::assemble;
use crate::cli::{Failure, ServeOptions, print};
use crate::config::{self, BackendEntry, BackendKind, Config};

/// Nothing could be judged: a wrong option, or a backend that does not answer.
const NOT_RUN: u8 = 2;

/// `conformance backend`.
#[derive(Args)]
pub(crate) struct BackendOptions {
    /// The id of a [[backend]] in the configuration
    name: String,
    /// The configuration (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Settings of the kit (TOML): pool, image, nic, what guests need, bounds, known divergences; without it, they
    /// follow from the kind of backend and from the configuration's images
    #[arg(long, value_name = "FILE")]
    kit: Option<PathBuf>,
    /// Only checks whose name contains this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// How the report is printed
    #[arg(long, value_enum, default_value = "text")]
    format: FormatName,
}

/// How the report is printed.
#[derive(Clone, Copy, ValueEnum)]
enum FormatName {
    /// For people
    Text,
    /// For machines
    Json,
}

/// Judges a backend: 0 when it is conformant, 1 when a check failed, 2 when nothing could be judged.
pub(crate) fn run(options: &BackendOptions) -> ExitCode {
    match judge(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "babelvisor: {error}");
            ExitCode::from(NOT_RUN)
        }
    }
}

fn judge(options: &BackendOptions) -> Result<bool, Failure> {
    let mut serve = ServeOptions::default();
    serve.common.config = Some(options.config.clone());
    let config = config::load(&serve)?;
    let entry = config
        .backend
        .iter()
        .find(|entry| entry.id == options.name)
        .ok_or_else(|| {
            let known: Vec<&str> = config.backend.iter().map(|entry| entry.id.as_str()).collect();
            format!(
                "{} has no backend {:?}; it has {}",
                options.config.display(),
                options.name,
                known.join(", ")
            )
        })?;
    let kit = settings(options, &config, entry)?;
    let format = match options.format {
        FormatName::Text => Format::Text,
        FormatName::Json => Format::Json,
    };
    let backend = || assemble::backend(entry, None).map(|(_, backend)| backend);
    let (report, conformant) = cli(backend, kit, format)?;
    print(&report);
    Ok(conformant)
}

/// The kit's settings: those of the file, or what the configuration says of the backend.
fn settings(options: &BackendOptions, config: &Config, entry: &BackendEntry) -> Result<KitConfig, Failure> {
    let mut kit = match &options.kit {
        Some(path) => read(path)?,
        None => by_kind(&entry.kind),
    };
    if kit.image.is_none() {
        kit.image = image(config, entry);
    }
    if kit.guest == GuestHabit::NeedsImage && kit.image.is_none() {
        kit.guest = GuestHabit::Deaf;
    }
    if options.filter.is_some() {
        kit.filter.clone_from(&options.filter);
    }
    kit.reproduce = format!(
        "babelvisor conformance backend {} --config {}{} --filter {{check}}",
        entry.id,
        options.config.display(),
        options
            .kit
            .as_ref()
            .map_or_else(String::new, |path| format!(" --kit {}", path.display())),
    );
    Ok(kit)
}

fn read(path: &Path) -> Result<KitConfig, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let kit = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(kit)
}

fn by_kind(kind: &BackendKind) -> KitConfig {
    match kind {
        BackendKind::Memory(_) | BackendKind::KvmAgent(_) => KitConfig::default(),
        // Pools of files give out more than they have, and volumes have no room for a job's id. Others may be at work
        // on a real host.
        BackendKind::Libvirt(config) => KitConfig {
            pool_reserves: false,
            volumes_carry_jobs: false,
            exclusive: false,
            guest: if config.uri.starts_with("test") {
                GuestHabit::Obeys
            } else {
                GuestHabit::NeedsImage
            },
            ..KitConfig::default()
        },
    }
}

/// The first disk image that the backend has.
fn image(config: &Config, entry: &BackendEntry) -> Option<KitImage> {
    let here = [BackendId::new(&entry.id)];
    config
        .image
        .iter()
        .map(|image| image.seed(&here))
        .filter(|image| image.kind == ImageKind::Disk)
        .find_map(|image| image.locations.into_iter().next())
        .map(|location| KitImage {
            native: location.native,
            format: location.format,
        })
}
