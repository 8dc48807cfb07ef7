//! From an operation's id to the function that answers it, through the checks that all of them share.

use babelvisor_core::frontend::{Request, Routed};
use babelvisor_core::model::Role;
use babelvisor_core::{Error, ErrorKind};
use babelvisor_schemas::Remarks;

use crate::PveOpen;
use crate::auth::Visitor;
use crate::decode;
use crate::encode::Data;
use crate::error::Fault;

/// The operations that are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    CreateQuantity,
    CreateRent,
    Operate,
    Reboot,
    One,
    MyPage,
    Delete,
    PackAge,
    Image,
    GetToken,
}

/// Ids as the contract has them.
const CALLS: [(&str, Call); 10] = [
    ("pve.createquantity", Call::CreateQuantity),
    ("pve.createRent", Call::CreateRent),
    ("pve.operate", Call::Operate),
    ("pve.reboot", Call::Reboot),
    ("pve.one", Call::One),
    ("pve.mypage", Call::MyPage),
    ("pve.delete", Call::Delete),
    ("pve.packAge", Call::PackAge),
    ("pve.image", Call::Image),
    ("pve.getToken", Call::GetToken),
];

impl PveOpen {
    /// Answers one call: token (401), right to change (1001), parameters (1007), then the call itself. With its
    /// data comes what the client should know about fields that did not do all.
    pub(crate) async fn call(
        &self,
        operation: Option<&'static str>,
        routed: &Routed,
        request: &Request,
    ) -> Result<(Data, Remarks<'static>), Fault> {
        let id = operation.unwrap_or_default();
        let not_built = || Error::new(ErrorKind::NotImplemented, format!("operation {id} is not built"));
        let (_, call) = CALLS
            .iter()
            .find(|(known, _)| *known == id)
            .ok_or_else(not_built)?;
        let operation = self.contract.operation(id).ok_or_else(not_built)?;
        let remarks = || {
            let remarks = decode::remarks(self.contract, operation, request, self.settings.strictness);
            match remarks.refusal() {
                Some(violation) => Err(Fault::violation(&[violation])),
                None => Ok(remarks),
            }
        };
        if *call == Call::GetToken {
            let remarks = remarks()?;
            let token = self.get_token(decode::sign_in(operation, request)?).await?;
            return Ok((token, remarks));
        }
        let visitor = self.visitor(id, request).await?;
        if operation.state_changing {
            may_change(&visitor)?;
        }
        let remarks = remarks()?;
        let data = match call {
            Call::CreateQuantity => {
                self.create_by_use(&visitor, &decode::create(operation, request)?)
                    .await
            }
            Call::CreateRent => {
                self.create_rented(&visitor, &decode::rent(operation, request)?)
                    .await
            }
            Call::Operate => {
                let id = decode::path(operation, routed, "id")?;
                self.operate(&visitor, id, decode::switching(operation, request)?)
                    .await
            }
            Call::Reboot => {
                self.reboot(&visitor, decode::path(operation, routed, "id")?)
                    .await
            }
            Call::One => self.one(&visitor, decode::path(operation, routed, "id")?).await,
            Call::MyPage => self.my_page(&visitor, &decode::page(operation, request, &self.settings)?),
            Call::Delete => {
                self.delete(
                    &visitor,
                    decode::path(operation, routed, "id")?,
                    operation.longest_wait,
                )
                .await
            }
            Call::PackAge => self.packages(&visitor, decode::paying(operation, routed)?),
            Call::Image => self.images(&visitor),
            Call::GetToken => Err(not_built().into()),
        }?;
        Ok((data, remarks))
    }
}

/// Said here and not only in the core, because a call with nothing to do never gets there.
fn may_change(visitor: &Visitor) -> Result<(), Fault> {
    match visitor.caller.role {
        Role::Admin | Role::User => Ok(()),
        Role::Viewer => Err(Error::new(ErrorKind::Forbidden, "this account may only read").into()),
    }
}

#[cfg(test)]
mod tests {
    use babelvisor_schemas::{Dialect, contract};

    use super::CALLS;

    #[test]
    fn what_the_contract_calls_built_has_a_function_and_nothing_else_has() {
        let contract = contract(Dialect::PveOpen);
        let mut built: Vec<&str> = contract
            .operations()
            .iter()
            .filter(|operation| operation.built)
            .map(|operation| operation.id.as_str())
            .collect();
        let mut here: Vec<&str> = CALLS.iter().map(|(id, _)| *id).collect();
        built.sort_unstable();
        here.sort_unstable();
        assert_eq!(here, built);
    }
}
