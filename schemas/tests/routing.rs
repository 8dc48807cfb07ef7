//! Method and path lead to the right operation, and each way of missing one has its own answer.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use babelvisor_schemas::{Candidates, Contract, Dialect, Params, Route, contract};
use proptest::prelude::*;

const VM: &str = "0eb6f6f88ff93da48cfc5bca0dbd5c18";

fn found(dialect: Dialect, method: &str, path: &str) -> (String, Params) {
    match contract(dialect).route(method, path) {
        Route::Found { operation, params } => (operation.id.clone(), params),
        other => panic!("{method} {path}: {other:?}"),
    }
}

fn candidates(contract: &'static Contract, method: &str, path: &str) -> Candidates<'static> {
    match contract.route(method, path) {
        Route::Candidates(candidates) => candidates,
        other => panic!("{method} {path}: {other:?}"),
    }
}

fn allowed(dialect: Dialect, method: &str, path: &str) -> Vec<String> {
    match contract(dialect).route(method, path) {
        Route::WrongMethod { allowed } => allowed,
        other => panic!("{method} {path}: {other:?}"),
    }
}

fn is_unknown(dialect: Dialect, method: &str, path: &str) -> bool {
    matches!(contract(dialect).route(method, path), Route::UnknownPath)
}

#[test]
fn a_guest_is_found_with_its_uuid() {
    let (id, params) = found(
        Dialect::GuestRest,
        "GET",
        "/api/guest/01ee4d15-7165-4859-b8d4-d2c3c0ea22c3",
    );
    assert_eq!(id, "guest.get");
    assert_eq!(params.get("uuid"), Some("01ee4d15-7165-4859-b8d4-d2c3c0ea22c3"));
    assert_eq!(params.get("other"), None);
}

#[test]
fn a_companion_is_found_like_any_other() {
    let (id, params) = found(Dialect::GuestRest, "DELETE", "/api/guests/a,b");
    assert_eq!((id.as_str(), params.get("uuids")), ("guest.delete", Some("a,b")));
    let (id, _) = found(Dialect::GuestRest, "GET", "/api/guests/_search");
    assert_eq!(id, "guest.search");
    let (id, _) = found(Dialect::GuestRest, "PUT", "/api/guests/_force_reboot/a");
    assert_eq!(id, "guest.force_reboot");
}

#[test]
fn what_is_not_built_is_found_and_says_so() {
    let Route::Found { operation, .. } = contract(Dialect::GuestRest).route("POST", "/api/disk") else {
        panic!("not found")
    };
    assert!(!operation.built);
}

#[test]
fn guest_rest_refuses_a_slash_at_the_end() {
    for path in ["/api/guests/", "/api/guest/", "/api/guests/_boot/"] {
        let route = contract(Dialect::GuestRest).route("GET", path);
        assert!(matches!(route, Route::UnknownPath), "{path}: {route:?}");
    }
    assert!(is_unknown(Dialect::GuestRest, "PUT", "/api/guests/_boot/a/"));
}

#[test]
fn the_feed_takes_both_forms() {
    let feed = contract(Dialect::KvmTaskFeed);
    for path in ["/api/kvm/", "/api/kvm"] {
        let reports = candidates(feed, "POST", path);
        assert_eq!(reports.operations().count(), 6);
        assert_eq!(reports.general().unwrap().0.id, "feed.report");
        assert_eq!(reports.pick("vm.status").unwrap().0.id, "report.vm.status");
        assert!(reports.pick("vm.unheard_of").is_none());
    }
    for path in ["/api/task/CAS1000000000/", "/api/task/CAS1000000000"] {
        let tasks = candidates(feed, "POST", path);
        let (poll, params) = tasks.general().unwrap();
        assert_eq!(
            (poll.id.as_str(), params.get("sn")),
            ("feed.task", Some("CAS1000000000"))
        );
        assert_eq!(tasks.pick("20").unwrap().0.id, "task.20");
    }
    assert!(is_unknown(Dialect::KvmTaskFeed, "POST", "/api/kvm//"));
}

#[test]
fn pve_open_spells_paths_exactly_and_takes_two_small_spellings() {
    assert_eq!(
        found(Dialect::PveOpen, "POST", "/v1/pve/open/createRent").0,
        "pve.createRent"
    );
    assert_eq!(
        found(Dialect::PveOpen, "POST", "/v1/pve/open/createrent").0,
        "pve.createRent"
    );
    assert_eq!(
        found(Dialect::PveOpen, "GET", "/v1/pve/open/package/1")
            .1
            .get("type"),
        Some("1")
    );
    assert!(is_unknown(Dialect::PveOpen, "POST", "/v1/pve/open/CreateRent"));
    assert!(is_unknown(Dialect::PveOpen, "GET", "/v1/pve/open/image/"));
}

#[test]
fn a_wrong_method_names_the_right_ones() {
    assert_eq!(
        allowed(Dialect::GuestRest, "POST", "/api/guest/a"),
        ["GET", "PATCH"]
    );
    assert_eq!(
        allowed(Dialect::PveOpen, "POST", "/v1/pve/open/operate/a"),
        ["GET"]
    );
    assert_eq!(allowed(Dialect::KvmTaskFeed, "GET", "/api/task/CAS1"), ["POST"]);
    assert_eq!(
        allowed(Dialect::Zstack, "PATCH", "/zstack/v1/zones"),
        ["GET", "POST"]
    );
}

#[test]
fn methods_are_capitals() {
    assert_eq!(allowed(Dialect::GuestRest, "get", "/api/guests"), ["GET"]);
}

#[test]
fn zstack_actions_are_told_apart_by_their_key() {
    let actions = candidates(
        contract(Dialect::Zstack),
        "PUT",
        &format!("/zstack/v1/vm-instances/{VM}/actions"),
    );
    assert_eq!(actions.operations().count(), 23);
    let (start, params) = actions.pick("startVmInstance").unwrap();
    assert_eq!(
        (start.id.as_str(), params.get("uuid")),
        ("StartVmInstance", Some(VM))
    );
    // The documents name the same segment differently; each operation gets its own name.
    let (migrate, params) = actions.pick("migrateVm").unwrap();
    assert_eq!(
        (migrate.id.as_str(), params.get("vmInstanceUuid")),
        ("MigrateVm", Some(VM))
    );
    assert!(actions.pick("flyToTheMoon").is_none());
    assert!(actions.general().is_none());
}

#[test]
fn a_misprinted_action_key_is_taken() {
    let login = candidates(contract(Dialect::Zstack), "PUT", "/zstack/v1/accounts/login");
    for key in ["loginByAccount", "logInByAccount"] {
        assert_eq!(login.pick(key).unwrap().0.id, "LogInByAccount");
    }
}

#[test]
fn the_longest_literal_wins() {
    assert_eq!(
        found(Dialect::Zstack, "GET", "/zstack/v1/vm-instances/nics").0,
        "QueryVmNic"
    );
    let (id, params) = found(Dialect::Zstack, "GET", &format!("/zstack/v1/vm-instances/{VM}"));
    assert_eq!((id.as_str(), params.get("uuid")), ("QueryVmInstance", Some(VM)));
    assert_eq!(
        found(
            Dialect::Zstack,
            "GET",
            &format!("/zstack/v1/vm-instances/nics/{VM}")
        )
        .0,
        "QueryVmNic"
    );
    let mac = candidates(
        contract(Dialect::Zstack),
        "PUT",
        &format!("/zstack/v1/vm-instances/nics/{VM}/actions"),
    );
    assert_eq!(mac.pick("updateVmNicMac").unwrap().0.id, "UpdateVmNicMac");
    assert_eq!(
        found(Dialect::Zstack, "GET", "/zstack/v1/volumes/formats").0,
        "GetVolumeFormat"
    );
}

#[test]
fn a_literal_that_leads_nowhere_falls_back_to_the_parameter() {
    // `nics` is a literal; `/vm-instances/nics/ssh-keys` is nevertheless no other path than a NIC by its id.
    let (id, params) = found(Dialect::Zstack, "GET", "/zstack/v1/vm-instances/nics/ssh-keys");
    assert_eq!(
        (id.as_str(), params.get("uuid")),
        ("QueryVmNic", Some("ssh-keys"))
    );
    let (id, params) = found(Dialect::Zstack, "GET", "/zstack/v1/volumes/resize/qos");
    assert_eq!(
        (id.as_str(), params.get("uuid")),
        ("GetVolumeQoS", Some("resize"))
    );
}

#[test]
fn path_tricks_are_unknown_paths() {
    for path in [
        "",
        "*",
        "api/guests",
        "//api/guests",
        "/api//guests",
        "/api/guest/",
        "/api/./guests",
        "/api/guests/..",
    ] {
        let route = contract(Dialect::GuestRest).route("GET", path);
        assert!(
            matches!(route, Route::UnknownPath | Route::WrongMethod { .. }),
            "{path}: {route:?}"
        );
    }
}

#[test]
fn the_longest_base_path_owns_a_path() {
    let owner = |path: &str| {
        let owners = Dialect::ALL
            .into_iter()
            .filter_map(|d| contract(d).owns(path).map(|length| (length, d)));
        owners.max().map(|(_, dialect)| dialect)
    };
    assert_eq!(owner("/api/nothing"), Some(Dialect::GuestRest));
    assert_eq!(owner("/api/kvm/x"), Some(Dialect::KvmTaskFeed));
    assert_eq!(owner("/api/kvmx"), Some(Dialect::GuestRest));
    assert_eq!(owner("/v1/pve/open/zzz"), Some(Dialect::PveOpen));
    assert_eq!(owner("/v1/compute/zzz"), Some(Dialect::V1Compute));
    assert_eq!(owner("/zstack/v1"), Some(Dialect::Zstack));
    assert_eq!(owner("/elsewhere"), None);
}

#[test]
fn every_operation_is_reached_by_each_of_its_paths() {
    for operation in babelvisor_schemas::all_operations() {
        for template in operation.paths() {
            let path = template.as_str().replace('{', "x").replace('}', "y");
            let ids: Vec<&str> = match contract(operation.dialect).route(&operation.method, &path) {
                Route::Found { operation, .. } => vec![&operation.id],
                Route::Candidates(candidates) => candidates.operations().map(|o| o.id.as_str()).collect(),
                other => panic!("{path}: {other:?}"),
            };
            assert!(ids.contains(&operation.id.as_str()), "{path} leads to {ids:?}");
        }
    }
}

proptest! {
    #[test]
    fn no_path_makes_the_router_fail(method in "[A-Z]{0,8}", path in "(/[a-z_{}%.]{0,12}){0,12}/?") {
        for dialect in Dialect::ALL {
            if let Route::Found { operation, params } = contract(dialect).route(&method, &path) {
                prop_assert_eq!(&operation.method, &method);
                let matched = operation.paths().find_map(|t| t.matches(&path, contract(dialect).settings().slash));
                prop_assert_eq!(matched, Some(params));
            }
        }
    }
}
