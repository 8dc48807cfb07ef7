//! The images, packages and the account of the site, the same in every run.

use babelvisor_core::model::{
    Area, BackendId, Billing, ImageKind, ImageLocation, Purpose, Role, TenantId, VolumeFormat,
};
use babelvisor_core::registry::accounts::NewAccount;
use babelvisor_core::registry::{FlavorSeed, ImageSeed, Registry};
use babelvisor_core::secret::Secret;

const GIB: u64 = 1 << 30;

pub const USER: &str = "A10000001";
pub const KEY: &str = "made-up-key";
/// The key as ZStack's clients send it, and as those of v1-compute do.
pub const KEY_SHA512: &str = "edae5ba45f3edc8a2cd1c57293ac70bc1a0eec78053519a988cca8e4210340ccc7d68879d16b1e5a32aba6773754eca96cf5305f32057bbfc11a928f241c1a7a";
pub const KEY_MD5: &str = "248af27f5fea993b1b1e8ace18752a99";

/// Packages by their ids: two that can be paid both ways, two for a term only.
pub const SMALL: &str = "SmallByUse";
pub const LARGE: &str = "LargeByUse";
pub const RENTAL: &str = "SmallRents";
pub const LARGE_RENTAL: &str = "LargeRents";

/// An account that can sign in. Apart from the others, because making one takes a while.
pub async fn account(registry: &Registry) {
    let account = NewAccount {
        name: USER.to_owned(),
        tenant: TenantId::new("home"),
        role: Role::User,
        identity_verified: true,
        vm_quota: None,
        password: Secret::new(KEY),
    };
    registry.add_account(account).await.expect("an account");
}

pub async fn plant(registry: &Registry, backend: &BackendId) {
    for (number, name, os) in [(1, "debian", "Debian"), (2, "ubuntu", "Ubuntu")] {
        let image = ImageSeed {
            name: name.to_owned(),
            number: Some(number),
            kind: ImageKind::Disk,
            os: os.to_owned(),
            os_version: "13".to_owned(),
            family: "BZ".to_owned(),
            admin_user: "admin".to_owned(),
            size: 2 * GIB,
            locations: vec![ImageLocation {
                backend: backend.clone(),
                native: name.to_owned(),
                format: VolumeFormat::Qcow2,
            }],
        };
        registry.seed_image(image).await.expect("an image");
    }
    for (id, billing, vcpus) in [
        (SMALL, Billing::Both, 1),
        (LARGE, Billing::Both, 4),
        (RENTAL, Billing::Term, 1),
        (LARGE_RENTAL, Billing::Term, 4),
    ] {
        let flavor = FlavorSeed {
            name: id.to_owned(),
            short_id: Some(id.to_owned()),
            vcpus,
            memory: u64::from(vcpus) * GIB,
            disk: 20 * GIB,
            gpus: 0,
            gpu_model: None,
            bandwidth: 8,
            price: 5.0,
            discount: 0.9,
            family: "BZ".to_owned(),
            purpose: Purpose::Office,
            area: Area::South,
            billing,
        };
        registry.seed_flavor(flavor).await.expect("a package");
    }
}
