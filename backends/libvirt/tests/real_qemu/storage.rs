//! Volumes on a real host: made larger while a guest runs, uploaded, and refused where they point elsewhere.

use std::process::Command;

use babelvisor_core::backend::{ByteStream, ProgressSink};
use babelvisor_core::model::{DiskAttachment, PoolVolume};
use serde_json::Value;

use super::*;

/// What qemu-img says of a volume, whoever has it open.
pub(crate) fn image_info(name: &str) -> Value {
    let path = libvirtd().pool_dir().join(name);
    let output = Command::new("qemu-img")
        .args(["info", "-U", "--output=json"])
        .arg(path)
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

pub(crate) fn place(name: &str) -> PoolVolume {
    PoolVolume {
        pool: POOL.into(),
        name: name.into(),
    }
}

/// An image file outside all pools.
fn made_by_qemu_img(arguments: &[&str]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image");
    let output = Command::new("qemu-img")
        .arg("create")
        .args(["-f", "qcow2"])
        .args(arguments)
        .arg(&path)
        .arg("64M")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    std::fs::read(path).unwrap()
}

fn stream(bytes: Vec<u8>) -> ByteStream {
    Box::pin(std::io::Cursor::new(bytes))
}

fn sized(name: &str, format: VolumeFormat, bytes: usize) -> VolumeSpec {
    VolumeSpec {
        format,
        ..blank(POOL, name, bytes as u64)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_grows_and_never_shrinks() {
    let lv = on_qemu();
    let wanted = blank(POOL, &format!("{}-grows.qcow2", VmId::random()), 1 << 30);
    let here = place(&wanted.name);
    assert!(lv.volume(&call(20), &here).await.unwrap().is_none());
    let missing = lv
        .resize_volume(&call(20), &here, None, 1 << 30)
        .await
        .unwrap_err();
    assert_eq!(missing.kind, ErrorKind::NotFound, "{missing}");
    let made = lv.create_volume(&call(20), &wanted).await.unwrap();
    let seen = lv.volume(&call(20), &here).await.unwrap().unwrap();
    assert_eq!((seen.id, seen.capacity), (made.id, 1 << 30));
    let grown = lv
        .resize_volume(&call(20), &here, None, (2 << 30) + 1)
        .await
        .unwrap();
    assert_eq!(grown.capacity, (2 << 30) + 512);
    let kept = lv.resize_volume(&call(20), &here, None, 1 << 30).await.unwrap();
    assert_eq!(kept.capacity, (2 << 30) + 512);
    assert_eq!(image_info(&wanted.name)["virtual-size"], (2_u64 << 30) + 512);
    lv.delete_volume(&call(20), POOL, &wanted.name).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_uploaded_is_what_is_stored() {
    let lv = on_qemu();
    let job = call(60);
    let name = format!("{}-upload.raw", VmId::random());
    let bytes: Vec<u8> = (0..3_000_017_u32).map(|n| (n % 251) as u8).collect();
    let spec = sized(&name, VolumeFormat::Raw, bytes.len());
    let made = lv
        .upload_volume(&job, &spec, stream(bytes.clone()))
        .await
        .unwrap();
    assert_eq!(
        (made.capacity, made.format),
        (bytes.len() as u64, VolumeFormat::Raw)
    );
    assert_eq!(std::fs::read(libvirtd().pool_dir().join(&name)).unwrap(), bytes);
    // Somebody else's name, and our own second try.
    let foreign = lv.upload_volume(&call(60), &spec, stream(bytes.clone())).await;
    assert_eq!(foreign.unwrap_err().kind, ErrorKind::AlreadyExists);
    lv.upload_volume(&again(&job, 60), &spec, stream(bytes.clone()))
        .await
        .unwrap();
    lv.delete_volume(&call(20), POOL, &name).await.unwrap();

    // A size that nobody knows beforehand.
    let unsized_spec = sized(&name, VolumeFormat::Raw, 0);
    let made = lv
        .upload_volume(&call(60), &unsized_spec, stream(bytes.clone()))
        .await
        .unwrap();
    assert_eq!(made.capacity, bytes.len() as u64);
    lv.delete_volume(&call(20), POOL, &name).await.unwrap();

    let image = std::fs::read(image()).unwrap();
    let name = format!("{}-upload.qcow2", VmId::random());
    let spec = sized(&name, VolumeFormat::Qcow2, image.len());
    let made = lv
        .upload_volume(&call(60), &spec, stream(image.clone()))
        .await
        .unwrap();
    assert_eq!(made.format, VolumeFormat::Qcow2);
    assert_eq!(image_info(&name)["virtual-size"], made.capacity);
    assert_eq!(std::fs::read(libvirtd().pool_dir().join(&name)).unwrap(), image);
    lv.delete_volume(&call(20), POOL, &name).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_not_what_it_says_leaves_nothing() {
    let lv = on_qemu();
    let plain = vec![7_u8; 700_000];
    let empty = made_by_qemu_img(&[]);
    let backed = made_by_qemu_img(&["-b", "/etc/passwd", "-F", "raw", "-u"]);
    let elsewhere = made_by_qemu_img(&["-o", "data_file=/tmp/babelvisor-no-such-file"]);
    let _ = std::fs::remove_file("/tmp/babelvisor-no-such-file");
    let cases = [
        ("too-short", VolumeFormat::Raw, plain.clone(), 800_000, "capacity"),
        ("too-long", VolumeFormat::Raw, plain.clone(), 600_000, "capacity"),
        (
            "no-image",
            VolumeFormat::Qcow2,
            plain.clone(),
            plain.len(),
            "format",
        ),
        (
            "disguised",
            VolumeFormat::Raw,
            empty.clone(),
            empty.len(),
            "format",
        ),
        (
            "backed",
            VolumeFormat::Qcow2,
            backed.clone(),
            backed.len(),
            "format",
        ),
        (
            "data-file",
            VolumeFormat::Qcow2,
            elsewhere.clone(),
            elsewhere.len(),
            "format",
        ),
    ];
    for (what, format, bytes, announced, field) in cases {
        let name = format!("{}-{what}", VmId::random());
        let refused = lv
            .upload_volume(&call(30), &sized(&name, format, announced), stream(bytes))
            .await
            .unwrap_err();
        assert_eq!(
            (refused.kind, refused.field.as_deref()),
            (ErrorKind::InvalidInput, Some(field)),
            "{what}: {refused}"
        );
        assert!(
            lv.volume(&call(20), &place(&name)).await.unwrap().is_none(),
            "{what}"
        );
        assert!(!libvirtd().pool_dir().join(&name).exists(), "{what}");
    }
    // A source that breaks in the middle.
    struct Breaks(usize);
    impl tokio::io::AsyncRead for Breaks {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            if self.0 == 0 {
                return std::task::Poll::Ready(Err(std::io::Error::other("the line went dead")));
            }
            self.0 -= 1;
            let room = buffer.remaining().min(1000);
            buffer.put_slice(&vec![1; room]);
            std::task::Poll::Ready(Ok(()))
        }
    }
    let name = format!("{}-broken", VmId::random());
    let spec = sized(&name, VolumeFormat::Raw, 5_000_000);
    let broken = lv
        .upload_volume(&call(30), &spec, Box::pin(Breaks(900)))
        .await
        .unwrap_err();
    assert!(broken.detail.contains("the line went dead"), "{broken}");
    assert!(lv.volume(&call(20), &place(&name)).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_that_reach_outside_the_pools_are_not_copied() {
    let lv = on_qemu();
    let copy_of = |name: &str, format| VolumeSpec {
        source: VolumeSource::Copy {
            image: format!("{POOL}/{name}"),
            format,
        },
        ..blank(POOL, &format!("{}-stolen.qcow2", VmId::random()), 1 << 30)
    };
    for (what, arguments, declared) in [
        (
            "backed",
            vec!["-b", "/etc/passwd", "-F", "raw", "-u"],
            VolumeFormat::Qcow2,
        ),
        ("probed", vec!["-b", "/etc/passwd", "-u"], VolumeFormat::Qcow2),
        ("forged", vec![], VolumeFormat::Raw),
        (
            "data-file",
            vec!["-o", "data_file=/tmp/babelvisor-no-such-file"],
            VolumeFormat::Qcow2,
        ),
    ] {
        let name = format!("{}-{what}.qcow2", VmId::random());
        let arguments: Vec<&str> = match what {
            // QEMU itself no longer makes images without a declared format: the field is cut off below.
            "probed" => vec!["-b", "/etc/passwd", "-F", "raw", "-u"],
            _ => arguments,
        };
        let mut bytes = made_by_qemu_img(&arguments);
        if what == "probed" {
            let at = bytes
                .windows(4)
                .position(|w| w == [0xe2, 0x79, 0x2a, 0xca])
                .unwrap();
            bytes[at..at + 4].copy_from_slice(&[0x11, 0x11, 0x11, 0x11]);
        }
        std::fs::write(libvirtd().pool_dir().join(&name), bytes).unwrap();
        let refused = lv
            .create_volume(&call(30), &copy_of(&name, declared))
            .await
            .unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Unsupported, "{what}: {refused}");
        if declared == VolumeFormat::Qcow2 {
            // Nor are they made disks.
            let mut plan = spec("reaches-out", vec![], NicSource::User);
            plan.attached = vec![DiskAttachment {
                volume: place(&name),
                format: declared,
                bus: None,
                readonly: false,
                shareable: false,
            }];
            let refused = lv
                .define(&call(30), VmId::random(), &plan, &[], None)
                .await
                .unwrap_err();
            assert_eq!(refused.kind, ErrorKind::Unsupported, "{what}: {refused}");
        }
        std::fs::remove_file(libvirtd().pool_dir().join(&name)).unwrap();
    }
    let _ = std::fs::remove_file("/tmp/babelvisor-no-such-file");
}

#[derive(Default)]
struct Heard(std::sync::Mutex<Vec<u8>>);

impl ProgressSink for Heard {
    fn report(&self, percent: u8) {
        self.0.lock().unwrap().push(percent);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_copy_says_how_far_it_has_come() {
    let lv = on_qemu();
    // Random bytes: nothing that could be left out or made small.
    let source = format!("{}-large.raw", VmId::random());
    let status = Command::new("dd")
        .args(["if=/dev/urandom", "bs=1M", "count=768", "status=none"])
        .arg(format!("of={}", libvirtd().pool_dir().join(&source).display()))
        .status()
        .unwrap();
    assert!(status.success());
    // A fast disk may be done before anybody looks: then it is copied again.
    let mut percents = Vec::new();
    for _ in 0..10 {
        let wanted = VolumeSpec {
            source: VolumeSource::Copy {
                image: format!("{POOL}/{source}"),
                format: VolumeFormat::Raw,
            },
            ..blank(POOL, &format!("{}-copy.qcow2", VmId::random()), 0)
        };
        let heard = Arc::new(Heard::default());
        let job = CallContext {
            progress: Some(heard.clone()),
            ..call(300)
        };
        lv.create_volume(&job, &wanted).await.unwrap();
        lv.delete_volume(&call(60), POOL, &wanted.name).await.unwrap();
        percents.extend(heard.0.lock().unwrap().iter().copied());
        if percents.iter().any(|p| (1..=99).contains(p)) {
            break;
        }
    }
    assert!(percents.iter().any(|p| (1..=99).contains(p)), "{percents:?}");
    lv.delete_volume(&call(60), POOL, &source).await.unwrap();
}
