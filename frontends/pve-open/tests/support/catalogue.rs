//! The packages and images of the test site: one of each kind that a create call must tell apart.

use std::collections::HashMap;

use babelvisor_core::model::{Area, BackendId, Billing, ImageKind, ImageLocation, Purpose, VolumeFormat};
use babelvisor_core::registry::{FlavorSeed, ImageSeed, Registry};

const GIB: u64 = 1 << 30;

/// Stores them; returns the packages' ids and the images' numbers by name.
pub async fn seed(
    registry: &Registry,
    backend: &BackendId,
) -> (HashMap<&'static str, String>, HashMap<&'static str, String>) {
    let flavor = |name: &str, billing: Billing| FlavorSeed {
        name: name.to_owned(),
        short_id: None,
        vcpus: 2,
        memory: 2 * GIB,
        disk: 20 * GIB,
        gpus: 0,
        gpu_model: None,
        bandwidth: 8,
        price: 5.0,
        discount: 0.9,
        family: "BZ".to_owned(),
        purpose: Purpose::Graphics,
        area: Area::International,
        billing,
    };
    let mut packages = HashMap::new();
    for (name, seed) in [
        ("small", flavor("small", Billing::Hourly)),
        ("rental", flavor("rental", Billing::Term)),
        (
            "both",
            FlavorSeed {
                memory: GIB + 1,
                disk: 3 * GIB + 1,
                ..flavor("both", Billing::Both)
            },
        ),
        (
            "other-type",
            FlavorSeed {
                family: "BL".to_owned(),
                ..flavor("other-type", Billing::Both)
            },
        ),
        (
            "any-type",
            FlavorSeed {
                family: String::new(),
                ..flavor("any-type", Billing::Both)
            },
        ),
        (
            "gpu",
            FlavorSeed {
                gpus: 2,
                gpu_model: Some("Example GPU 6G".to_owned()),
                ..flavor("gpu", Billing::Both)
            },
        ),
        (
            "huge",
            FlavorSeed {
                memory: 4096 * GIB,
                ..flavor("huge", Billing::Both)
            },
        ),
        (
            "broken",
            FlavorSeed {
                vcpus: 0,
                ..flavor("broken", Billing::Both)
            },
        ),
    ] {
        packages.insert(
            name,
            registry.seed_flavor(seed).await.expect("a package").short_id,
        );
    }
    let image = |name: &str, kind: ImageKind, os: &str, native: &str| ImageSeed {
        name: name.to_owned(),
        number: None,
        kind,
        os: os.to_owned(),
        os_version: "2022 数据中心中文版 x64".to_owned(),
        family: "BZ".to_owned(),
        admin_user: "admin".to_owned(),
        size: 2 * GIB,
        locations: vec![ImageLocation {
            backend: backend.clone(),
            native: native.to_owned(),
            format: VolumeFormat::Qcow2,
        }],
    };
    let mut images = HashMap::new();
    for (name, seed) in [
        ("debian", image("debian", ImageKind::Disk, "Debian", "debian")),
        (
            "windows",
            image("windows", ImageKind::Disk, "Windows Server", "windows"),
        ),
        ("iso", image("iso", ImageKind::Iso, "Debian", "debian")),
        (
            "nowhere",
            ImageSeed {
                locations: Vec::new(),
                ..image("nowhere", ImageKind::Disk, "Debian", "")
            },
        ),
        (
            "broken",
            image("broken", ImageKind::Disk, "Debian", "does-not-exist"),
        ),
    ] {
        images.insert(
            name,
            registry
                .seed_image(seed)
                .await
                .expect("an image")
                .number
                .to_string(),
        );
    }
    (packages, images)
}
