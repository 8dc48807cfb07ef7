//! One guest, lists and searches. All are answered from the inventory; no hypervisor is asked.

use std::sync::Arc;

use babelvisor_core::ErrorKind;
use babelvisor_core::frontend::{Reply, Request, Routed};
use babelvisor_core::inventory::Snapshot;
use babelvisor_core::model::{Caller, Vm, VmId};
use babelvisor_core::query;
use babelvisor_schemas::Operation;

use crate::GuestRest;
use crate::decode::{self, Listing};
use crate::encode::Field;
use crate::error::{Fault, Outcome};
use crate::paging::Link;

const LIST: &str = "/api/guests";
const SEARCH: &str = "/api/guests/_search";

impl GuestRest {
    pub(crate) async fn get(&self, operation: &Operation, caller: &Caller, routed: &Routed) -> Outcome {
        let vm = self.find(caller, decode::uuid(operation, routed)?).await?;
        Ok(self.encoder.one(&self.core.now(), &vm))
    }

    pub(crate) fn list(&self, operation: &Operation, caller: &Caller, request: &Request) -> Outcome {
        let listing = decode::listing(operation, &request.query, "filter")?;
        Ok(self.rows(caller, request, &listing, LIST, "filter"))
    }

    pub(crate) fn search(&self, operation: &Operation, caller: &Caller, request: &Request) -> Outcome {
        let listing = decode::listing(operation, &request.query, "keyword")?;
        Ok(self.rows(caller, request, &listing, SEARCH, "keyword"))
    }

    /// The guest with this uuid, in any letter case. What the caller may not see, and what is in the trash of
    /// another dialect, does not exist here.
    pub(crate) async fn find(&self, caller: &Caller, uuid: &str) -> Result<Arc<Vm>, Fault> {
        let Ok(id) = uuid.parse::<VmId>() else {
            return Err(Fault::no_guest(uuid));
        };
        match self.core.vm(caller, id).await {
            Ok(vm) if vm.visible() => Ok(vm),
            Ok(_) => Err(Fault::no_guest(uuid)),
            Err(error) if error.kind == ErrorKind::NotFound => Err(Fault::no_guest(uuid)),
            Err(error) => Err(error.into()),
        }
    }

    fn rows(&self, caller: &Caller, request: &Request, listing: &Listing, path: &str, select: &str) -> Reply {
        let now = self.core.now();
        let visible = now.visible(query::scope(caller));
        let (offset, limit) = listing.page.rows();
        let link = Link {
            scheme: request.scheme,
            host: &request.host,
            path,
            select: (select, &listing.select),
            order: if listing.descending { "desc" } else { "asc" },
            order_by: listing.order_by.as_ref(),
        };
        // The snapshot is kept in the order of ids: what most clients ask for needs neither a copy nor a sort.
        if listing.filter.is_open() && listing.order_by == Field::Id {
            let paging = listing.page.block(visible.len(), link);
            return if listing.descending {
                let rows = visible.values().rev().skip(offset).take(limit);
                self.encoder.many(&now, rows, Some(&paging))
            } else {
                let rows = visible.values().skip(offset).take(limit);
                self.encoder.many(&now, rows, Some(&paging))
            };
        }
        let mut found: Vec<&Arc<Vm>> = visible
            .values()
            .filter(|vm| listing.filter.passes(&now, vm))
            .collect();
        self.order(&now, &mut found, listing);
        let paging = listing.page.block(found.len(), link);
        let rows = found.into_iter().skip(offset).take(limit);
        self.encoder.many(&now, rows, Some(&paging))
    }

    /// Orders guests that come in the order of their ids. Ties keep that order in both directions.
    fn order(&self, now: &Snapshot, found: &mut [&Arc<Vm>], listing: &Listing) {
        let by = listing.order_by;
        match (by, listing.descending) {
            (Field::Id, false) => {}
            (Field::Id, true) => found.reverse(),
            (_, false) => found.sort_by_cached_key(|vm| self.encoder.key(now, vm, by)),
            (_, true) => found.sort_by_cached_key(|vm| std::cmp::Reverse(self.encoder.key(now, vm, by))),
        }
    }
}
