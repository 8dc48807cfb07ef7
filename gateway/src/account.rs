//! `babelvisor account add`.

use std::io::Read as _;

use babelvisor_core::model::{Role, TenantId};
use babelvisor_core::registry::Registry;
use babelvisor_core::registry::accounts::NewAccount;
use babelvisor_core::secret::Secret;

use crate::cli::{AddAccount, Failure, RoleName, ServeOptions, print};
use crate::{assemble, config};

/// Makes an account in the configured store.
///
/// # Errors
/// A text for people.
pub(crate) fn add(new: &AddAccount) -> Result<(), Failure> {
    let options = ServeOptions {
        common: new.common.clone(),
        ..ServeOptions::default()
    };
    let config = config::load(&options)?;
    let (secret, made) = match &new.secret_file {
        Some(path) => (read_secret(path)?, false),
        None => (Secret::random(43), true),
    };
    let account = NewAccount {
        name: new.name.clone(),
        tenant: TenantId::new(&new.tenant),
        role: match new.role {
            RoleName::Admin => Role::Admin,
            RoleName::User => Role::User,
            RoleName::Viewer => Role::Viewer,
        },
        identity_verified: !new.unverified,
        vm_quota: new.vm_quota,
        password: secret.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let registry = Registry::new(assemble::store(&config).await?);
        registry.add_account(account).await
    })?;
    print(&format!("account {} of tenant {} was made", new.name, new.tenant));
    if made {
        print(&format!("its secret, shown this once: {}", secret.expose()));
    }
    Ok(())
}

fn read_secret(path: &std::path::Path) -> Result<Secret, Failure> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(Secret::new(text.lines().next().unwrap_or_default()))
}
