//! Judges rows. Rows that an index finds are looked at alone; without one, all. Encoding comes later and sees only
//! the page that is answered.

use std::collections::BTreeMap;

use babelvisor_core::model::Vm;

use super::index::{Index, Key, Numbers, union};
use super::plan::{Group, Plan, Test, What};
use super::table::{Join, Resource, Rows, World};
use super::value::{Operand, Operator, Value, holds};
use crate::resources::{self, Row};

/// What a query found.
pub(crate) struct Found<'w> {
    /// The page of rows.
    pub(crate) rows: Vec<Row<'w>>,
    /// How many rows there are in all; counted only where it was asked for.
    pub(crate) total: Option<usize>,
}

/// Finds what `plan` asks for.
pub(crate) fn find<'w>(world: &World<'w>, resource: &'static Resource, plan: &Plan) -> Found<'w> {
    let counted = plan.count || plan.reply_with_count;
    let known = if counted {
        all_of(world, resource, &plan.all)
    } else {
        None
    };
    // Order, groups and most totals are known when the last row is.
    let whole = (counted && known.is_none()) || plan.sort.is_some() || plan.group_by.is_some();
    let wanted = match known {
        Some(_) if plan.count => 0,
        _ if whole => usize::MAX,
        _ => plan.start.saturating_add(plan.limit),
    };
    let mut rows = matching(world, resource, &plan.all, wanted);
    // As the original counts: before rows are grouped.
    let total = counted.then(|| known.unwrap_or(rows.len()));
    if let Some((field, down)) = plan.sort {
        let mut keyed: Vec<(Value<'w>, Row<'w>)> = rows
            .into_iter()
            .map(|row| ((field.get)(world, row), row))
            .collect();
        keyed.sort_by(|(one, _), (two, _)| {
            let order = one.order(two);
            if down { order.reverse() } else { order }
        });
        rows = keyed.into_iter().map(|(_, row)| row).collect();
    }
    if let Some(field) = plan.group_by {
        let mut seen: BTreeMap<Ordered<'w>, ()> = BTreeMap::new();
        rows.retain(|row| seen.insert(Ordered((field.get)(world, *row)), ()).is_none());
    }
    let rows = if plan.count {
        Vec::new()
    } else {
        rows.into_iter().skip(plan.start).take(plan.limit).collect()
    };
    Found { rows, total }
}

/// How many machines there are for a query without conditions: that need not be counted.
fn all_of(world: &World<'_>, resource: &'static Resource, group: &Group) -> Option<usize> {
    let machines = std::ptr::eq(resource, &resources::VM_INSTANCE);
    if !machines || !group.tests.is_empty() || !group.related.is_empty() {
        return None;
    }
    let now = world.now;
    Some(match world.scope {
        None => now.by_number.len() + now.trash.len(),
        Some(tenant) => {
            let own = now.by_tenant.get(tenant).map_or(0, imbl::OrdMap::len);
            own + now
                .trash
                .values()
                .filter(|vm| vm.record.tenant == *tenant)
                .count()
        }
    })
}

/// A value as the key of a map.
struct Ordered<'w>(Value<'w>);

impl PartialEq for Ordered<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.order(&other.0).is_eq()
    }
}

impl Eq for Ordered<'_> {}

impl PartialOrd for Ordered<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.order(&other.0)
    }
}

/// The first `wanted` rows that fulfil `group`, in the order of the resource.
fn matching<'w>(
    world: &World<'w>,
    resource: &'static Resource,
    group: &Group,
    wanted: usize,
) -> Vec<Row<'w>> {
    let mut found = Vec::new();
    if wanted == 0 {
        return found;
    }
    if let Some(rows) = by_uuid(world, resource, group) {
        found.extend(rows.into_iter().filter(|row| fulfils(world, *row, group)));
        found.truncate(wanted);
        return found;
    }
    match &resource.rows {
        Rows::Own(all) => {
            let rows = all(world).into_iter().filter(|row| fulfils(world, *row, group));
            found.extend(rows.take(wanted));
        }
        Rows::OfVms { of, beside } => {
            let numbers = narrowed(world, resource, group);
            // What belongs to no machine fulfils no condition on one.
            let beside = beside.filter(|_| numbers.is_none() || group.tests.iter().any(is_own));
            let mut parts = Vec::new();
            for vm in vms(world, numbers) {
                parts.clear();
                of(world, vm, &mut parts);
                found.extend(parts.drain(..).filter(|row| fulfils(world, *row, group)));
                if found.len() >= wanted {
                    found.truncate(wanted);
                    return found;
                }
            }
            if let Some(beside) = beside {
                let rows = beside(world)
                    .into_iter()
                    .filter(|row| fulfils(world, *row, group));
                found.extend(rows.take(wanted.saturating_sub(found.len())));
            }
        }
    }
    found
}

/// Whether a condition with an index is on the part itself rather than on its machine.
fn is_own(test: &Test) -> bool {
    matches!(test.what, What::Field(field) if field.key == Some(Key::Volume))
}

/// The rows of a condition `uuid = …`, where they are found directly.
fn by_uuid<'w>(world: &World<'w>, resource: &'static Resource, group: &Group) -> Option<Vec<Row<'w>>> {
    let by_uuid = resource.by_uuid?;
    let named = group
        .tests
        .iter()
        .find_map(|test| match (test.what, test.operator, &test.operand) {
            (What::Field(field), Operator::Is, Operand::One(value)) if field.name == "uuid" => Some(value),
            _ => None,
        })?;
    let Value::Uuid(id) = named else {
        return Some(Vec::new());
    };
    let row = by_uuid(world, *id).filter(|row| resources::sees(world, *row));
    Some(row.into_iter().collect())
}

/// The VMs of these numbers that the caller sees, in order; all of them without numbers.
fn vms<'w>(world: &World<'w>, numbers: Option<Numbers>) -> Box<dyn Iterator<Item = &'w Vm> + 'w> {
    let now = world.now;
    let scope = world.scope;
    let seen = move |vm: &&Vm| scope.is_none_or(|tenant| vm.record.tenant == *tenant);
    if let Some(numbers) = numbers {
        let found = numbers.into_iter().filter_map(|number| Index::vm(now, number));
        return Box::new(found.map(|vm| &**vm).filter(seen));
    }
    let visible = match scope {
        None => Some(&now.by_number),
        Some(tenant) => now.by_tenant.get(tenant),
    };
    let visible = visible.into_iter().flat_map(|vms| vms.values()).map(|vm| &**vm);
    if now.trash.is_empty() {
        return Box::new(visible);
    }
    Box::new(merged(visible, now.trash.values().map(|vm| &**vm).filter(seen)))
}

/// Two rows of VMs in the order of their numbers as one.
fn merged<'w>(
    one: impl Iterator<Item = &'w Vm> + 'w,
    two: impl Iterator<Item = &'w Vm> + 'w,
) -> impl Iterator<Item = &'w Vm> + 'w {
    let (mut one, mut two) = (one.peekable(), two.peekable());
    std::iter::from_fn(move || match (one.peek(), two.peek()) {
        (Some(first), Some(second)) if second.record.number < first.record.number => two.next(),
        (Some(_), _) => one.next(),
        (None, _) => two.next(),
    })
}

/// The numbers of the VMs that rows fulfilling `group` can belong to; none if no index says.
pub(super) fn narrowed(world: &World<'_>, resource: &'static Resource, group: &Group) -> Option<Numbers> {
    let mut best: Option<Vec<Numbers>> = None;
    let mut offer = |sets: Vec<Numbers>| {
        let size = |sets: &[Numbers]| sets.iter().map(Numbers::len).sum::<usize>();
        if best.as_ref().is_none_or(|best| size(&sets) < size(best)) {
            best = Some(sets);
        }
    };
    for test in &group.tests {
        let What::Field(field) = test.what else { continue };
        let Some(key) = field.key else { continue };
        if let Some(sets) = looked_up(world, key, test) {
            offer(sets);
        }
    }
    for (relation, related) in &group.related {
        match relation.join {
            Join::SameVm => {
                if let Some(numbers) = narrowed(world, relation.to, related) {
                    offer(vec![numbers]);
                }
            }
            // The other table is small: its rows say which keys are meant.
            Join::Key(name) => {
                let key = resource.field(name).and_then(|field| field.key);
                let id = relation.to.field("uuid");
                if let (Some(key), Some(id)) = (key, id) {
                    let rows = matching(world, relation.to, related, usize::MAX);
                    let ids: Vec<Value<'_>> = rows.into_iter().map(|row| (id.get)(world, row)).collect();
                    offer(world.index.find(world.now, key, &ids));
                }
            }
            Join::Walk => {}
        }
    }
    best.map(union)
}

/// What the index finds for one condition; none if it does not help with it.
fn looked_up(world: &World<'_>, key: Key, test: &Test) -> Option<Vec<Numbers>> {
    match (test.operator, &test.operand) {
        (Operator::Is, Operand::One(value)) => {
            Some(world.index.find(world.now, key, std::slice::from_ref(value)))
        }
        (Operator::In, Operand::Many(values)) => Some(world.index.find(world.now, key, values)),
        _ => None,
    }
}

/// Whether a row fulfils every condition of `group`.
pub(crate) fn fulfils<'w>(world: &World<'w>, row: Row<'w>, group: &Group) -> bool {
    group.tests.iter().all(|test| passes(world, row, test))
        && group.related.iter().all(|(relation, group)| {
            let mut rows = (relation.rows)(world, row).into_iter();
            rows.any(|row| resources::sees(world, row) && fulfils(world, row, group))
        })
}

fn passes<'w>(world: &World<'w>, row: Row<'w>, test: &Test) -> bool {
    match test.what {
        What::Field(field) => holds(&(field.get)(world, row), test.operator, &test.operand),
        What::Tags { system } => {
            let (plain, denied) = test.operator.plain();
            let tags = resources::tags(world, row, system);
            let some = tags.into_iter().any(|tag| holds(&tag, plain, &test.operand));
            some != denied
        }
    }
}
