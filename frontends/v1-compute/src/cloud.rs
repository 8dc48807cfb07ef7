//! First-boot settings of a machine that exists. They are kept with the machine, sealed because they hold passwords,
//! and given back as they came; a guest reads them at its creation only, because no backend can hand a running
//! definition a new seed.

use babelvisor_core::model::{Role, Vm};
use babelvisor_core::secret::{Sealed, Secret};
use serde_json::{Value, json};

use crate::V1Compute;
use crate::call::{Call, ComputeIdentifier};
use crate::encode::{Data, unwritable};
use crate::error::Fault;
use crate::life::cloud_init::RECORDED;
use crate::operations::{Row, row};

/// The operations of this file.
pub(crate) const ROWS: &[Row] = &[
    row!("compute.cloud_init_get", cloud_init_get),
    row!("compute.cloud_init_set", cloud_init_set),
];

/// The most that is kept, in bytes of JSON.
const MOST: usize = 64 << 10;

impl V1Compute {
    /// `compute.cloud_init_get`: what was set, passwords included, as the original answers; for an account that may
    /// only read without the part that holds them. Of a machine that nobody set anything for, its names.
    pub(crate) async fn cloud_init_get(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let vm = self
            .machine(&call.caller, &ComputeIdentifier::of(&call.params), false)
            .await?;
        let mut data = match vm.record.settings.get(RECORDED) {
            Some(text) => self.opened(text)?,
            None => unset(&vm),
        };
        if let (Role::Viewer, Some(members)) = (call.caller.role, data.as_object_mut()) {
            members.insert("user_data".to_owned(), json!({}));
        }
        Data::of(&json!({ "cloud_init_data": data }))
    }

    /// `compute.cloud_init_set`: all of it is replaced.
    pub(crate) async fn cloud_init_set(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let identifier = ComputeIdentifier::of(&call.params);
        let data = call.params.get("cloud_init_data").filter(|data| data.is_object());
        let data = data.ok_or_else(|| Fault::parameter("cloud_init_data: expected object"))?;
        let text = data.to_string();
        if text.len() > MOST {
            return Err(Fault::parameter(format!("cloud_init_data: at most {MOST} bytes")));
        }
        let sealed = self.core.seal(&Secret::new(text))?;
        let sealed = serde_json::to_string(&sealed).map_err(unwritable)?;
        let said = |pointer: &str| {
            let text = data.pointer(pointer).and_then(Value::as_str).map(str::trim);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let hostname = said("/meta_data/hostname");
        self.record(call, &identifier, |record| {
            record.settings.insert(RECORDED.to_owned(), sealed.clone());
            if hostname.is_some() {
                record.hostname.clone_from(&hostname);
            }
        })
        .await?;
        Ok(Data::empty())
    }

    fn opened(&self, text: &str) -> Result<Value, Fault> {
        let torn =
            |what: &str| babelvisor_core::Error::internal(format!("recorded first-boot settings: {what}"));
        let sealed: Sealed = serde_json::from_str(text).map_err(|_| torn("not sealed as expected"))?;
        let opened = self.core.open(&sealed)?;
        serde_json::from_str(opened.expose()).map_err(|_| torn("not JSON").into())
    }
}

/// What is known of a machine that nobody set anything for.
fn unset(vm: &Vm) -> Value {
    let name = vm.record.hostname.as_deref().unwrap_or_else(|| vm.name());
    json!({
        "meta_data": {
            "hostname": name,
            "name": vm.name(),
            "uuid": vm.id.to_string(),
            "public_keys": {"key": vm.record.ssh_keys.join("\n")},
        },
        "network_data": {"links": [], "networks": [], "services": []},
        "user_data": {},
    })
}
