//! `babelvisor serve`: from the configuration to a drained end.

use std::sync::Arc;
use std::time::Duration;

use babelvisor_core::layers::Core;
use babelvisor_core::model::Timestamp;
use babelvisor_server::{Admin, AdminConfig, Limits, Server, ServerConfig};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::sync::watch;

use crate::admin::Desk;
use crate::cli::{Failure, ServeOptions};
use crate::{assemble, config, logging};

/// The version, with the commit where the build knew it.
pub(crate) const VERSION: &str = env!("GATEWAY_VERSION");

/// What this program reads from its environment besides `RUST_LOG` and the places of its state.
const VARIABLES: [&str; 2] = [
    babelvisor_core::jobs::killpoint::VARIABLE,
    babelvisor_core::jobs::killpoint::HALT_VARIABLE,
];

/// Runs until told to stop.
///
/// # Errors
/// A text for people: a bad configuration, a taken address, a store in use.
pub(crate) fn run(options: &ServeOptions) -> Result<(), Failure> {
    let config = config::load(options)?;
    logging::start(&config)?;
    for name in unknown_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())) {
        tracing::warn!(
            name,
            "this environment variable means nothing to the gateway; settings are in its configuration file"
        );
    }
    if let Err(faults) = babelvisor_schemas::check() {
        return Err(format!("the built-in contracts are damaged: {}", faults.join("; ")).into());
    }
    if let Some(place) = babelvisor_core::jobs::killpoint::armed() {
        tracing::warn!(
            place,
            "a crash is being rehearsed: this process will kill itself there"
        );
    }
    let metrics = metrics_recorder()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(serve(&config, metrics));
    // Backend calls cannot be cancelled; their threads must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(500));
    outcome
}

async fn serve(config: &config::Config, metrics: PrometheusHandle) -> Result<(), Failure> {
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        wait_for_signal().await;
        stop.send_replace(true);
    });
    let parts = assemble::parts(config).await?;
    let core = parts.core.clone();
    let listeners: Vec<_> = config
        .listen
        .iter()
        .map(|listen| assemble::listener(config, &parts, listen))
        .collect();
    let dialects = assemble::dialects(&listeners);
    let server = Server::bind(ServerConfig {
        listeners,
        limits: Limits::default(),
    })
    .await?;
    let readiness = server.readiness();
    let tidied = tokio::spawn(tidy_metrics(metrics.clone()));
    let desk = Desk::new(core.clone(), metrics, readiness, config.store.kind, dialects);
    let admin_config = AdminConfig {
        address: config.admin.address,
        open_to_network: config.admin.open_to_network,
        host_names: config.admin.host_names.clone(),
    };
    let admin = Admin::bind(admin_config, Arc::new(desk)).await?;
    for address in server.local_addrs() {
        tracing::info!(%address, "dialects are answered here");
    }
    tracing::info!(address = %admin.local_addr(), version = VERSION, "operators are answered here");

    let end = |mut stopped: watch::Receiver<bool>| async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let drained = core.clone();
    let admin_task = tokio::spawn(admin.run(std::future::pending()));
    server.run(end(stopped)).await;
    tracing::info!("no more requests, letting running jobs end");
    drained.engine().drain().await;
    admin_task.abort();
    tidied.abort();
    drop(parts);
    tracing::info!("ended");
    Ok(())
}

async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terminate => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// The variables that look as if they were meant for us but are not read.
fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    names
        .filter(|name| name.starts_with("BABELVISOR_") && !VARIABLES.contains(&name.as_str()))
        .collect()
}

/// Removes jobs that ended long ago, and sessions that have expired, once an hour.
pub(crate) async fn tidy_store(core: Arc<Core>, keep_hours: u64) {
    let mut tick = tokio::time::interval(Duration::from_secs(3600));
    loop {
        tick.tick().await;
        let store = core.registry().store();
        let mine = store
            .lease("purge", core.engine().worker(), Duration::from_secs(7200))
            .await;
        let before = Timestamp::now().checked_sub(Duration::from_secs(keep_hours.saturating_mul(3600)));
        if let (Ok(true), Ok(before)) = (&mine, before)
            && let Err(error) = store.purge(before).await
        {
            tracing::warn!(%error, "old jobs could not be removed");
        }
        if mine.is_ok_and(|mine| mine)
            && let Err(error) = core.registry().purge_sessions().await
        {
            tracing::warn!(%error, "sessions that have expired could not be removed");
        }
    }
}

/// Sums up the durations that were recorded since the last time: unless somebody asks for the metrics, the recorder
/// keeps every single one.
async fn tidy_metrics(metrics: PrometheusHandle) {
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    loop {
        tick.tick().await;
        metrics.run_upkeep();
    }
}

fn metrics_recorder() -> Result<PrometheusHandle, Failure> {
    const SECONDS: &[f64] = &[
        0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ];
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".to_owned()), SECONDS)?;
    Ok(builder.install_recorder()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_variables_that_look_like_ours_and_are_not_read_are_unknown() {
        let names = ["BABELVISOR_KILL_AT", "BABELVISOR_LISTEN", "HOME", "XBABELVISOR_"];
        let unknown = unknown_variables(names.into_iter().map(str::to_owned));
        assert_eq!(unknown, ["BABELVISOR_LISTEN"]);
    }
}
