//! Which version this is: the crate's, with the commit where it is known. `BABELVISOR_COMMIT` names it; a release
//! build asks git. Other builds do not, because they would be built anew after every commit.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=BABELVISOR_COMMIT");
    let named = std::env::var("BABELVISOR_COMMIT").ok();
    let commit = match named.filter(|commit| !commit.is_empty()) {
        None if std::env::var("PROFILE").as_deref() == Ok("release") => ask_git(),
        named => named,
    };
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    match commit {
        Some(commit) => println!("cargo:rustc-env=GATEWAY_VERSION={version} ({commit})"),
        None => println!("cargo:rustc-env=GATEWAY_VERSION={version}"),
    }
}

fn ask_git() -> Option<String> {
    let answer = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()?;
    let commit = String::from_utf8(answer.stdout).ok()?.trim().to_owned();
    // Where the head is noted changes with each commit, a plain checkout included.
    let logs = Command::new("git")
        .args(["rev-parse", "--git-path", "logs/HEAD"])
        .output()
        .ok()?;
    let logs = String::from_utf8(logs.stdout).ok()?;
    println!("cargo:rerun-if-changed={}", logs.trim());
    (answer.status.success() && !commit.is_empty()).then_some(commit)
}
