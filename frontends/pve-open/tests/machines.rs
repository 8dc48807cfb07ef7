//! The life of a machine: created, seen, switched, deleted, by the order of calls that clients follow.

mod support;

use babelvisor_core::ErrorKind;
use babelvisor_core::capability::Capability;
use babelvisor_core::model::{PowerState, Timestamp};
use babelvisor_memory::{Delay, Fault, Method};
use babelvisor_pve_open::{CreateAnswers, PowerOff, Settings};
use serde_json::{Value, json};
use support::{Site, open, send};

const CREATE: &str = "/v1/pve/open/createquantity";
const RENT: &str = "/v1/pve/open/createRent";

fn one(id: &str) -> String {
    format!("/v1/pve/open/one/{id}")
}

fn operate(id: &str, kind: u8) -> String {
    format!("/v1/pve/open/operate/{id}?type={kind}")
}

fn reboot(id: &str) -> String {
    format!("/v1/pve/open/reboot/{id}")
}

fn delete(id: &str) -> String {
    format!("/v1/pve/open/delete/{id}")
}

#[tokio::test]
async fn a_client_goes_from_the_lists_to_a_machine_and_back_to_nothing() {
    let site = Site::open().await;
    let images = site.get("/v1/pve/open/image").await.good();
    let image = images
        .as_array()
        .unwrap()
        .iter()
        .find(|image| image["systemImageName"] == "Windows Server")
        .unwrap();
    let packages = site.get("/v1/pve/open/packAge/0").await.good();
    let package = packages
        .as_array()
        .unwrap()
        .iter()
        .find(|package| package["name"] == "small")
        .unwrap();
    assert_eq!(image["type"], package["type"]);

    let body = json!({"packageId": package["packageId"], "imageId": image["imageId"]});
    assert_eq!(site.post(CREATE, &body).await.good(), json!(true));
    let page = site.get("/v1/pve/open/mypage?page=1&pageSize=25").await.good();
    assert_eq!(page["totalCounts"], 1);
    let id = page["data"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(page["data"][0]["status"], "0", "a new machine is off");
    site.settled(&id).await;

    assert_eq!(site.get(&operate(&id, 1)).await.good(), json!(true));
    site.until_status(&id, "2").await;
    site.settled(&id).await;
    assert_eq!(site.get(&reboot(&id)).await.good(), json!(true));
    site.settled(&id).await;
    assert_eq!(site.get(&operate(&id, 0)).await.good(), json!(true));
    site.until_status(&id, "0").await;
    site.settled(&id).await;
    assert_eq!(site.delete(&delete(&id)).await.good(), json!(true));

    assert_eq!(site.get(&one(&id)).await.code(), 1021);
    assert_eq!(
        site.get("/v1/pve/open/mypage?page=1&pageSize=25").await.good()["totalCounts"],
        0
    );
    assert!(site.control.vms().is_empty(), "the hypervisor has no guest left");
    assert_eq!(
        site.control.volumes().len(),
        2,
        "only the images' volumes are left"
    );
}

#[tokio::test]
async fn a_machine_shows_what_it_is_made_of() {
    let site = Site::with(Settings {
        address: Some("desk.example.net".to_owned()),
        ..open()
    })
    .await;
    let before = Timestamp::now().as_millisecond();
    let id = site.machine().await;
    let seen = site.get(&one(&id)).await.good();
    assert_eq!(id.len(), 10);
    assert!(id.chars().all(|letter| letter.is_ascii_alphanumeric()));
    for (field, value) in [
        ("id", json!(id)),
        ("gpuConfiguration", json!("-")),
        ("gpuNumber", json!(0)),
        ("memory", json!(2)),
        ("cpu", json!(2)),
        ("rigidDisk", json!(20)),
        ("operatingSystem", json!("Debian")),
        ("hostAccount", json!("admin")),
        ("pveMachineType", json!("1")),
        ("expirationTime", Value::Null),
        ("status", json!("0")),
        ("useType", json!("0")),
        ("area", json!("2")),
        ("address", Value::Null),
        ("port", Value::Null),
    ] {
        assert_eq!(seen[field], value, "{field}");
    }
    assert!(!seen["name"].as_str().unwrap().is_empty());
    assert!(seen["mac"].as_str().unwrap().contains(':'));
    let made = seen["createTime"].as_i64().unwrap();
    assert!(
        (before..=Timestamp::now().as_millisecond()).contains(&made),
        "milliseconds"
    );

    site.on(&id).await;
    let seen = site.get(&one(&id)).await.good();
    assert_eq!(seen["status"], "2");
    assert_eq!(seen["address"], "desk.example.net");
    assert!(seen["port"].as_u64().is_some(), "{seen}");
    assert_eq!(seen["ipV4"], seen["ipv4"], "both spellings");
    let page = site.get("/v1/pve/open/mypage?page=1&pageSize=1").await.good();
    assert_eq!(page["data"][0], seen, "lists show the same fields");
}

#[tokio::test]
async fn the_owner_is_shown_the_password_that_the_guest_was_given() {
    let site = Site::open().await;
    let id = site.machine().await;
    let seen = site.get(&one(&id)).await.good();
    let password = seen["hostPw"].as_str().unwrap();
    assert_eq!(password.len(), 16);
    let vm = site.vm(&id);
    let setup = site.control.seed(vm.id).expect("first-boot set-up");
    assert_eq!(setup.admin_user, seen["hostAccount"]);
    let given = site.core.open(&setup.admin_password.unwrap()).unwrap();
    assert_eq!(given.expose(), password);
    let console = site
        .core
        .open(vm.record.console_password.as_ref().unwrap())
        .unwrap();
    assert_eq!(
        console.expose(),
        &password[..8],
        "as much of it as the console's protocol takes"
    );
    let other = site.machine().await;
    assert_ne!(site.get(&one(&other)).await.good()["hostPw"], password);
}

#[tokio::test]
async fn sizes_round_up_to_whole_gib() {
    let site = Site::open().await;
    let body = json!({"packageId": site.packages["both"], "imageId": site.images["debian"]});
    site.post(CREATE, &body).await.good();
    let id = site.all()[0].record.short_id.clone();
    site.settled(&id).await;
    let seen = site.get(&one(&id)).await.good();
    assert_eq!((&seen["memory"], &seen["rigidDisk"]), (&json!(2), &json!(4)));
}

#[tokio::test]
async fn a_site_may_answer_the_id_of_the_new_machine() {
    let site = Site::open().await;
    let frontend = site.facing(Settings {
        create_answers: CreateAnswers::Id,
        ..open()
    });
    let body = site.by_use().to_string();
    let id = send(&*frontend, "POST", CREATE, &[], body.as_bytes())
        .await
        .good();
    site.settled(id.as_str().unwrap()).await;
    assert_eq!(site.get(&one(id.as_str().unwrap())).await.good()["id"], id);
}

#[tokio::test]
async fn a_rented_machine_has_a_term_by_the_calendar() {
    let site = Site::open().await;
    for (kind, least, most) in [
        (0, 3600.0, 3600.0),
        (1, 86_400.0, 86_400.0),
        (2, 604_800.0, 604_800.0),
        (3, 28.0 * 86_400.0, 31.0 * 86_400.0),
        (4, 89.0 * 86_400.0, 92.0 * 86_400.0),
        (5, 365.0 * 86_400.0, 366.0 * 86_400.0),
    ] {
        let id = site.rented(kind, 1).await;
        let seen = site.get(&one(&id)).await.good();
        assert_eq!(seen["useType"], "1");
        let term = seen["expirationTime"].as_f64().unwrap() - seen["createTime"].as_f64().unwrap();
        let (least, most) = (least * 1000.0 - 5000.0, most * 1000.0 + 5000.0);
        assert!((least..=most).contains(&term), "kind {kind}: {term} ms");
    }
}

#[tokio::test]
async fn numbers_may_be_written_as_text_where_editions_differ() {
    let site = Site::open().await;
    let mut body = site.rent(3, 2);
    body["periodNumber"] = json!("2");
    body["periodType"] = json!("3");
    body["imageId"] = json!(site.images["debian"].parse::<u64>().unwrap());
    site.post(RENT, &body).await.good();
    assert_eq!(site.all().len(), 1);
}

#[tokio::test]
async fn periods_out_of_bounds_are_refused_by_name() {
    let site = Site::open().await;
    for (field, value) in [
        ("periodType", json!(6)),
        ("periodType", json!(-1)),
        ("periodNumber", json!(0)),
        ("periodNumber", json!(-3)),
        ("periodNumber", json!(1.5)),
        ("periodNumber", json!(1_000_000_000_000_000_000_u64)),
    ] {
        let mut body = site.rent(3, 1);
        body[field] = value.clone();
        let answer = site.post(RENT, &body).await;
        assert_eq!(answer.code(), 1007, "{field} {value}");
        assert!(answer.msg().starts_with("请求缺少必要参数: "), "{}", answer.msg());
        assert!(answer.msg().contains(field), "{}", answer.msg());
    }
    let answer = site.post(RENT, &site.rent(5, 9999)).await;
    assert_eq!(answer.code(), 1007, "a term past the year 9999");
    assert!(site.all().is_empty());
}

#[tokio::test]
async fn each_way_of_paying_has_its_packages() {
    let site = Site::open().await;
    let names = |packages: Value| -> Vec<String> {
        let mut names: Vec<String> = packages
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let by_use = names(site.get("/v1/pve/open/packAge/0").await.good());
    let for_term = names(site.get("/v1/pve/open/packAge/1").await.good());
    assert_eq!(
        by_use,
        ["any-type", "both", "broken", "gpu", "huge", "other-type", "small"]
    );
    assert_eq!(
        for_term,
        [
            "any-type",
            "both",
            "broken",
            "gpu",
            "huge",
            "other-type",
            "rental"
        ]
    );
    assert_eq!(
        names(site.get("/v1/pve/open/package/1").await.good()),
        for_term,
        "the small spelling"
    );
    assert_eq!(site.get("/v1/pve/open/packAge/2").await.code(), 1007);

    let wrong = json!({"packageId": site.packages["rental"], "imageId": site.images["debian"]});
    let answer = site.post(CREATE, &wrong).await;
    assert_eq!(answer.code(), 1003);
    assert!(answer.msg().contains("createRent"), "{}", answer.msg());
    let mut wrong = site.rent(1, 1);
    wrong["packageId"] = json!(site.packages["small"]);
    assert_eq!(site.post(RENT, &wrong).await.code(), 1003);
}

#[tokio::test]
async fn a_package_is_printed_with_numbers_as_numbers() {
    let site = Site::open().await;
    let packages = site.get("/v1/pve/open/packAge/0").await.good();
    let find = |name: &str| {
        packages
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(
        find("gpu"),
        json!({
            "packageId": site.packages["gpu"], "name": "gpu", "gpuNumber": 2, "gpuName": "Example GPU 6G",
            "memoryNumber": 2, "rigidDiskNumber": 20, "cpuNumber": 2, "bandWidth": 8, "amount": 5.0,
            "discount": 0.9, "type": "BZ", "pveMachineType": "1", "area": "2", "useType": "2",
        })
    );
    assert_eq!(find("small")["gpuName"], Value::Null);
    assert_eq!(find("small")["useType"], "0");
}

#[tokio::test]
async fn package_and_image_must_exist_and_go_together() {
    let site = Site::open().await;
    let body = |package: &str, image: &str| json!({"packageId": package, "imageId": image});
    let (small, debian) = (site.packages["small"].as_str(), site.images["debian"].as_str());
    for (package, image, named) in [
        ("Unknown001", debian, "packageId Unknown001"),
        (small, "8989", "imageId 8989"),
        (small, "not-a-number", "imageId not-a-number"),
        (small, site.images["iso"].as_str(), "imageId"),
    ] {
        let answer = site.post(CREATE, &body(package, image)).await;
        assert_eq!(answer.code(), 1003, "{package} {image}");
        assert!(answer.msg().starts_with("自定义业务异常: "), "{}", answer.msg());
        assert!(answer.msg().contains(named), "{}", answer.msg());
    }
    assert_eq!(
        site.post(CREATE, &body(&site.packages["other-type"], debian))
            .await
            .code(),
        7005
    );
    assert_eq!(
        site.post(CREATE, &body(&site.packages["broken"], debian))
            .await
            .code(),
        1003
    );
    assert!(site.all().is_empty());
    site.post(CREATE, &body(&site.packages["any-type"], debian))
        .await
        .good();
}

#[tokio::test]
async fn without_room_another_package_must_be_chosen() {
    let site = Site::open().await;
    for package in ["huge", "gpu"] {
        let body = json!({"packageId": site.packages[package], "imageId": site.images["debian"]});
        let answer = site.post(CREATE, &body).await;
        assert_eq!(
            (answer.code(), answer.msg()),
            (6002, "资源不足, 请重新选择配置"),
            "{package}"
        );
    }
    let body = json!({"packageId": site.packages["small"], "imageId": site.images["nowhere"]});
    assert_eq!(site.post(CREATE, &body).await.code(), 6002);
    assert!(site.all().is_empty());
}

#[tokio::test]
async fn while_its_backend_is_away_nothing_is_accepted_for_a_machine() {
    let site = Site::open().await;
    let id = site.machine().await;
    site.on(&id).await;
    site.control.disconnect();
    support::eventually("the loss is seen", || (!site.vm(&id).reachable).then_some(())).await;
    site.control.clear_call_log();
    assert_eq!(site.get(&one(&id)).await.good()["status"], "2", "its last state");
    assert_eq!(site.get(&operate(&id, 0)).await.code(), 503);
    assert_eq!(site.get(&operate(&id, 1)).await.code(), 503);
    assert_eq!(site.get(&reboot(&id)).await.code(), 7003);
    assert_eq!(site.delete(&delete(&id)).await.code(), 503);
    assert_eq!(site.post(CREATE, &site.by_use()).await.code(), 503);
    assert_eq!(site.post(RENT, &site.rent(1, 1)).await.code(), 6005);
    assert_eq!(site.all().len(), 1);
    assert!(site.control.call_log().is_empty());
}

#[tokio::test]
async fn a_machine_between_states_says_so() {
    let site = Site::open().await;
    let id = site.machine().await;
    site.control
        .set_delay(Capability::PowerStart, Delay::Fixed(120_000));
    site.get(&operate(&id, 1)).await.good();
    assert_eq!(site.get(&one(&id)).await.good()["status"], "1");
    assert_eq!(site.get(&operate(&id, 1)).await.code(), 6000);
    assert_eq!(site.get(&operate(&id, 0)).await.code(), 6000);
    assert_eq!(site.get(&reboot(&id)).await.code(), 7004);
    assert_eq!(site.delete(&delete(&id)).await.good(), json!(false));

    let id = {
        site.control.set_delay(Capability::PowerStart, Delay::Fixed(0));
        let id = site.machine().await;
        site.on(&id).await;
        id
    };
    site.control.set_ignores_acpi(site.vm(&id).id, true).unwrap();
    site.get(&operate(&id, 0)).await.good();
    assert_eq!(site.get(&one(&id)).await.good()["status"], "4");
    assert_eq!(site.get(&operate(&id, 1)).await.code(), 6001);
    assert_eq!(site.get(&operate(&id, 0)).await.code(), 6001);
    assert_eq!(site.get(&reboot(&id)).await.code(), 7004);
    assert_eq!(site.delete(&delete(&id)).await.good(), json!(false));
}

#[tokio::test]
async fn a_machine_that_is_being_made_is_shown_and_has_to_wait() {
    let site = Site::open().await;
    site.control.set_delay(Method::Define, Delay::Fixed(120_000));
    site.post(CREATE, &site.by_use()).await.good();
    let id = site.all()[0].record.short_id.clone();
    let seen = site.get(&one(&id)).await.good();
    assert_eq!(
        (&seen["status"], &seen["memory"], &seen["cpu"]),
        (&json!("0"), &json!(2), &json!(2))
    );
    assert_eq!(seen["mac"], Value::Null);
    assert_eq!(site.get(&operate(&id, 1)).await.code(), 1005);
    assert_eq!(site.get(&reboot(&id)).await.code(), 7004);
    assert_eq!(site.delete(&delete(&id)).await.good(), json!(false));
}

#[tokio::test]
async fn power_calls_with_nothing_to_do_are_good_and_do_nothing() {
    let site = Site::open().await;
    let id = site.machine().await;
    site.control.clear_call_log();
    assert_eq!(site.get(&operate(&id, 0)).await.good(), json!(true));
    assert_eq!(site.get(&reboot(&id)).await.code(), 7002);
    assert!(site.control.call_log().is_empty());
    site.on(&id).await;
    site.control.clear_call_log();
    assert_eq!(site.get(&operate(&id, 1)).await.good(), json!(true));
    assert!(site.control.call_log().is_empty());
}

#[tokio::test]
async fn a_paused_machine_is_continued_by_switching_it_on() {
    let site = Site::open().await;
    let id = site.machine().await;
    site.on(&id).await;
    site.control
        .power_from_outside(site.vm(&id).id, PowerState::Paused)
        .unwrap();
    site.until_status(&id, "0").await;
    assert_eq!(site.get(&reboot(&id)).await.code(), 7004);
    site.on(&id).await;
    assert_eq!(site.vm(&id).power(), PowerState::Running);
    site.control
        .power_from_outside(site.vm(&id).id, PowerState::Paused)
        .unwrap();
    site.until_status(&id, "0").await;
    site.get(&operate(&id, 0)).await.good();
    support::eventually("it is off", || {
        (site.vm(&id).power() == PowerState::Off).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_site_may_cut_the_power() {
    let site = Site::open().await;
    let id = site.machine().await;
    site.on(&id).await;
    site.control.set_ignores_acpi(site.vm(&id).id, true).unwrap();
    let frontend = site.facing(Settings {
        power_off: PowerOff::ForceOff,
        ..open()
    });
    send(&*frontend, "GET", &operate(&id, 0), &[], b"").await.good();
    site.until_status(&id, "0").await;
}

#[tokio::test]
async fn a_machine_whose_term_is_over_cannot_be_switched_on() {
    let site = Site::open().await;
    let id = site.rented(1, 1).await;
    site.on(&id).await;
    assert_eq!(site.get(&one(&id)).await.good()["status"], "2");
    site.expire(&id).await;
    let seen = site.get(&one(&id)).await.good();
    assert_eq!(seen["status"], "5");
    assert!(seen["expirationTime"].as_i64().unwrap() < Timestamp::now().as_millisecond());
    assert_eq!(site.get(&operate(&id, 1)).await.code(), 6003);
    assert_eq!(site.get(&reboot(&id)).await.code(), 7003);
    assert_eq!(site.get(&operate(&id, 0)).await.good(), json!(true));
    site.settled(&id).await;
    assert_eq!(site.get(&one(&id)).await.good()["status"], "5");
    assert_eq!(site.delete(&delete(&id)).await.good(), json!(true));
}

#[tokio::test]
async fn a_term_that_ends_between_two_reads_shows_in_the_second() {
    let site = Site::open().await;
    let id = site.rented(1, 1).await;
    let end = Timestamp::now() + std::time::Duration::from_millis(400);
    let vm = site.vm(&id).id;
    let change = |record: &mut babelvisor_core::model::VmRecord| {
        record.expires_at = Some(end);
        Ok(())
    };
    site.core
        .annotate(&support::administrator(), vm, change)
        .await
        .unwrap();
    let first = site.get(&one(&id)).await.good()["status"].clone();
    assert!(first == "0" || Timestamp::now() >= end, "{first}");
    site.until_status(&id, "5").await;
    assert!(Timestamp::now() >= end);
}

#[tokio::test]
async fn delete_stops_a_machine_that_is_on() {
    let site = Site::open().await;
    let id = site.machine().await;
    site.on(&id).await;
    assert_eq!(site.delete(&delete(&id)).await.good(), json!(true));
    assert!(site.control.vms().is_empty());
    assert_eq!(
        site.delete(&delete(&id)).await.code(),
        1021,
        "a second time it does not exist"
    );
}

#[tokio::test]
async fn delete_answers_false_when_the_backend_refuses() {
    let site = Site::open().await;
    let id = site.machine().await;
    site.control
        .inject_fault(Fault::new(Method::Undefine, ErrorKind::IllegalState));
    assert_eq!(site.delete(&delete(&id)).await.good(), json!(false));
    assert_eq!(site.control.vms().len(), 1);
    assert_eq!(site.delete(&delete(&id)).await.good(), json!(true));
}

#[tokio::test]
async fn a_machine_whose_creation_failed_can_only_be_deleted() {
    let site = Site::open().await;
    let body = json!({"packageId": site.packages["small"], "imageId": site.images["broken"]});
    site.post(CREATE, &body).await.good();
    let id = site.all()[0].record.short_id.clone();
    site.settled(&id).await;
    assert_eq!(site.get(&one(&id)).await.good()["status"], "0");
    let answer = site.get(&operate(&id, 1)).await;
    assert_eq!(answer.code(), 1003);
    assert!(answer.msg().contains("creation failed"), "{}", answer.msg());
    assert_eq!(site.get(&reboot(&id)).await.code(), 7003);
    assert_eq!(site.delete(&delete(&id)).await.good(), json!(true));
    assert!(site.all().is_empty());
}

#[tokio::test]
async fn a_machine_that_was_found_is_managed_like_one_that_was_made() {
    let site = Site::open().await;
    let id = site.foreign("found-one").await;
    let seen = site.get(&one(&id)).await.good();
    for (field, value) in [
        ("name", json!("found-one")),
        ("operatingSystem", Value::Null),
        ("hostAccount", Value::Null),
        ("hostPw", Value::Null),
        ("gpuConfiguration", json!("-")),
        ("gpuNumber", json!(0)),
        ("memory", json!(1)),
        ("rigidDisk", json!(10)),
        ("area", Value::Null),
        ("status", json!("2")),
    ] {
        assert_eq!(seen[field], value, "{field}");
    }
    site.get(&operate(&id, 0)).await.good();
    site.until_status(&id, "0").await;
    site.settled(&id).await;
    assert_eq!(site.delete(&delete(&id)).await.good(), json!(true));
    assert!(site.control.vms().is_empty());
}

#[tokio::test]
async fn pages_hold_at_most_twenty_five_machines_and_miss_none() {
    let site = Site::open().await;
    for number in 0..31 {
        site.foreign(&format!("guest-{number:02}")).await;
    }
    let page = |page: u32, size: u32| {
        let target = format!("/v1/pve/open/mypage?page={page}&pageSize={size}");
        let site = &site;
        async move { site.get(&target).await.good() }
    };
    let ids = |page: &Value| -> Vec<String> {
        page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let (first, second, third) = (page(1, 100).await, page(2, 25).await, page(3, 25).await);
    assert_eq!(
        (ids(&first).len(), ids(&second).len(), ids(&third).len()),
        (25, 6, 0)
    );
    for page in [&first, &second, &third] {
        assert_eq!(page["totalCounts"], 31);
    }
    let mut all: Vec<String> = ids(&first).into_iter().chain(ids(&second)).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 31);
    assert_eq!(ids(&page(2, 10).await), ids(&first)[10..20]);
    assert_eq!(ids(&page(999_999_999, 25).await).len(), 0);
}

#[tokio::test]
async fn page_and_size_are_required_unless_the_site_says_otherwise() {
    let site = Site::open().await;
    for query in [
        "",
        "?page=1",
        "?pageSize=10",
        "?page=0&pageSize=10",
        "?page=1&pageSize=0",
        "?page=x&pageSize=1",
        "?page=-1&pageSize=1",
        "?page=1&page=2&pageSize=1",
        "?page=99999999999999999999&pageSize=1",
    ] {
        let answer = site.get(&format!("/v1/pve/open/mypage{query}")).await;
        assert_eq!(answer.code(), 1007, "{query}");
        assert!(answer.msg().contains("page"), "{}", answer.msg());
    }
    site.foreign("guest").await;
    let frontend = site.facing(Settings {
        default_page: true,
        ..open()
    });
    let page = send(&*frontend, "GET", "/v1/pve/open/mypage", &[], b"")
        .await
        .good();
    assert_eq!(page["data"].as_array().unwrap().len(), 1);
    let answer = send(&*frontend, "GET", "/v1/pve/open/mypage?page=0", &[], b"").await;
    assert_eq!(answer.code(), 1007, "what is there must still be right");
}

#[tokio::test]
async fn reads_never_call_the_hypervisor() {
    let site = Site::open().await;
    let id = site.machine().await;
    site.on(&id).await;
    site.control.clear_call_log();
    for target in [
        one(&id),
        "/v1/pve/open/mypage?page=1&pageSize=25".to_owned(),
        "/v1/pve/open/image".to_owned(),
    ] {
        site.get(&target).await.good();
    }
    assert!(site.control.call_log().is_empty());
}

#[tokio::test]
async fn a_change_shows_in_the_next_read_although_machines_are_kept_encoded() {
    let site = Site::open().await;
    let id = site.foreign("before").await;
    assert_eq!(site.get(&one(&id)).await.good()["name"], "before");
    assert_eq!(site.get(&one(&id)).await.good()["name"], "before");
    site.control
        .rename_from_outside(site.vm(&id).id, "after")
        .unwrap();
    support::eventually("the new name is seen", || {
        (site.vm(&id).name() == "after").then_some(())
    })
    .await;
    assert_eq!(site.get(&one(&id)).await.good()["name"], "after");
}
