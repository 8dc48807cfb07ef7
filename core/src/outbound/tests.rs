//! Downloads and TLS against servers on the loopback.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use super::*;

use super::receiver::{Receiver, status_line};

fn outbound() -> Outbound {
    trusting(None)
}

fn trusting(trust: Option<PathBuf>) -> Outbound {
    Outbound::new(OutboundSettings {
        webhook: AllowList::parse(&["127.0.0.1"]).unwrap(),
        image: AllowList::parse(&["127.0.0.1"]).unwrap(),
        trust,
        idle: Duration::from_millis(300),
        ..OutboundSettings::default()
    })
}

async fn serving(answer: &str) -> Receiver {
    let answer = answer.as_bytes().to_vec();
    Receiver::start(move |_| answer.clone()).await
}

/// What a download of at most 100 bytes comes to.
async fn fetched(url: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let count = outbound().fetch(url, 100, &mut bytes, |_, _| {}).await?;
    assert_eq!(count, bytes.len() as u64);
    Ok(bytes)
}

#[tokio::test]
async fn an_image_comes_whole_with_its_length_known_or_not() {
    let counted = serving("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nimage").await;
    assert_eq!(fetched(&counted.url("/a/b.qcow2?v=2")).await.unwrap(), b"image");
    assert!(
        counted.received()[0]
            .head
            .starts_with("get /a/b.qcow2?v=2 http/1.1\r\n")
    );
    let chunked =
        serving("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nima\r\n2\r\nge\r\n0\r\n\r\n")
            .await;
    assert_eq!(fetched(&chunked.url("/")).await.unwrap(), b"image");
}

#[tokio::test]
async fn the_watch_hears_how_far_it_is() {
    let server = serving("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nimage").await;
    let (come, total) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(None)));
    let (heard, known) = (come.clone(), total.clone());
    let watch = move |bytes, of| {
        heard.store(bytes, Ordering::SeqCst);
        *known.lock().unwrap() = of;
    };
    let mut download = outbound().open(&server.url("/"), 100, watch).await.unwrap();
    assert_eq!(download.length, Some(5));
    let mut text = String::new();
    download.bytes.read_to_string(&mut text).await.unwrap();
    assert_eq!((text.as_str(), come.load(Ordering::SeqCst)), ("image", 5));
    assert_eq!(*total.lock().unwrap(), Some(5));
}

#[tokio::test]
async fn more_than_is_allowed_is_refused_at_once_or_when_it_comes() {
    let said = serving(&format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n{}",
        "a".repeat(101)
    ))
    .await;
    let unsaid = serving(&format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n{}\r\n0\r\n\r\n",
        "a".repeat(101)
    ))
    .await;
    for server in [said, unsaid] {
        let error = fetched(&server.url("/")).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidInput);
        assert!(error.detail.contains("100 bytes"), "{error}");
    }
}

#[tokio::test]
async fn an_image_that_ends_early_or_stalls_fails() {
    let short = serving("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nimage").await;
    assert_eq!(
        fetched(&short.url("/")).await.unwrap_err().kind,
        ErrorKind::BackendUnavailable
    );
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    assert_eq!(fetched(&url).await.unwrap_err().kind, ErrorKind::Timeout);
    drop(silent);
    assert_eq!(
        fetched(&url).await.unwrap_err().kind,
        ErrorKind::BackendUnavailable
    );
}

#[tokio::test]
async fn anything_but_the_image_is_an_error_and_redirects_are_not_followed() {
    let elsewhere = Receiver::answering(200).await;
    let moved = serving(&format!(
        "HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
        elsewhere.url("/")
    ))
    .await;
    let error = fetched(&moved.url("/?secret=1")).await.unwrap_err();
    assert!(error.detail.contains("redirects are not followed"), "{error}");
    assert!(!error.detail.contains("secret"), "{error}");
    assert!(elsewhere.received().is_empty());
    let missing = Receiver::start(|_| status_line(404)).await;
    assert_eq!(
        fetched(&missing.url("/")).await.unwrap_err().kind,
        ErrorKind::InvalidInput
    );
    let broken = Receiver::start(|_| status_line(503)).await;
    assert_eq!(
        fetched(&broken.url("/")).await.unwrap_err().kind,
        ErrorKind::BackendUnavailable
    );
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() {
    let endless = serving(&format!(
        "HTTP/1.1 200 OK\r\nX: {}\r\n\r\n",
        "a".repeat(200 << 10)
    ))
    .await;
    let hook = Hook {
        url: endless.url("/"),
    };
    let error = outbound().post(&hook, &[], Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::BackendUnavailable);
}

#[tokio::test]
async fn a_header_cannot_smuggle_another() {
    let server = Receiver::answering(200).await;
    let hook = Hook { url: server.url("/") };
    let headers = [("X-A".to_owned(), "1\r\nX-B: 2".to_owned())];
    let error = outbound().post(&hook, &headers, Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Internal);
    assert!(server.received().is_empty());
}

/// An https server for `name`, and the file that its authority is in.
async fn https(name: &str, dir: &std::path::Path) -> (std::net::SocketAddr, PathBuf) {
    use rustls::pki_types::pem::PemObject as _;
    use tokio::io::AsyncWriteExt as _;
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let file = dir.join("authority.pem");
    std::fs::write(&file, made.cert.pem()).unwrap();
    let key = made.signing_key.serialize_pem();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut sent = [0; 4096];
            let _ = stream.read(&mut sent).await;
            let _ = stream.write_all(&status_line(204)).await;
            let _ = stream.shutdown().await;
        }
    });
    (address, file)
}

#[tokio::test]
async fn https_needs_a_certificate_of_a_trusted_authority_and_the_right_name() {
    let dir = tempfile::tempdir().unwrap();
    let (address, authority) = https("127.0.0.1", dir.path()).await;
    let hook = Hook {
        url: format!("https://{address}/"),
    };
    let trusted = trusting(Some(authority));
    trusted.check_hook(&hook).await.unwrap();
    assert_eq!(trusted.post(&hook, &[], Bytes::new()).await.unwrap(), 204);

    let elsewhere = tempfile::tempdir().unwrap();
    let (other_name, other_authority) = https("example.test", elsewhere.path()).await;
    let misnamed = Hook {
        url: format!("https://{other_name}/"),
    };
    let foreign = trusting(Some(other_authority));
    for (client, hook) in [(&foreign, &misnamed), (&foreign, &hook)] {
        let error = client.post(hook, &[], Bytes::new()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::BackendUnavailable);
        assert!(error.detail.contains("certificate"), "{error}");
    }
}

#[tokio::test]
async fn a_trust_file_that_cannot_be_read_refuses_https_and_nothing_else() {
    let client = trusting(Some(PathBuf::from("/nowhere/authority.pem")));
    let check = async |url: &str| client.check_hook(&Hook { url: url.to_owned() }).await;
    let error = check("https://127.0.0.1/").await.unwrap_err();
    assert_eq!(error.field.as_deref(), Some("hook"));
    assert!(error.detail.contains("/nowhere/authority.pem"), "{error}");
    check("http://127.0.0.1/").await.unwrap();
}
