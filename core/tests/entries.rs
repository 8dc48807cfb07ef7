//! What only the gateway remembers: added, changed, removed and seen by every gateway on a store.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

#[path = "support/stores.rs"]
mod stores;
mod support;

use std::collections::{BTreeSet, HashSet};

use babelvisor_core::inventory::{Entry, Heard, Inventory};
use babelvisor_core::model::*;
use babelvisor_core::registry::{FlavorSeed, ImageSeed, Registry, entry_write};
use babelvisor_core::store::{Expect, RecordKind, Write};
use babelvisor_core::{ErrorKind, query};
use stores::{Gate, Stores, caller};
use support::{admin, eventually};

on_both_stores![
    what_one_gateway_does_both_see,
    a_removed_id_never_comes_back,
    every_kind_is_loaded_at_the_start_and_followed,
    one_unreadable_record_hides_nobody,
    a_record_that_vanished_is_forgotten_at_the_next_load,
    each_sees_and_changes_what_is_his,
    changes_at_once_are_all_kept,
    a_tree_of_groups_keeps_its_rules,
    what_the_configuration_states_stays,
    tags_go_with_what_they_are_on,
    tags_on_what_is_gone_are_swept_away,
    a_transaction_of_a_job_can_change_entries,
    images_of_callers_have_numbers_of_their_own,
];

fn small(tenant: Option<&str>) -> DiskOffering {
    DiskOffering::new("small", 10 << 30, tenant.map(TenantId::new))
}

fn kinds<T: Entry>(gate: &Gate) -> usize {
    gate.core.entries::<T>(&admin()).len()
}

async fn what_one_gateway_does_both_see(stores: Stores) {
    let (one, two) = stores.gateways().await;
    let made = one.core.add_entry(&admin(), small(None)).await.unwrap();
    // Whoever made it sees it in the same moment, anybody who asks for it by id as well.
    assert_eq!(
        one.core.entries::<DiskOffering>(&admin()),
        std::slice::from_ref(&made)
    );
    let seen = two.core.entry::<DiskOffering>(&admin(), made.id).await.unwrap();
    assert_eq!(seen, made);

    let before = made.changed;
    let who = admin();
    let edited = two.core.edit_entry::<DiskOffering>(&who, made.id, |offering| {
        offering.enabled = false;
        Ok(())
    });
    let edited = edited.await.unwrap();
    assert!(!edited.enabled && edited.changed >= before && edited.created == made.created);
    assert_eq!(
        two.core.entries::<DiskOffering>(&admin()),
        std::slice::from_ref(&edited)
    );
    eventually("the other gateway sees the change", || {
        one.core.entries::<DiskOffering>(&admin()) == [edited.clone()]
    })
    .await;

    one.core
        .remove_entry::<DiskOffering>(&admin(), made.id)
        .await
        .unwrap();
    assert_eq!(kinds::<DiskOffering>(&one), 0);
    eventually("the other gateway sees it go", || {
        kinds::<DiskOffering>(&two) == 0
    })
    .await;
    let gone = two.core.entry::<DiskOffering>(&admin(), made.id).await;
    assert_eq!(gone.unwrap_err().kind, ErrorKind::NotFound);
}

async fn a_removed_id_never_comes_back(stores: Stores) {
    let (one, two) = stores.gateways().await;
    let offering = small(None);
    one.core.add_entry(&admin(), offering.clone()).await.unwrap();
    let again = two.core.add_entry(&admin(), offering.clone()).await.unwrap_err();
    assert_eq!(again.kind, ErrorKind::AlreadyExists);
    one.core
        .remove_entry::<DiskOffering>(&admin(), offering.id)
        .await
        .unwrap();
    for gate in [&one, &two] {
        let again = gate.core.add_entry(&admin(), offering.clone()).await.unwrap_err();
        assert_eq!(again.kind, ErrorKind::AlreadyExists);
        assert_eq!(again.subject.unwrap().noun, "disk offering");
        let twice = gate
            .core
            .remove_entry::<DiskOffering>(&admin(), offering.id)
            .await;
        assert_eq!(twice.unwrap_err().kind, ErrorKind::NotFound);
    }
    let restarted = stores.gateway(&stores.one).await;
    assert_eq!(kinds::<DiskOffering>(&restarted), 0);
}

async fn every_kind_is_loaded_at_the_start_and_followed(stores: Stores) {
    let (one, running) = stores.gateways().await;
    let core = &one.core;
    let who = admin();
    let vm = VmId::random();
    let image = core
        .add_entry(&who, Image::new("golden", ImageKind::Data, None))
        .await;
    let image = image.unwrap();
    let flavor = core.add_entry(&who, Flavor::new("tiny", 1, 1 << 30, None)).await;
    let flavor = flavor.unwrap();
    let offering = core.add_entry(&who, small(None)).await.unwrap();
    let mut apart = AffinityGroup::new("apart", AffinityPolicy::AntiAffinitySoft, None);
    apart.members = BTreeSet::from([vm]);
    let apart = core.add_entry(&who, apart).await.unwrap();
    let tag = Tag::new(TagResource::of(vm), "blue", false, None);
    let tag = core.add_entry(&who, tag).await.unwrap();
    let group = core
        .add_entry(&who, VmGroup::new("lab", None, None))
        .await
        .unwrap();
    let place = PoolVolume {
        pool: "default".to_owned(),
        name: "data.qcow2".to_owned(),
    };
    let backend = BackendId::new("east");
    let volume = VolumeRecord::new(backend.clone(), place.clone(), VolumeKind::Data, None);
    let volume = core.add_entry(&who, volume).await.unwrap();
    let snapshot = SnapshotRecord::new(vm, "before-update", None);
    let snapshot = core.add_entry(&who, snapshot).await.unwrap();

    let fresh = stores.gateway(&stores.other).await;
    for gate in [&one, &running, &fresh] {
        let now = || gate.core.now();
        eventually("all are known", || {
            now().entry::<SnapshotRecord>(snapshot.id).is_some()
        })
        .await;
        let now = now();
        assert_eq!(now.images_by_number[&image.number], image);
        assert_eq!(now.images[&image.id], image);
        assert_eq!(now.flavors[&flavor.short_id], flavor);
        assert_eq!(now.entry::<Flavor>(flavor.id), Some(&flavor));
        assert_eq!(now.entry::<DiskOffering>(offering.id), Some(&offering));
        assert_eq!(now.affinity_groups_of(vm).collect::<Vec<_>>(), [&apart]);
        assert_eq!(now.tags_of(&TagResource::of(vm)).collect::<Vec<_>>(), [&tag]);
        assert_eq!(now.entry::<VmGroup>(group.id), Some(&group));
        assert_eq!(now.volume_at(&backend, &place), Some(&volume));
        assert_eq!(now.snapshots_of(vm).collect::<Vec<_>>(), [&snapshot]);
    }

    core.edit_entry::<AffinityGroup>(&who, apart.id, |group| {
        group.members.clear();
        Ok(())
    })
    .await
    .unwrap();
    core.edit_entry::<VolumeRecord>(&who, volume.id, |volume| {
        volume.gone_at = Some(Timestamp::now());
        Ok(())
    })
    .await
    .unwrap();
    core.remove_entry::<SnapshotRecord>(&who, snapshot.id)
        .await
        .unwrap();
    for gate in [&one, &running, &fresh] {
        let now = || gate.core.now();
        eventually("the indexes follow", || now().snapshots_of(vm).count() == 0).await;
        assert_eq!(now().affinity_groups_of(vm).count(), 0);
        assert_eq!(now().volume_at(&backend, &place), None, "it is gone");
        let gone = gate.core.entry::<VolumeRecord>(&who, volume.id).await;
        assert_eq!(gone.unwrap_err().kind, ErrorKind::NotFound);
    }
}

async fn one_unreadable_record_hides_nobody(stores: Stores) {
    let registry = Registry::new(stores.one.clone());
    let (made, _) = registry.add_entry(small(None)).await.unwrap();
    let garbage = [
        RecordKind::DiskOffering,
        RecordKind::Image,
        RecordKind::Vm,
        RecordKind::Account,
    ];
    let garbage = garbage.map(|kind| Write {
        kind,
        key: DiskOfferingId::random().simple(),
        expect: Expect::Absent,
        value: Some("{\"from\": \"a newer release\"}".into()),
    });
    stores.one.commit(garbage.into()).await.unwrap();
    let gate = stores.gateway(&stores.other).await;
    assert_eq!(gate.core.entries::<DiskOffering>(&admin())[0].id, made.id);
    let next = registry.add_entry(small(None)).await.unwrap().0;
    eventually("the feed goes on", || {
        gate.core.now().entry::<DiskOffering>(next.id).is_some()
    })
    .await;
    assert_eq!(kinds::<Image>(&gate), 0);
    // Others may still be given what is given out once.
    let image = Image::new("golden", ImageKind::Disk, None);
    assert!(gate.core.add_entry(&admin(), image).await.is_ok());
}

async fn a_record_that_vanished_is_forgotten_at_the_next_load(stores: Stores) {
    let gate = stores.gateway(&stores.one).await;
    let made = gate.core.add_entry(&admin(), small(None)).await.unwrap();
    let removal = Write {
        kind: RecordKind::DiskOffering,
        key: made.id.simple(),
        expect: Expect::Any,
        value: None,
    };
    stores.other.commit(vec![removal]).await.unwrap();
    eventually("it is forgotten", || kinds::<DiskOffering>(&gate) == 0).await;
}

async fn each_sees_and_changes_what_is_his(stores: Stores) {
    let (one, _two) = stores.gateways().await;
    let core = &one.core;
    let (anna, bert) = (caller(Role::User, "acme"), caller(Role::User, "bolt"));
    let viewer = caller(Role::Viewer, "acme");
    let shared = core.add_entry(&admin(), small(None)).await.unwrap();
    let own = core.add_entry(&anna, small(Some("acme"))).await.unwrap();

    let seen = |who: &Caller| -> BTreeSet<_> {
        let all = core.entries::<DiskOffering>(who);
        all.iter().map(|offering| offering.id).collect()
    };
    assert_eq!(seen(&anna), BTreeSet::from([shared.id, own.id]));
    assert_eq!(seen(&viewer), seen(&anna));
    assert_eq!(seen(&bert), BTreeSet::from([shared.id]));
    assert_eq!(seen(&admin()), seen(&anna));
    let hidden = core.entry::<DiskOffering>(&bert, own.id).await.unwrap_err();
    assert_eq!(hidden.kind, ErrorKind::NotFound);

    let refusals = [
        (
            core.add_entry(&viewer, small(Some("acme"))).await,
            ErrorKind::Forbidden,
        ),
        (core.add_entry(&anna, small(None)).await, ErrorKind::Forbidden),
        (
            core.add_entry(&anna, small(Some("bolt"))).await,
            ErrorKind::Forbidden,
        ),
    ];
    for (refused, kind) in refusals {
        assert_eq!(refused.unwrap_err().kind, kind);
    }
    for (who, id, kind) in [
        (&viewer, own.id, ErrorKind::Forbidden),
        (&bert, own.id, ErrorKind::NotFound),
        (&anna, shared.id, ErrorKind::Forbidden),
    ] {
        let renamed = core.edit_entry::<DiskOffering>(who, id, |offering| {
            offering.name = "taken over".to_owned();
            Ok(())
        });
        assert_eq!(renamed.await.unwrap_err().kind, kind);
        let removed = core.remove_entry::<DiskOffering>(who, id).await;
        assert_eq!(removed.unwrap_err().kind, kind);
    }
    let given_away = core.edit_entry::<DiskOffering>(&anna, own.id, |offering| {
        offering.tenant = None;
        Ok(())
    });
    assert_eq!(given_away.await.unwrap_err().kind, ErrorKind::Forbidden);
    let nameless = DiskOffering::new(" ", 1, Some(TenantId::new("acme")));
    let nameless = core.add_entry(&anna, nameless).await.unwrap_err();
    assert_eq!(
        (nameless.kind, nameless.field.as_deref()),
        (ErrorKind::InvalidInput, Some("name"))
    );
    assert_eq!(seen(&admin()).len(), 2, "nothing was changed");
}

async fn changes_at_once_are_all_kept(stores: Stores) {
    let (one, two) = stores.gateways().await;
    let group = AffinityGroup::new("apart", AffinityPolicy::AntiAffinityHard, None);
    let group = one.core.add_entry(&admin(), group).await.unwrap();
    let joins = (0..12).map(|turn| {
        let core = if turn % 2 == 0 { &one.core } else { &two.core };
        let (core, id) = (core.clone(), group.id);
        tokio::spawn(async move {
            let (who, vm) = (admin(), VmId::random());
            let joined = core.edit_entry::<AffinityGroup>(&who, id, move |group| {
                group.members.insert(vm);
                Ok(())
            });
            joined.await.map(|_| vm)
        })
    });
    let joins: Vec<_> = joins.collect();
    let mut joined = BTreeSet::new();
    for join in joins {
        joined.insert(join.await.unwrap().unwrap());
    }
    for gate in [&one, &two] {
        eventually("all are members", || {
            let now = gate.core.now();
            now.entry::<AffinityGroup>(group.id).unwrap().members == joined
        })
        .await;
        let now = gate.core.now();
        assert!(joined.iter().all(|vm| now.affinity_groups_of(*vm).count() == 1));
    }
}

async fn a_tree_of_groups_keeps_its_rules(stores: Stores) {
    let (one, _two) = stores.gateways().await;
    let core = &one.core;
    let anna = caller(Role::User, "acme");
    let group = |name: &str, parent| VmGroup::new(name, parent, Some(TenantId::new("acme")));
    let mut chain = Vec::new();
    for level in 0..VmGroup::LEVELS {
        let parent = chain.last().copied();
        let added = core
            .add_entry(&anna, group(&format!("level {level}"), parent))
            .await;
        chain.push(added.unwrap().id);
    }
    let deeper = core
        .add_entry(&anna, group("too deep", chain.last().copied()))
        .await;
    assert_eq!(deeper.unwrap_err().kind, ErrorKind::InvalidInput);
    let twin = core.add_entry(&anna, group("level 1", Some(chain[0]))).await;
    assert_eq!(twin.unwrap_err().kind, ErrorKind::AlreadyExists);
    let orphan = core
        .add_entry(&anna, group("orphan", Some(GroupId::random())))
        .await;
    assert_eq!(orphan.unwrap_err().kind, ErrorKind::NotFound);

    let move_to = |id, parent| {
        core.edit_entry::<VmGroup>(&anna, id, move |group| {
            group.parent = Some(parent);
            Ok(())
        })
    };
    let circle = move_to(chain[0], chain[2]).await.unwrap_err();
    assert_eq!(circle.kind, ErrorKind::InvalidInput);
    let other = core.add_entry(&anna, group("other", None)).await.unwrap();
    let too_tall = move_to(chain[0], other.id).await.unwrap_err();
    assert_eq!(too_tall.kind, ErrorKind::InvalidInput);
    move_to(chain[1], other.id).await.unwrap();

    let full = core.remove_entry::<VmGroup>(&anna, other.id).await.unwrap_err();
    assert_eq!(full.kind, ErrorKind::IllegalState);
    for id in chain[1..].iter().rev() {
        core.remove_entry::<VmGroup>(&anna, *id).await.unwrap();
    }
    core.remove_entry::<VmGroup>(&anna, other.id).await.unwrap();
    assert_eq!(core.entries::<VmGroup>(&anna).len(), 1);
}

fn image_seed() -> ImageSeed {
    ImageSeed {
        name: "debian".to_owned(),
        number: None,
        kind: ImageKind::Disk,
        os: "Debian".to_owned(),
        os_version: "12".to_owned(),
        family: String::new(),
        admin_user: "root".to_owned(),
        size: 1 << 30,
        locations: Vec::new(),
    }
}

fn flavor_seed() -> FlavorSeed {
    FlavorSeed {
        name: "small".to_owned(),
        short_id: None,
        vcpus: 1,
        memory: 1 << 30,
        disk: 0,
        gpus: 0,
        gpu_model: None,
        bandwidth: 0,
        price: 0.0,
        discount: 1.0,
        family: String::new(),
        purpose: Purpose::Office,
        area: Area::South,
        billing: Billing::Both,
    }
}

async fn what_the_configuration_states_stays(stores: Stores) {
    let registry = Registry::new(stores.one.clone());
    let image = registry.seed_image(image_seed()).await.unwrap();
    let flavor = registry.seed_flavor(flavor_seed()).await.unwrap();
    let gate = stores.gateway(&stores.one).await;
    let core = &gate.core;
    let who = admin();
    let removed = [
        core.remove_entry::<Image>(&admin(), image.id).await.unwrap_err(),
        core.remove_entry::<Flavor>(&admin(), flavor.id)
            .await
            .unwrap_err(),
    ];
    for refused in removed {
        assert_eq!(refused.kind, ErrorKind::Forbidden);
        assert!(refused.detail.contains("configuration"), "{refused}");
    }
    let renamed = core.edit_entry::<Image>(&who, image.id, |image| {
        image.name = "other".to_owned();
        Ok(())
    });
    assert_eq!(renamed.await.unwrap_err().kind, ErrorKind::Forbidden);
    let user = caller(Role::User, "acme");
    assert!(query::may_use_image(&user, &core.now().images[&image.id]));
    let disabled = core.edit_entry::<Image>(&who, image.id, |image| {
        image.enabled = false;
        image.description = "not now".to_owned();
        Ok(())
    });
    assert!(!query::may_use_image(&user, &disabled.await.unwrap()));
    let disabled = core.edit_entry::<Flavor>(&who, flavor.id, |flavor| {
        flavor.enabled = false;
        Ok(())
    });
    assert!(!query::may_use_flavor(&user, &disabled.await.unwrap()));
    // The next start takes the configuration as it is then, and leaves the rest as somebody set it.
    let mut seed = image_seed();
    seed.os_version = "13".to_owned();
    let again = registry.seed_image(seed).await.unwrap();
    assert_eq!(
        (
            again.os_version.as_str(),
            again.enabled,
            again.description.as_str(),
            again.number
        ),
        ("13", false, "not now", image.number)
    );
    assert_eq!(again.created, image.created);
    assert!(!registry.seed_flavor(flavor_seed()).await.unwrap().enabled);
    // What the configuration no longer names can be removed, and comes back when it names it again.
    let none = HashSet::new();
    registry
        .release_seeds(&none, &HashSet::from([flavor.id]))
        .await
        .unwrap();
    core.remove_entry::<Image>(&admin(), image.id).await.unwrap();
    let kept = core
        .remove_entry::<Flavor>(&admin(), flavor.id)
        .await
        .unwrap_err();
    assert_eq!(kept.kind, ErrorKind::Forbidden);
    let back = registry.seed_image(image_seed()).await.unwrap();
    assert!(back.enabled && back.seeded && back.id == image.id);
    eventually("it is back", || core.now().images.contains_key(&image.id)).await;
}

async fn tags_go_with_what_they_are_on(stores: Stores) {
    let (one, two) = stores.gateways().await;
    let offering = one.core.add_entry(&admin(), small(None)).await.unwrap();
    let kept = Tag::new(TagResource::of(VmId::random()), "kept", false, None);
    let kept = one.core.add_entry(&admin(), kept).await.unwrap();
    for text in ["fast", "site::north"] {
        let tag = Tag::new(TagResource::of(offering.id), text, text.contains("::"), None);
        two.core.add_entry(&admin(), tag).await.unwrap();
    }
    eventually("all tags are known", || kinds::<Tag>(&one) == 3).await;
    one.core
        .remove_entry::<DiskOffering>(&admin(), offering.id)
        .await
        .unwrap();
    assert_eq!(one.core.entries::<Tag>(&admin()), std::slice::from_ref(&kept));
    eventually("the other follows", || {
        two.core.entries::<Tag>(&admin()) == [kept.clone()]
    })
    .await;
}

async fn tags_on_what_is_gone_are_swept_away(stores: Stores) {
    let (one, two) = stores.gateways().await;
    let image = Image::new("golden", ImageKind::Disk, None);
    let image = one.core.add_entry(&admin(), image).await.unwrap();
    let mut tags = Vec::new();
    for resource in [
        TagResource::of(VmId::random()),
        TagResource::of(ImageId::random()),
        TagResource::of(image.id),
        TagResource::of(VolumeId::random()),
    ] {
        let tag = Tag::new(resource, "blue", false, None);
        tags.push(one.core.add_entry(&admin(), tag).await.unwrap());
    }
    let upkeep = stores.second_upkeep(&one);
    let young = upkeep.sweep_tags(tags[0].created).await.unwrap();
    assert_eq!(young, 0, "their resources may be news that is on its way");
    let swept = upkeep.sweep_tags(Timestamp::now()).await.unwrap();
    assert_eq!(swept, 2, "a vm and an image that are not there");
    let kept = BTreeSet::from([tags[2].id, tags[3].id]);
    for gate in [&one, &two] {
        eventually("the others stay", || {
            let left = gate.core.entries::<Tag>(&admin());
            left.iter().map(|tag| tag.id).collect::<BTreeSet<_>>() == kept
        })
        .await;
    }
}

async fn a_transaction_of_a_job_can_change_entries(stores: Stores) {
    let (one, two) = stores.gateways().await;
    let place = PoolVolume {
        pool: "default".to_owned(),
        name: "data.qcow2".to_owned(),
    };
    let mut volume = VolumeRecord::new(BackendId::new("east"), place, VolumeKind::Data, None);
    let writes = one.core.registry().new_entry(&mut volume).await.unwrap();
    stores.one.commit(writes).await.unwrap();
    let (mut ready, version) = two
        .core
        .registry()
        .entry::<VolumeRecord>(volume.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ready, volume);
    ready.state = EntryState::Ready;
    let write = entry_write(&ready, Expect::Version(version)).unwrap();
    stores.other.commit(vec![write.clone()]).await.unwrap();
    let late = stores.other.commit(vec![write]).await.unwrap_err();
    assert_eq!(late.kind, ErrorKind::Conflict);
    for gate in [&one, &two] {
        eventually("the volume is ready", || {
            gate.core
                .now()
                .entry::<VolumeRecord>(volume.id)
                .is_some_and(|seen| **seen == ready)
        })
        .await;
    }
}

async fn images_of_callers_have_numbers_of_their_own(stores: Stores) {
    let registry = Registry::new(stores.one.clone());
    let seeded = registry.seed_image(image_seed()).await.unwrap();
    let (one, two) = stores.gateways().await;
    let anna = caller(Role::User, "acme");
    let adds = (0..8).map(|turn| {
        let core = if turn % 2 == 0 { &one.core } else { &two.core };
        let (core, who) = (core.clone(), anna.clone());
        let image = Image::new(format!("own {turn}"), ImageKind::Disk, Some(who.tenant.clone()));
        tokio::spawn(async move { core.add_entry(&who, image).await.map(|image| image.number) })
    });
    let adds: Vec<_> = adds.collect();
    let mut numbers = BTreeSet::from([seeded.number]);
    for add in adds {
        assert!(
            numbers.insert(add.await.unwrap().unwrap()),
            "a number was given out twice"
        );
    }
    assert!(!numbers.contains(&0));
    eventually("all are known", || {
        one.core.now().images_by_number.len() == numbers.len()
    })
    .await;
    let own = one.core.entries::<Image>(&anna);
    let own = own.iter().find(|image| image.name == "own 0").unwrap();
    assert!(!query::may_use_image(&anna, own), "it is not there yet");
    assert!(!query::may_use_image(&caller(Role::User, "bolt"), own));
    let renumbered = one.core.edit_entry::<Image>(&anna, own.id, |image| {
        image.number += 100;
        Ok(())
    });
    assert_eq!(renumbered.await.unwrap_err().kind, ErrorKind::InvalidInput);
}

#[test]
fn late_news_of_an_entry_changes_nothing() {
    let inventory = Inventory::default();
    let old = small(None);
    let new = DiskOffering {
        enabled: false,
        ..old.clone()
    };
    inventory.entries(vec![Heard::written(new.clone(), 2)]);
    inventory.entries(vec![Heard::written(old.clone(), 1)]);
    assert_eq!(**inventory.now().entry::<DiskOffering>(old.id).unwrap(), new);
    inventory.entries(vec![Heard::<DiskOffering>::removed(old.id, 3)]);
    inventory.entries(vec![Heard::written(new, 2)]);
    assert!(inventory.now().entry::<DiskOffering>(old.id).is_none());
}

#[test]
fn what_an_older_release_stored_is_read_with_what_was_true_then() {
    let stored = serde_json::json!({
        "id": ImageId::random(), "number": 7, "name": "debian", "kind": "disk", "os": "Debian", "os_version": "12",
        "family": "", "admin_user": "root", "size": 0, "locations": [],
    });
    let image: Image = serde_json::from_value(stored).unwrap();
    assert!(image.usable() && image.tenant.is_none() && !image.seeded);
}
