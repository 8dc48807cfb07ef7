//! `babelvisor conformance run` as people and scripts call it.

use std::process::Command;

use serde_json::{Value, json};

use crate::common::binary;
use crate::rentals::site;

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_ends_with_0_1_or_2_and_writes_its_reports() {
    let gateway = site("", "[pve-open]\nauthentication = \"off\"\n");
    let reports = tempfile::tempdir().unwrap();
    let command = |arguments: &[&str]| {
        let out = Command::new(binary())
            .args(["conformance", "run"])
            .args(arguments)
            .output()
            .unwrap();
        (
            out.status.code(),
            String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr),
        )
    };
    let target = format!("http://{}", gateway.address());
    let admin = format!("http://{}", gateway.admin());
    let directory = reports.path().to_string_lossy().into_owned();
    let good = [
        "--target",
        &target,
        "--dialect",
        "guest-rest",
        "--filter",
        "get",
        "--admin",
        &admin,
        "--report-dir",
        &directory,
    ];
    let (code, text) = command(&good);
    assert_eq!(code, Some(0), "{text}");
    let report: Value =
        serde_json::from_str(&std::fs::read_to_string(reports.path().join("report.json")).unwrap()).unwrap();
    assert_eq!(report["totals"]["failed"], 0);
    assert!(
        report["operations"]["guest.get"]["passed"]
            .as_array()
            .unwrap()
            .contains(&json!("get"))
    );
    assert!(
        std::fs::read_to_string(reports.path().join("junit.xml"))
            .unwrap()
            .contains("<testcase")
    );
    let page = std::fs::read_to_string(reports.path().join("report.html")).unwrap();
    assert!(page.contains("guest-rest") && !page.contains("<script"));

    // Without the capability the scenario is skipped, and says why.
    let (code, text) = command(&[
        "--target",
        &target,
        "--dialect",
        "guest-rest",
        "--filter",
        "get",
        "--capabilities",
        "vm.list,power.start",
    ]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("skipped get: the target lacks vm.create"), "{text}");

    // A gateway that asks for what the scenario does not send fails it.
    let closed = site("", "[pve-open]\nauthentication = \"on\"\n");
    let closed_target = format!("http://{}", closed.address());
    let (code, text) = command(&[
        "--target",
        &closed_target,
        "--dialect",
        "pve-open",
        "--filter",
        "catalogue",
    ]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("$.code: other value: expected 0, received 401"),
        "{text}"
    );

    for nothing in [
        &["--target", "http://127.0.0.1:1", "--dialect", "guest-rest"][..],
        &[
            "--target",
            &target,
            "--dialect",
            "guest-rest",
            "--filter",
            "no such scenario",
        ][..],
        &["--target", &target, "--dialect", "esperanto"][..],
        &[
            "--target",
            &target,
            "--dialect",
            "guest-rest",
            "--capabilities",
            "power.fly",
        ][..],
    ] {
        let (code, text) = command(nothing);
        assert_eq!(code, Some(2), "{nothing:?}: {text}");
    }
}
