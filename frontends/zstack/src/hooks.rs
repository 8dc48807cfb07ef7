//! Web hooks: the end of a call, posted to the address that `X-Web-Hook` named, with the body that a poll would
//! answer. The core delivers and tries again; here is what is posted.

use async_trait::async_trait;
use babelvisor_core::Error;
use babelvisor_core::jobs::{HookEncoder, HookMessage};
use babelvisor_core::model::Polled;

use crate::{Zstack, jobs};

#[async_trait]
impl HookEncoder for Zstack {
    fn dialect(&self) -> &'static str {
        self.contract.dialect().name()
    }

    async fn encode(&self, ended: &Polled) -> Result<HookMessage, Error> {
        let (success, body) = self.end(ended).await?;
        let headers = [
            ("Content-Type", self.contract.settings().content_type.clone()),
            ("X-Job-UUID", jobs::uuid_of(ended)),
            ("X-Job-Success", success.to_string()),
        ];
        Ok(HookMessage {
            headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
            body,
        })
    }
}
