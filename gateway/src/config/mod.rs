//! The configuration: one TOML file, unknown keys refused with file, line and a hint, everything defaulted.

mod catalogue;
mod fault;
mod outbound;
mod sections;
mod trash;

use std::path::{Path, PathBuf};

pub(crate) use catalogue::Catalogue;
pub(crate) use fault::ConfigError;
pub(crate) use sections::{BackendEntry, BackendKind, Config, DialectName, Listen, LogFormat, StoreKind};

use crate::cli::ServeOptions;

/// Reads the configuration, applies what the command line overrides, and checks the whole.
///
/// # Errors
/// What is wrong, with file and line where there is one.
pub(crate) fn load(options: &ServeOptions) -> Result<Config, ConfigError> {
    let mut config = match &options.common.config {
        Some(path) => parse(path)?,
        None => Config::default(),
    };
    if let Some(path) = &options.catalogue {
        let more: Catalogue = parse(path)?;
        config.image.extend(more.image);
        config.flavor.extend(more.flavor);
    }
    if let Some(dir) = &options.common.state_dir {
        config.state_dir = Some(dir.clone());
    }
    if !options.libvirt.is_empty() {
        config.backend = options
            .libvirt
            .iter()
            .enumerate()
            .map(|(place, uri)| BackendEntry::libvirt(&format!("libvirt-{}", place + 1), uri, options.accel))
            .collect();
    }
    if config.backend.is_empty() {
        config
            .backend
            .push(BackendEntry::libvirt("libvirt-1", "qemu:///system", None));
    }
    if let Some(address) = options.listen {
        config.listen = vec![Listen::all_dialects(address)];
    }
    if let Some(address) = options.admin {
        config.admin.address = address;
    }
    config.check()?;
    Ok(config)
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::new(format!("{}: {error}", path.display())))?;
    toml::from_str(&text).map_err(|error| fault::explain(path, &text, &error))
}

/// Where state lives without a word about it: the service's directory for root, the user's own otherwise.
pub(crate) fn default_state_dir() -> PathBuf {
    let home = |name: &str| std::env::var_os(name).map(PathBuf::from);
    home("STATE_DIRECTORY")
        .or_else(|| home("XDG_STATE_HOME").map(|dir| dir.join("babelvisor")))
        .or_else(|| home("HOME").map(|dir| dir.join(".local/state/babelvisor")))
        .unwrap_or_else(|| PathBuf::from("/var/lib/babelvisor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        std::fs::write(&path, text).unwrap();
        let mut options = ServeOptions::default();
        options.common.config = Some(path);
        load(&options)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn outside_addresses_are_ranges_and_what_is_none_is_named() {
        let text = refused("[outbound]\nwebhook.allow = [\"10.0.0.0/8\", \"10.1.2.3/8\"]\n");
        assert!(
            text.contains("10.1.2.3/8") && text.contains("gateway.toml:2"),
            "{text}"
        );
        let text = refused("[outbound]\nwebhook.tries = 0\n");
        assert!(text.contains("webhook.tries"), "{text}");
        let text = refused("[outbound]\ntrust = \"/nowhere/ca.pem\"\n");
        assert!(text.contains("/nowhere/ca.pem"), "{text}");
        let good = "[outbound]\nwebhook.allow = [\"192.0.2.0/24\", \"2001:db8::/32\"]\nimage.allow = [\"192.0.2.9\"]\n";
        assert_eq!(refused(good), "");
    }

    #[test]
    fn an_unknown_key_fails_with_file_line_and_a_hint() {
        let text = refused("state_dir = \"/tmp/x\"\n[store]\nkidn = \"redis\"\n");
        assert!(text.contains("gateway.toml:3"), "{text}");
        assert!(text.contains("did you mean `kind`"), "{text}");
    }

    #[test]
    fn an_open_dialect_on_the_network_must_be_said_in_words() {
        let text = refused("[[listen]]\naddress = \"0.0.0.0:8080\"\n");
        assert!(text.contains("open_to_network"), "{text}");
    }

    #[test]
    fn a_sign_in_that_is_switched_off_makes_a_dialect_open() {
        let listen = "[[listen]]\naddress = \"0.0.0.0:8080\"\ndialects = [\"pve-open\"]\n";
        assert_eq!(refused(listen), "");
        let text = refused(&format!("{listen}[pve-open]\nauthentication = \"off\"\n"));
        assert!(text.contains("open_to_network"), "{text}");
    }

    #[test]
    fn two_backends_of_one_id_are_refused() {
        let entry = "[[backend]]\nid = \"a\"\nkind = \"memory\"\n";
        let text = refused(&format!("{entry}{entry}"));
        assert!(text.contains("backend a"), "{text}");
    }

    #[test]
    fn without_a_file_everything_has_a_default() {
        let config = load(&ServeOptions::default()).unwrap();
        assert_eq!(config.listen.len(), 1);
        assert_eq!(config.backend.len(), 1);
        assert_eq!(config.admin.address.to_string(), "127.0.0.1:9080");
    }

    #[test]
    fn every_example_is_a_good_configuration() {
        let examples = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples")).unwrap();
        let mut seen = 0;
        for path in examples.map(|entry| entry.unwrap().path()) {
            if path.extension().is_some_and(|ending| ending == "toml") {
                let mut options = ServeOptions::default();
                options.common.config = Some(path.clone());
                load(&options).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                seen += 1;
            }
        }
        assert!(seen > 0);
    }
}
