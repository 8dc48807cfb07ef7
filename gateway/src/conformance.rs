//! `babelvisor conformance`: the conformance suite from the command line.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use babelvisor_conformance::runner::{
    self, Address, Library, Options, Outcome, Progress, Report, RunError, Site, Target, html, junit, summary,
};
use babelvisor_schemas::Dialect;
use clap::{Args, Subcommand};

use crate::cli::{Failure, print};
use crate::conformance_backend::{self, BackendOptions};

/// Nothing could be run: a wrong option, or a target that does not answer.
const NOT_RUN: u8 = 2;

/// What `conformance` can do.
#[derive(Subcommand)]
pub(crate) enum ConformanceCommand {
    /// Run the scenarios of a dialect against a gateway or an original system; ends with 0 when all passed, 1 when
    /// one failed, 2 when nothing could be run
    Run(RunOptions),
    /// List the scenarios of a dialect, and what is documented and not yet proved
    List(ListOptions),
    /// Judge a backend of a configuration by what it declares: machines and volumes named kit-… are made on it and
    /// removed; ends with 0 when it is conformant, 1 when a check failed, 2 when nothing could be judged
    Backend(BackendOptions),
}

/// `conformance run`.
#[derive(Args)]
pub(crate) struct RunOptions {
    /// Address of the target, for example http://127.0.0.1:8080
    #[arg(long, value_name = "URL")]
    target: String,
    /// The dialect: guest-rest, v1-compute, zstack, pve-open or kvm-task-feed
    #[arg(long, value_parser = dialect)]
    dialect: Dialect,
    /// The target is the system that the dialect comes from, not a gateway
    #[arg(long)]
    original: bool,
    /// What to call the run in the reports
    #[arg(long, default_value = "")]
    label: String,
    /// Only scenarios whose name, or whose list of what they prove, contains this; may be given several times
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// Only the short choice of scenarios that say so
    #[arg(long)]
    short: bool,
    /// Directory for report.json, junit.xml and report.html; made if it is not there
    #[arg(long, value_name = "DIR")]
    report_dir: Option<PathBuf>,
    /// The gateway's operators' address: its capabilities are asked there
    #[arg(long, value_name = "URL", conflicts_with_all = ["original", "capabilities"])]
    admin: Option<String>,
    /// What the target has, `power.suspend,vm.create,…`; without it, everything
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    capabilities: Option<Vec<String>>,
    /// A YAML file that describes the target: `capabilities` and `vars`
    #[arg(long, value_name = "FILE")]
    site: Option<PathBuf>,
    /// One fact about the target, `template=1`; outranks the site file; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = fact)]
    set: Vec<(String, serde_json::Value)>,
    /// Scenarios from this directory (`<DIR>/<dialect>/*.yaml`) in place of those built in
    #[arg(long, value_name = "DIR")]
    scenarios: Option<PathBuf>,
    /// How many scenarios may run at once
    #[arg(long, value_name = "N", default_value_t = 8)]
    parallel: usize,
}

/// `conformance list`.
#[derive(Args)]
pub(crate) struct ListOptions {
    /// The dialect
    #[arg(long, value_parser = dialect)]
    dialect: Dialect,
    /// Scenarios from this directory in place of those built in
    #[arg(long, value_name = "DIR")]
    scenarios: Option<PathBuf>,
    /// Print the claims of operations that are not built instead: the text of `conformance/baselines/<dialect>.txt`
    #[arg(long)]
    baseline: bool,
}

fn dialect(name: &str) -> Result<Dialect, String> {
    let known = || Dialect::ALL.map(Dialect::name).join(", ");
    Dialect::ALL
        .into_iter()
        .find(|dialect| dialect.name() == name)
        .ok_or_else(|| format!("there are {}", known()))
}

/// Reads `name=value`; a value that is JSON keeps its type.
fn fact(text: &str) -> Result<(String, serde_json::Value), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| serde_json::Value::String(value.to_owned()));
    Ok((name.to_owned(), value))
}

/// Does what the command says.
///
/// # Errors
/// A text for people; [`ConformanceCommand::Run`] answers with its own exit codes instead.
pub(crate) fn run(command: &ConformanceCommand) -> Result<ExitCode, Failure> {
    match command {
        ConformanceCommand::Backend(options) => Ok(conformance_backend::run(options)),
        ConformanceCommand::List(options) => list(options).map(|()| ExitCode::SUCCESS),
        ConformanceCommand::Run(options) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            match runtime.block_on(scenarios(options)) {
                Ok(true) => Ok(ExitCode::SUCCESS),
                Ok(false) => Ok(ExitCode::FAILURE),
                Err(error) => {
                    let _ = writeln!(std::io::stderr(), "babelvisor: {error}");
                    Ok(ExitCode::from(NOT_RUN))
                }
            }
        }
    }
}

async fn scenarios(options: &RunOptions) -> Result<bool, Failure> {
    let library = library(options.dialect, options.scenarios.as_deref())?;
    let site = site(options).await?;
    let plan = Options {
        kind: if options.original {
            Target::Original
        } else {
            Target::Gateway
        },
        label: options.label.clone(),
        filters: options.filter.clone(),
        short: options.short,
        parallel: options.parallel,
        site,
        ..Options::new(options.target.clone())
    };
    let terminal = std::io::stderr().is_terminal();
    let report = runner::run(library, plan, |progress| {
        if terminal {
            show(&progress);
        }
    })
    .await
    .map_err(|error: RunError| Box::new(error) as Failure)?;
    if terminal {
        let _ = write!(std::io::stderr(), "\r\u{1b}[K");
    }
    if let Some(directory) = &options.report_dir {
        write_reports(directory, &report)?;
    }
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    print(&summary(&report, colours));
    Ok(report.passed())
}

/// One line that is written over and over: how far it is, and what just ended.
fn show(progress: &Progress<'_>) {
    const WIDTH: usize = 24;
    let filled = progress
        .done
        .saturating_mul(WIDTH)
        .checked_div(progress.of)
        .unwrap_or(WIDTH);
    let bar: String = (0..WIDTH)
        .map(|place| if place < filled { '█' } else { '░' })
        .collect();
    let mark = match progress.last.outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "FAILED",
        Outcome::Skipped => "skipped",
    };
    let _ = write!(
        std::io::stderr(),
        "\r\u{1b}[K{bar} {}/{} {mark} {}",
        progress.done,
        progress.of,
        progress.last.name
    );
}

async fn site(options: &RunOptions) -> Result<Site, Failure> {
    let mut site = match &options.site {
        Some(file) => {
            let text =
                std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
            Site::parse(&file.to_string_lossy(), &text)?
        }
        None => Site::default(),
    };
    for (name, value) in &options.set {
        site.vars.insert(name.clone(), value.clone());
    }
    if let Some(names) = &options.capabilities {
        site.only(names.iter().cloned())?;
    }
    if let Some(admin) = &options.admin {
        ask(admin, &mut site).await?;
    }
    Ok(site)
}

/// Asks a gateway what its backends can do.
async fn ask(admin: &str, site: &mut Site) -> Result<(), Failure> {
    let address = Address::resolve(admin).await?;
    let get = async |path: &str| -> Result<String, Failure> {
        match address.get(path).await? {
            (200, text) => Ok(text),
            (status, _) => Err(format!("{admin}{path} answered {status}").into()),
        }
    };
    let metrics = get("/metrics").await?;
    let kinds = backend_kinds(&metrics);
    if kinds.is_empty() {
        return Err(format!("{admin}/metrics names no backend in gateway_backend_up").into());
    }
    let coverage = serde_json::from_str(&get("/_gw/coverage").await?)?;
    site.from_coverage(&coverage, &kinds)?;
    Ok(())
}

/// The kinds of backends in `gateway_backend_up{backend="one",kind="memory"} 1`.
fn backend_kinds(metrics: &str) -> Vec<String> {
    let mut kinds: Vec<String> = metrics
        .lines()
        .filter(|line| line.starts_with("gateway_backend_up{"))
        .filter_map(|line| line.split_once("kind=\"")?.1.split_once('"'))
        .map(|(kind, _)| kind.to_owned())
        .collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

fn library(dialect: Dialect, directory: Option<&Path>) -> Result<Library, Failure> {
    Ok(match directory {
        Some(directory) => Library::read(directory, dialect)?,
        None => Library::built_in(dialect)?,
    })
}

fn write_reports(directory: &Path, report: &Report) -> Result<(), Failure> {
    let failed =
        |path: &Path, error: std::io::Error| -> Failure { format!("{}: {error}", path.display()).into() };
    std::fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
    for (name, text) in [
        ("report.json", report.json()),
        ("junit.xml", junit(report)),
        ("report.html", html(report)),
    ] {
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

fn list(options: &ListOptions) -> Result<(), Failure> {
    let library = library(options.dialect, options.scenarios.as_deref())?;
    let coverage = runner::Coverage::of(&library)?;
    if options.baseline {
        print(coverage.baseline_text().trim_end());
        return Ok(());
    }
    for (name, desc) in library.names() {
        print(&format!("{name:<28} {desc}"));
    }
    for id in &coverage.open {
        print(&format!("open: {id}"));
    }
    for wrong in &coverage.wrong {
        print(&format!("wrong: {wrong}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn facts_keep_their_types() {
        assert_eq!(fact("template=1").unwrap(), ("template".to_owned(), json!(1)));
        assert_eq!(fact("account=A1").unwrap(), ("account".to_owned(), json!("A1")));
        assert!(fact("account").is_err());
    }

    #[test]
    fn the_kinds_of_backends_are_read_from_the_metrics() {
        let text = "# TYPE gateway_backend_up gauge\ngateway_backend_up{backend=\"one\",kind=\"memory\"} 1\n\
                    gateway_backend_up{backend=\"two\",kind=\"libvirt\"} 0\ngateway_vms 2\n";
        assert_eq!(backend_kinds(text), ["libvirt", "memory"]);
    }
}
