//! Who calls. The original knows nobody: every caller is the same anonymous one, whose tenant and role the site
//! chooses. A site may ask for a shared secret in a header besides.

use babelvisor_core::ErrorKind;
use babelvisor_core::frontend::Request;
use babelvisor_core::model::{Caller, TenantId};
use babelvisor_core::secret::sha256_hex;
use subtle::ConstantTimeEq as _;

use crate::error::Fault;
use crate::settings::Settings;

/// Refuses a request without the shared secret, where the site asks for one.
pub(crate) fn check(settings: &Settings, request: &Request) -> Result<(), Fault> {
    let Some(credential) = &settings.credential else {
        return Ok(());
    };
    let sent = request
        .header(&credential.header.to_ascii_lowercase())
        .unwrap_or_default();
    // Digests of equal length are compared, so that neither time nor length says anything of the secret.
    let (sent, wanted) = (sha256_hex(sent), credential.sha256.to_ascii_lowercase());
    if bool::from(sent.as_bytes().ct_eq(wanted.as_bytes())) {
        Ok(())
    } else {
        let detail = format!("header {} is missing or wrong", credential.header);
        Err(Fault::of_kind(ErrorKind::Unauthenticated, detail))
    }
}

/// The anonymous caller.
pub(crate) fn caller(settings: &Settings, operation: &str, request: &Request) -> Caller {
    Caller {
        account: None,
        tenant: TenantId::new(&settings.tenant),
        role: settings.role,
        vm_quota: None,
        dialect: babelvisor_schemas::Dialect::GuestRest.name(),
        operation: operation.to_owned(),
        request_id: request.request_id.clone(),
    }
}
