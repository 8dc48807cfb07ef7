//! HTTPS with a certificate made for the test.

use std::sync::Arc;
use std::time::Duration;

use babelvisor_server::{Limits, Listener, Server, ServerConfig, ServerError, TlsFiles};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{Raw, Toy, start_with};

struct Files {
    _folder: tempfile::TempDir,
    files: TlsFiles,
    certificate: CertificateDer<'static>,
}

fn self_signed() -> Files {
    let made = rcgen::generate_simple_self_signed(vec!["toy.test".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = TlsFiles {
        certificate: folder.path().join("cert.pem"),
        key: folder.path().join("key.pem"),
    };
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    Files {
        _folder: folder,
        files,
        certificate: made.cert.der().clone(),
    }
}

#[tokio::test]
async fn https_answers_and_plain_http_on_it_does_not() {
    let made = self_signed();
    let limits = Limits {
        header_time: Duration::from_secs(2),
        ..Limits::default()
    };
    let server = start_with(
        vec![Toy::new("toy").mount("/t")],
        limits,
        Some(made.files.clone()),
    )
    .await;
    let mut roots = RootCertStore::empty();
    roots.add(made.certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let name = ServerName::try_from("toy.test").unwrap();
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap();
    let mut client = Raw::over(stream);
    assert_eq!(client.get("/t/seen").await.body, "https toy.test GET /t/seen  -");
    assert_eq!(client.get("/t/items/2").await.body, "item=2");

    let mut plain = server.client().await;
    plain.send("GET /t/seen HTTP/1.1\r\nHost: toy.test\r\n\r\n").await;
    let mut seen = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut plain.stream, &mut seen).await;
    assert!(!seen.starts_with(b"HTTP"), "no answer in clear on a TLS port");
}

#[tokio::test]
async fn unusable_files_are_named() {
    let made = self_signed();
    let missing = TlsFiles {
        key: made.files.key.with_file_name("absent.pem"),
        ..made.files.clone()
    };
    let swapped = TlsFiles {
        certificate: made.files.key.clone(),
        key: made.files.certificate.clone(),
    };
    for (files, named) in [(missing, "absent.pem"), (swapped, "key.pem")] {
        let listener = Listener {
            addresses: vec![([127, 0, 0, 1], 0).into()],
            tls: Some(files),
            mounts: vec![Toy::new("toy").mount("/t")],
        };
        let config = ServerConfig {
            listeners: vec![listener],
            limits: Limits::default(),
        };
        let Err(error) = Server::bind(config).await else {
            panic!("{named} cannot be used")
        };
        assert!(matches!(error, ServerError::Tls { .. }));
        assert!(error.to_string().contains(named), "{error}");
    }
}
