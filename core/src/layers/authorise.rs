//! Who may change anything at all. Whose objects somebody sees is decided in [`crate::query`].

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Caller, Role};

/// A viewer changes nothing.
pub(super) fn may_change(caller: &Caller) -> Result<()> {
    match caller.role {
        Role::Admin | Role::User => Ok(()),
        Role::Viewer => Err(Error::new(ErrorKind::Forbidden, "this account may only read")),
    }
}
