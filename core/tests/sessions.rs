//! Sign-in in every dialect's form, the life of a session, API keys and who sees which account.

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

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use babelvisor_core::ErrorKind;
use babelvisor_core::model::*;
use babelvisor_core::registry::accounts::NewAccount;
use babelvisor_core::registry::{Registry, Session, SessionOptions, TokenForm};
use babelvisor_core::secret::{PasswordForm, Secret, random_text, sha256_hex};
use babelvisor_core::store::{Expect, RecordKind, Store, Write};
use stores::{Stores, caller};
use support::{admin, eventually};

on_both_stores![
    a_password_is_taken_in_the_form_of_each_dialect,
    a_token_looks_as_its_dialect_wants,
    use_renews_a_session_and_writes_seldom,
    a_renewed_session_outlives_what_the_list_says_of_it,
    who_signs_out_is_out_everywhere,
    an_api_key_is_its_accounts_alone,
    an_administrator_sees_all_accounts_and_others_their_own,
];

const DAY: Duration = Duration::from_secs(24 * 3600);
const PASSWORD: &str = "password";
/// SHA-512 and MD5 of it, as two dialects send them.
const SHA512: &str = "b109f3bbbc244eb82441917ed06d618b9008dd09b3befd1b5e07394c706a8bb980b1d7785e5976ec049b46df5f1326af5a2ea6d103fd07c95385ffab0cacbc86";
const MD5: &str = "5f4dcc3b5aa765d61d8327deb882cf99";

async fn account(registry: &Registry, name: &str, tenant: &str, role: Role) -> Account {
    let account = NewAccount {
        name: name.to_owned(),
        tenant: TenantId::new(tenant),
        role,
        identity_verified: true,
        vm_quota: Some(3),
        password: Secret::new(PASSWORD),
    };
    registry.add_account(account).await.unwrap()
}

async fn with_anna(stores: &Stores) -> (Registry, Account) {
    let registry = Registry::new(stores.one.clone());
    let anna = account(&registry, "anna", "acme", Role::User).await;
    (registry, anna)
}

fn by(account: &Account) -> Caller {
    Caller {
        account: Some(account.id),
        ..caller(account.role, account.tenant.as_str())
    }
}

fn renewed_by_use() -> SessionOptions {
    SessionOptions {
        token: TokenForm::UuidSimple,
        life: DAY,
        renew: true,
    }
}

async fn stored(store: &Arc<dyn Store>, token: &Secret) -> (Session, u64) {
    let key = sha256_hex(token.expose());
    let record = store.get(RecordKind::Session, &key).await.unwrap().unwrap();
    (serde_json::from_slice(&record.value).unwrap(), record.version)
}

/// Turns the clock: the session was made, and last renewed, so long ago.
async fn age(store: &Arc<dyn Store>, token: &Secret, by: Duration) -> Session {
    let (mut session, version) = stored(store, token).await;
    session.created -= by;
    session.expires -= by;
    let write = Write {
        kind: RecordKind::Session,
        key: sha256_hex(token.expose()),
        expect: Expect::Version(version),
        value: Some(serde_json::to_vec(&session).unwrap().into()),
    };
    store.commit(vec![write]).await.unwrap();
    session
}

async fn a_password_is_taken_in_the_form_of_each_dialect(stores: Stores) {
    let (registry, anna) = with_anna(&stores).await;
    for (form, sent) in [
        (PasswordForm::Plain, PASSWORD),
        (PasswordForm::Sha512Hex, SHA512),
        (PasswordForm::Md5Hex, MD5),
    ] {
        let signed_in = registry.sign_in("anna", form, Secret::new(sent), DAY).await;
        let (account, token, _) = signed_in.unwrap();
        assert_eq!(account.id, anna.id);
        let other = Registry::new(stores.other.clone());
        assert_eq!(other.session(token.expose()).await.unwrap().id, anna.id);
    }
    for (form, sent) in [
        (PasswordForm::Plain, SHA512),
        (PasswordForm::Plain, MD5),
        (PasswordForm::Sha512Hex, PASSWORD),
        (PasswordForm::Sha512Hex, MD5),
        (PasswordForm::Md5Hex, PASSWORD),
        (PasswordForm::Md5Hex, SHA512),
    ] {
        let refused = registry.sign_in("anna", form, Secret::new(sent), DAY).await;
        assert_eq!(refused.unwrap_err().kind, ErrorKind::Unauthenticated, "{form:?}");
    }
}

async fn a_token_looks_as_its_dialect_wants(stores: Stores) {
    let (registry, anna) = with_anna(&stores).await;
    let begin = |token| {
        let options = SessionOptions {
            token,
            life: DAY,
            renew: false,
        };
        let (registry, anna) = (registry.clone(), anna.clone());
        async move { registry.begin_session(&anna, &options).await }
    };
    let (plain, _) = begin(TokenForm::Random22).await.unwrap();
    assert!(plain.expose().len() == 22 && plain.expose().chars().all(|c| c.is_ascii_alphanumeric()));
    let (uuid, _) = begin(TokenForm::UuidSimple).await.unwrap();
    let digits = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    assert!(uuid.expose().len() == 32 && uuid.expose().chars().all(digits));
    let telling = TokenForm::Made(Arc::new(|account, session| {
        let text = format!(
            "{}.{}.{}",
            account.name,
            session.expires.as_second(),
            random_text(22)
        );
        Ok(Secret::new(text))
    }));
    let (told, session) = begin(telling).await.unwrap();
    assert!(
        told.expose()
            .starts_with(&format!("anna.{}.", session.expires.as_second()))
    );
    for token in [plain, uuid, told] {
        assert_eq!(registry.session(token.expose()).await.unwrap().id, anna.id);
        for record in stores.one.load(RecordKind::Session).await.unwrap() {
            let text = format!("{} {}", record.key, String::from_utf8_lossy(&record.value));
            assert!(!text.contains(token.expose()), "{text}");
        }
    }
    let guessable = begin(TokenForm::Made(Arc::new(|_, _| Ok(Secret::new("anna"))))).await;
    assert_eq!(guessable.unwrap_err().kind, ErrorKind::Internal);
    let always_one = TokenForm::Made(Arc::new(|_, _| Ok(Secret::new("always the same text"))));
    begin(always_one.clone()).await.unwrap();
    assert_eq!(begin(always_one).await.unwrap_err().kind, ErrorKind::Conflict);
}

async fn use_renews_a_session_and_writes_seldom(stores: Stores) {
    let (registry, anna) = with_anna(&stores).await;
    let (token, _) = registry.begin_session(&anna, &renewed_by_use()).await.unwrap();
    let aged = age(&stores.one, &token, DAY - Duration::from_secs(5)).await;
    let (_, used) = registry.open_session(token.expose()).await.unwrap();
    assert!(used.expires > aged.expires && used.created == aged.created);
    let life = used.expires.duration_since(Timestamp::now());
    assert!(life > jiff::SignedDuration::from_hours(23), "{life:?}");
    let (kept, version) = stored(&stores.one, &token).await;
    assert_eq!(kept.expires, used.expires);
    for _ in 0..5 {
        registry.open_session(token.expose()).await.unwrap();
    }
    assert_eq!(
        stored(&stores.one, &token).await.1,
        version,
        "five uses within a minute"
    );
    age(&stores.one, &token, Duration::from_secs(90)).await;
    registry.open_session(token.expose()).await.unwrap();
    assert_eq!(
        stored(&stores.one, &token).await.1,
        version + 2,
        "a use a minute later"
    );

    // Nothing renews one that is over, and use does not renew one that is not to be.
    age(&stores.one, &token, DAY).await;
    let stale = registry.open_session(token.expose()).await.unwrap_err();
    assert_eq!(stale.kind, ErrorKind::Unauthenticated);
    let (fixed, _) = registry.begin_session(&anna, &DAY.into()).await.unwrap();
    let aged = age(&stores.one, &fixed, DAY / 2).await;
    let (_, used) = registry.open_session(fixed.expose()).await.unwrap();
    assert_eq!(used, aged);
    let (_, renewed) = registry.renew_session(fixed.expose(), DAY).await.unwrap();
    assert!(renewed.expires > used.expires, "but whoever insists can");
}

async fn a_renewed_session_outlives_what_the_list_says_of_it(stores: Stores) {
    let (registry, anna) = with_anna(&stores).await;
    let (busy, _) = registry.begin_session(&anna, &renewed_by_use()).await.unwrap();
    let (idle, _) = registry.begin_session(&anna, &renewed_by_use()).await.unwrap();
    age(&stores.one, &idle, DAY * 2).await;
    // The list as it would be two days later.
    let list = stores
        .one
        .get(RecordKind::Setting, "sessions:anna")
        .await
        .unwrap()
        .unwrap();
    let mut listed: serde_json::Value = serde_json::from_slice(&list.value).unwrap();
    for session in listed.as_array_mut().unwrap() {
        session["expires"] = (Timestamp::now() - DAY).to_string().into();
    }
    let write = Write {
        kind: RecordKind::Setting,
        key: list.key,
        expect: Expect::Version(list.version),
        value: Some(listed.to_string().into()),
    };
    stores.one.commit(vec![write]).await.unwrap();
    let (third, _) = registry.begin_session(&anna, &renewed_by_use()).await.unwrap();
    for token in [&busy, &third] {
        assert!(registry.session(token.expose()).await.is_ok());
    }
    let left = stores.one.load(RecordKind::Session).await.unwrap();
    assert_eq!(left.len(), 2, "the idle one was taken away");
}

async fn who_signs_out_is_out_everywhere(stores: Stores) {
    let (registry, anna) = with_anna(&stores).await;
    let other = Registry::new(stores.other.clone());
    let (token, _) = registry.begin_session(&anna, &renewed_by_use()).await.unwrap();
    let (kept, _) = other.begin_session(&anna, &renewed_by_use()).await.unwrap();
    assert!(other.sign_out(token.expose()).await.unwrap());
    for registry in [&registry, &other] {
        let out = registry.session(token.expose()).await.unwrap_err();
        assert_eq!(out.kind, ErrorKind::Unauthenticated);
        assert!(registry.session(kept.expose()).await.is_ok());
    }
    assert!(
        !registry.sign_out(token.expose()).await.unwrap(),
        "twice is no error"
    );
    let list = stores
        .one
        .get(RecordKind::Setting, "sessions:anna")
        .await
        .unwrap()
        .unwrap();
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&list.value).unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
}

async fn an_api_key_is_its_accounts_alone(stores: Stores) {
    let (registry, anna) = with_anna(&stores).await;
    let bert = account(&registry, "bert", "acme", Role::Admin).await;
    let (one, two) = stores.gateways().await;
    let (key, secret) = one.core.create_api_key(&by(&anna)).await.unwrap();
    for gate in [&one, &two] {
        let account = gate.core.session_by_api_key(secret.expose()).await.unwrap();
        assert_eq!((account.id, account.vm_quota), (anna.id, Some(3)));
        let wrong = gate
            .core
            .session_by_api_key("00000000-0000-4000-8000-000000000000")
            .await;
        assert_eq!(wrong.unwrap_err().kind, ErrorKind::Unauthenticated);
    }
    let listed = two.core.api_keys(&by(&anna));
    assert_eq!(
        two.core.open(&listed[0].key).unwrap(),
        secret,
        "its owner may see it again"
    );
    for stranger in [by(&bert), admin()] {
        assert!(one.core.api_keys(&stranger).is_empty());
        let hidden = one.core.remove_entry::<ApiKey>(&stranger, key.id).await;
        assert_eq!(hidden.unwrap_err().kind, ErrorKind::NotFound);
    }
    let anonymous = one.core.create_api_key(&caller(Role::User, "acme")).await;
    assert_eq!(anonymous.unwrap_err().kind, ErrorKind::Unauthenticated);
    for kind in [RecordKind::ApiKey, RecordKind::Alias] {
        for record in stores.one.load(kind).await.unwrap() {
            let text = format!("{} {}", record.key, String::from_utf8_lossy(&record.value));
            assert!(!text.contains(secret.expose()), "{text}");
        }
    }
    two.core.remove_entry::<ApiKey>(&by(&anna), key.id).await.unwrap();
    let removed = two.core.session_by_api_key(secret.expose()).await.unwrap_err();
    assert_eq!(removed.kind, ErrorKind::Unauthenticated);
    eventually("the other gateway hears of it", || {
        one.core.api_keys(&by(&anna)).is_empty()
    })
    .await;
    let removed = one.core.session_by_api_key(secret.expose()).await.unwrap_err();
    assert_eq!(removed.kind, ErrorKind::Unauthenticated);
}

async fn an_administrator_sees_all_accounts_and_others_their_own(stores: Stores) {
    let (registry, anna) = with_anna(&stores).await;
    let (one, two) = stores.gateways().await;
    let bert = account(&registry, "bert", "bolt", Role::Viewer).await;
    let boss = account(&registry, "boss", "system", Role::Admin).await;
    let names = |core: &babelvisor_core::layers::Core, who: &Caller| -> Vec<String> {
        let accounts = core.accounts(who);
        accounts.iter().map(|account| account.name.clone()).collect()
    };
    for gate in [&one, &two] {
        eventually("the new accounts are known", || {
            gate.core.now().accounts.len() == 3
        })
        .await;
        assert_eq!(names(&gate.core, &by(&boss)), ["anna", "bert", "boss"]);
        assert_eq!(names(&gate.core, &by(&anna)), ["anna"]);
        assert_eq!(names(&gate.core, &by(&bert)), ["bert"]);
        let tenants = |who: &Caller| gate.core.tenants(who);
        let all = ["acme", "bolt", "system"].map(TenantId::new);
        assert_eq!(tenants(&by(&boss)), BTreeSet::from(all));
        assert_eq!(tenants(&by(&bert)), BTreeSet::from([TenantId::new("bolt")]));
    }
}
