//! Accounts.

use babelvisor_core::model::Role;

use super::Row;
use crate::query::table::{Field, Resource, Rows, field};
use crate::query::value::{Value, id};

/// Accounts: an administrator sees all, everybody else those of the own tenant.
pub(crate) static ACCOUNT: Resource = Resource {
    class: "org.zstack.header.identity.AccountInventory",
    fields: FIELDS,
    relations: &[],
    rows: Rows::Own(|world| {
        let accounts = world.now.accounts.values();
        let rows = accounts.map(|account| Row::Account(account));
        rows.filter(|row| super::sees(world, *row)).collect()
    }),
    by_uuid: None,
};

static FIELDS: &[Field] = &[
    field!("uuid", Uuid, Row::Account(account), |_| id(account.id)),
    field!("name", Text, Row::Account(account), |_| &account.name),
    field!("description", Text, Row::Account(_), |_| Value::Null),
    field!("type", Text, Row::Account(account), |_| match account.role {
        Role::Admin => "SystemAdmin",
        Role::User | Role::Viewer => "Normal",
    }),
    field!("createDate", Date, Row::Account(account), |_| account.created),
    field!("lastOpDate", Date, Row::Account(account), |_| account.created),
];
