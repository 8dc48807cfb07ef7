//! createquantity and createRent, and the packages and images that they are made from.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use babelvisor_core::model::{EntryState, Flavor, Image, ImageKind, TenantId};
use babelvisor_pve_open::{CreateAnswers, Settings};
use serde_json::{Value, json};
use support::{CREATE, RENT, Site, administrator, one, open, send};

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
async fn only_what_is_enabled_and_the_callers_or_everybodys_is_offered() {
    let site = Site::open().await;
    let now = site.core.now();
    let small = now.flavors[&site.packages["small"]].clone();
    let number: u64 = site.images["windows"].parse().unwrap();
    let windows = now.images_by_number[&number].clone();
    let stranger = Image {
        state: EntryState::Ready,
        ..Image::new("somebody else's", ImageKind::Disk, Some(TenantId::new("away")))
    };
    let admin = administrator();
    let stranger = site.core.add_entry(&admin, stranger).await.unwrap();
    let offered = async |target: &str, name: &str| {
        let all = site.get(target).await.good();
        let mut all = all.as_array().unwrap().iter();
        all.any(|one| one.to_string().contains(&format!("\"{name}\"")))
    };
    let (packages, images) = ("/v1/pve/open/packAge/0", "/v1/pve/open/image");
    assert!(offered(packages, &small.short_id).await && offered(images, &windows.number.to_string()).await);
    assert!(!offered(images, &stranger.number.to_string()).await);

    let disabled = site.core.edit_entry::<Flavor>(&admin, small.id, |flavor| {
        flavor.enabled = false;
        Ok(())
    });
    disabled.await.unwrap();
    let disabled = site.core.edit_entry::<Image>(&admin, windows.id, |image| {
        image.enabled = false;
        Ok(())
    });
    disabled.await.unwrap();
    assert!(!offered(packages, &small.short_id).await && !offered(images, &windows.number.to_string()).await);
    let package = &site.packages["any-type"];
    for (package, image, named) in [
        (&small.short_id, &site.images["debian"], "packageId"),
        (package, &site.images["windows"], "imageId"),
        (package, &stranger.number.to_string(), "imageId"),
    ] {
        let body = json!({"packageId": package, "imageId": image});
        let answer = site.post(CREATE, &body).await;
        assert_eq!(answer.code(), 1003, "{body}");
        assert!(answer.msg().contains(named), "{}", answer.msg());
    }
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
