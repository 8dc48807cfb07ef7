//! What each kind of entry says of itself: where it is kept, its indexes, and the rules that a client's changes
//! must keep.

use std::sync::Arc;

use imbl::OrdMap;

use super::Snapshot;
use super::entries::{Entry, Kind, note, unnote};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{
    AffinityGroup, AffinityGroupId, ApiKey, ApiKeyId, Caller, DiskOffering, DiskOfferingId, Flavor, FlavorId,
    GroupId, Image, ImageId, ResourceId, SnapshotId, SnapshotRecord, Tag, TagId, TenantId, Timestamp,
    VmGroup, VolumeId, VolumeRecord,
};
use crate::registry::Registry;
use crate::store::{RecordKind, Write};

/// Every kind of entry.
pub(super) const KINDS: [Kind; 9] = [
    Kind::of::<Image>(),
    Kind::of::<Flavor>(),
    Kind::of::<DiskOffering>(),
    Kind::of::<AffinityGroup>(),
    Kind::of::<Tag>(),
    Kind::of::<VmGroup>(),
    Kind::of::<ApiKey>(),
    Kind::of::<VolumeRecord>(),
    Kind::of::<SnapshotRecord>(),
];

/// The longest name or description of an entry, in characters.
const LONGEST_NAME: usize = 255;
/// The longest free text.
const LONGEST_TEXT: usize = 4096;

/// A display name.
fn check_name(name: &str) -> Result<()> {
    if name.trim().is_empty() {
        return Err(Error::invalid("name", "the name must not be empty"));
    }
    check_label(name)
}

/// A display name that may be absent.
fn check_label(name: &str) -> Result<()> {
    if name.chars().count() > LONGEST_NAME {
        let text = format!("a name has at most {LONGEST_NAME} characters");
        return Err(Error::invalid("name", text));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::invalid(
            "name",
            "a name must not contain control characters",
        ));
    }
    Ok(())
}

fn check_text(field: &str, text: &str) -> Result<()> {
    if text.chars().count() > LONGEST_TEXT {
        let why = format!("{field} has at most {LONGEST_TEXT} characters");
        return Err(Error::invalid(field, why));
    }
    if text.contains('\0') {
        return Err(Error::invalid(field, format!("{field} must not contain NUL")));
    }
    Ok(())
}

/// What the configuration states cannot be changed by a call: the next start would undo it.
fn stated<I: ResourceId>(id: I, doing: &str) -> Error {
    let noun = I::NOUN;
    let text = format!("the configuration states {noun} {id}: {doing} it there");
    Error::new(ErrorKind::Forbidden, text).about(noun, id)
}

/// The four members that are the same for every kind.
macro_rules! kept {
    ($kind:ident, $id:ty, $($map:ident).+) => {
        const KIND: RecordKind = RecordKind::$kind;
        type Id = $id;

        fn id(&self) -> $id {
            self.id
        }

        fn all(now: &Snapshot) -> &OrdMap<$id, Arc<Self>> {
            &now.$($map).+
        }

        fn all_mut(next: &mut Snapshot) -> &mut OrdMap<$id, Arc<Self>> {
            &mut next.$($map).+
        }
    };
}

impl Entry for Image {
    kept!(Image, ImageId, images);

    fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    fn touch(&mut self, now: Timestamp) {
        self.changed = now;
    }

    async fn admit(&mut self, registry: &Registry) -> Result<Vec<Write>> {
        if self.number == 0 {
            self.number = registry.free_image_number().await?;
        }
        let alias = format!("image-number:{}", self.number);
        Ok(vec![registry.holder(&alias, &self.id).await?])
    }

    fn check(&self, now: &Snapshot) -> Result<()> {
        check_name(&self.name)?;
        check_text("description", &self.description)?;
        let holder = now.images_by_number.get(&self.number);
        if self.number != 0 && holder.is_some_and(|image| image.id != self.id) {
            let text = format!("number {} belongs to another image", self.number);
            return Err(Error::new(ErrorKind::AlreadyExists, text).about(ImageId::NOUN, self.id));
        }
        Ok(())
    }

    fn check_edit(&self, new: &Self) -> Result<()> {
        if new.number != self.number {
            return Err(Error::invalid("number", "an image keeps its number"));
        }
        if !self.seeded {
            return Ok(());
        }
        let allowed = Self {
            description: new.description.clone(),
            platform: new.platform.clone(),
            actual_size: new.actual_size,
            enabled: new.enabled,
            system: new.system,
            usages: new.usages.clone(),
            settings: new.settings.clone(),
            changed: new.changed,
            ..self.clone()
        };
        if allowed == *new {
            Ok(())
        } else {
            Err(stated(self.id, "change"))
        }
    }

    fn check_removal(&self, _: &Snapshot) -> Result<()> {
        if self.seeded {
            return Err(stated(self.id, "remove"));
        }
        Ok(())
    }

    fn index(
        next: &mut Snapshot,
        old: Option<&Arc<Self>>,
        new: Option<&Arc<Self>>,
        revise: &dyn Fn() -> u64,
    ) {
        next.surroundings = revise();
        if let Some(old) = old {
            // Another image may have taken the number over meanwhile.
            let holder = next.images_by_number.get(&old.number);
            if holder.is_some_and(|image| image.id == old.id) {
                next.images_by_number.remove(&old.number);
            }
        }
        if let Some(new) = new {
            next.images_by_number.insert(new.number, new.clone());
        }
    }
}

impl Entry for Flavor {
    kept!(Flavor, FlavorId, entries.flavors);

    fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    fn touch(&mut self, now: Timestamp) {
        self.changed = now;
    }

    async fn admit(&mut self, registry: &Registry) -> Result<Vec<Write>> {
        if self.short_id.is_empty() {
            self.short_id = crate::secret::random_text(10);
        }
        let alias = format!("flavor-short:{}", self.short_id);
        Ok(vec![registry.holder(&alias, &self.id).await?])
    }

    fn check(&self, now: &Snapshot) -> Result<()> {
        check_name(&self.name)?;
        check_text("description", &self.description)?;
        if self.vcpus == 0 {
            return Err(Error::invalid("vcpus", "a flavor has at least one vCPU"));
        }
        if self.memory == 0 {
            return Err(Error::invalid("memory", "a flavor has some memory"));
        }
        let holder = now.flavors.get(&self.short_id);
        if holder.is_some_and(|flavor| flavor.id != self.id) {
            let text = format!("short id {} belongs to another flavor", self.short_id);
            return Err(Error::new(ErrorKind::AlreadyExists, text).about(FlavorId::NOUN, self.id));
        }
        Ok(())
    }

    fn check_edit(&self, new: &Self) -> Result<()> {
        if new.short_id != self.short_id {
            return Err(Error::invalid("short_id", "a flavor keeps its short id"));
        }
        if !self.seeded {
            return Ok(());
        }
        let allowed = Self {
            description: new.description.clone(),
            enabled: new.enabled,
            allocator: new.allocator.clone(),
            sort_key: new.sort_key,
            settings: new.settings.clone(),
            changed: new.changed,
            ..self.clone()
        };
        if allowed == *new {
            Ok(())
        } else {
            Err(stated(self.id, "change"))
        }
    }

    fn check_removal(&self, _: &Snapshot) -> Result<()> {
        if self.seeded {
            return Err(stated(self.id, "remove"));
        }
        Ok(())
    }

    fn index(
        next: &mut Snapshot,
        old: Option<&Arc<Self>>,
        new: Option<&Arc<Self>>,
        revise: &dyn Fn() -> u64,
    ) {
        next.surroundings = revise();
        if let Some(old) = old {
            let holder = next.flavors.get(&old.short_id);
            if holder.is_some_and(|flavor| flavor.id == old.id) {
                next.flavors.remove(&old.short_id);
            }
        }
        if let Some(new) = new {
            next.flavors.insert(new.short_id.clone(), new.clone());
        }
    }
}

impl Entry for DiskOffering {
    kept!(DiskOffering, DiskOfferingId, entries.disk_offerings);

    fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    fn touch(&mut self, now: Timestamp) {
        self.changed = now;
    }

    fn check(&self, _: &Snapshot) -> Result<()> {
        check_name(&self.name)?;
        check_text("description", &self.description)?;
        if self.disk_size == 0 {
            return Err(Error::invalid("disk_size", "the size must be at least one byte"));
        }
        Ok(())
    }
}

impl Entry for AffinityGroup {
    kept!(AffinityGroup, AffinityGroupId, entries.affinity_groups);

    fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    fn touch(&mut self, now: Timestamp) {
        self.changed = now;
    }

    fn check(&self, _: &Snapshot) -> Result<()> {
        check_name(&self.name)?;
        check_text("description", &self.description)
    }

    fn index(next: &mut Snapshot, old: Option<&Arc<Self>>, new: Option<&Arc<Self>>, _: &dyn Fn() -> u64) {
        let index = &mut next.entries.groups_of;
        if let Some(old) = old {
            for vm in &old.members {
                unnote(index, vm, &old.id);
            }
        }
        if let Some(new) = new {
            for vm in &new.members {
                note(index, *vm, new.id);
            }
        }
    }
}

impl Entry for Tag {
    kept!(Tag, TagId, entries.tags);

    fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    fn check(&self, _: &Snapshot) -> Result<()> {
        if self.text.is_empty() {
            return Err(Error::invalid("text", "a tag must not be empty"));
        }
        check_text("text", &self.text)
    }

    fn index(next: &mut Snapshot, old: Option<&Arc<Self>>, new: Option<&Arc<Self>>, _: &dyn Fn() -> u64) {
        let index = &mut next.entries.tags_of;
        if let Some(old) = old {
            unnote(index, &old.resource, &old.id);
        }
        if let Some(new) = new {
            note(index, new.resource.clone(), new.id);
        }
    }
}

impl Entry for VmGroup {
    kept!(VmGroup, GroupId, entries.vm_groups);

    fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    fn touch(&mut self, now: Timestamp) {
        self.changed = now;
    }

    // Two gateways that move groups in the same moment may together pass a rule that each of them kept; reads
    // of the tree bound their depth for that reason.
    fn check(&self, now: &Snapshot) -> Result<()> {
        check_name(&self.name)?;
        let above = ancestors(self, now)?;
        if above + height(self.id, now, Self::LEVELS) > Self::LEVELS {
            let text = format!("groups are nested at most {} levels deep", Self::LEVELS);
            return Err(Error::invalid("parent", text));
        }
        let siblings = now.entries.vm_groups.values();
        let mut siblings =
            siblings.filter(|other| other.parent == self.parent && other.tenant == self.tenant);
        if siblings.any(|other| other.id != self.id && other.name == self.name) {
            let text = format!("a group named {} exists there already", self.name);
            return Err(Error::new(ErrorKind::AlreadyExists, text).about(GroupId::NOUN, &self.name));
        }
        Ok(())
    }

    fn check_removal(&self, now: &Snapshot) -> Result<()> {
        let mut groups = now.entries.vm_groups.values();
        if groups.any(|group| group.parent == Some(self.id)) {
            return Err(Error::illegal_state(
                GroupId::NOUN,
                self.id,
                "the group has groups below it: remove those first",
            ));
        }
        if now.vms.values().any(|vm| vm.record.group == Some(self.id)) {
            return Err(Error::illegal_state(
                GroupId::NOUN,
                self.id,
                "the group has vms: move them to another one first",
            ));
        }
        Ok(())
    }
}

/// How many groups are above `group`.
fn ancestors(group: &VmGroup, now: &Snapshot) -> Result<usize> {
    let mut above = 0;
    let mut parent = group.parent;
    while let Some(id) = parent {
        let found = now.entries.vm_groups.get(&id);
        let found = found.filter(|found| found.tenant == group.tenant);
        let found = found.ok_or_else(|| Error::not_found(GroupId::NOUN, id))?;
        if id == group.id {
            return Err(Error::invalid("parent", "a group cannot be below itself"));
        }
        above += 1;
        if above > VmGroup::LEVELS {
            break;
        }
        parent = found.parent;
    }
    Ok(above)
}

/// How many levels the tree from `root` down has, itself included; not followed beyond `most` levels.
fn height(root: GroupId, now: &Snapshot, most: usize) -> usize {
    if most == 0 {
        return 1;
    }
    let groups = now.entries.vm_groups.values();
    let below = groups.filter(|group| group.parent == Some(root));
    1 + below
        .map(|group| height(group.id, now, most - 1))
        .max()
        .unwrap_or(0)
}

impl Entry for ApiKey {
    kept!(ApiKey, ApiKeyId, entries.api_keys);

    fn tenant(&self) -> Option<&TenantId> {
        Some(&self.tenant)
    }

    /// The account's own alone: who sees a key can act as its account.
    fn seen_by(&self, caller: &Caller) -> bool {
        caller.account == Some(self.account)
    }

    async fn admit(&mut self, registry: &Registry) -> Result<Vec<Write>> {
        Ok(vec![
            registry
                .holder(&format!("api-key:{}", self.hash), &self.id)
                .await?,
        ])
    }

    fn check(&self, _: &Snapshot) -> Result<()> {
        Ok(())
    }

    fn check_edit(&self, _: &Self) -> Result<()> {
        Err(Error::new(ErrorKind::Forbidden, "an API key is never changed").about(ApiKeyId::NOUN, self.id))
    }

    fn index(next: &mut Snapshot, old: Option<&Arc<Self>>, new: Option<&Arc<Self>>, _: &dyn Fn() -> u64) {
        if let Some(old) = old {
            next.entries.key_of_hash.remove(&old.hash);
        }
        if let Some(new) = new {
            next.entries.key_of_hash.insert(new.hash.clone(), new.id);
        }
    }
}

impl Entry for VolumeRecord {
    kept!(Volume, VolumeId, entries.volumes);

    fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    fn touch(&mut self, now: Timestamp) {
        self.changed = now;
    }

    fn gone(&self) -> bool {
        self.gone_at.is_some()
    }

    fn check(&self, now: &Snapshot) -> Result<()> {
        check_label(&self.display_name)?;
        check_text("description", &self.description)?;
        let holder = now.volume_at(&self.backend, &self.place());
        if holder.is_some_and(|volume| volume.id != self.id) {
            let text = format!(
                "{} in pool {} of backend {} has a record already",
                self.name, self.pool, self.backend
            );
            return Err(Error::new(ErrorKind::AlreadyExists, text).about(VolumeId::NOUN, self.id));
        }
        Ok(())
    }

    fn index(next: &mut Snapshot, old: Option<&Arc<Self>>, new: Option<&Arc<Self>>, _: &dyn Fn() -> u64) {
        let index = &mut next.entries.volume_at;
        if let Some(old) = old
            && let Some(of_backend) = index.get_mut(&old.backend)
        {
            let place = old.place();
            if of_backend.get(&place) == Some(&old.id) {
                of_backend.remove(&place);
            }
        }
        if let Some(new) = new {
            let of_backend = index.entry(new.backend.clone()).or_default();
            of_backend.insert(new.place(), new.id);
        }
    }
}

impl Entry for SnapshotRecord {
    kept!(Snapshot, SnapshotId, entries.snapshots);

    fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    fn touch(&mut self, now: Timestamp) {
        self.changed = now;
    }

    fn check(&self, _: &Snapshot) -> Result<()> {
        check_label(&self.display_name)?;
        check_text("description", &self.description)
    }

    fn index(next: &mut Snapshot, old: Option<&Arc<Self>>, new: Option<&Arc<Self>>, _: &dyn Fn() -> u64) {
        let index = &mut next.entries.snapshots_of;
        if let Some(old) = old {
            unnote(index, &old.vm, &old.id);
        }
        if let Some(new) = new {
            note(index, new.vm, new.id);
        }
    }
}
