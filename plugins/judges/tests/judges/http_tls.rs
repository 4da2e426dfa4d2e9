//! The judge `http` behind TLS, with a certificate authority of the test's own.

use std::path::PathBuf;
use std::sync::Arc;

use isr_api::{BuildContext, ComponentError, Verdict};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

use isr_testing::ScriptedPolicy;
use isr_testing::fixtures::case;

use crate::server::{Act, Server};
use crate::support::{judge, judged, parse};

/// An authority, its certificate in a file, and the server's half of a connection that it vouches for.
struct Authority {
    file: PathBuf,
    tls: TlsAcceptor,
}

/// `host` is who the server says it is.
fn authority(folder: &std::path::Path, name: &str, host: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let file = folder.join(name);
    std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        );
    Authority { file, tls: TlsAcceptor::from(Arc::new(config.unwrap())) }
}

async fn ask(server: &Server, rest: &str) -> Result<Verdict, ComponentError> {
    let base_url = &server.base_url;
    let section = format!(
        "type = 'http'\nbase_url = '{base_url}'\nmodel = 'm'\nbackoff_s = 0.001\ntimeout_s = 5.0\n{rest}"
    );
    judged(&ScriptedPolicy::saying(""), &judge(&section), &case("it is red.", "it is blue.")).await
}

#[tokio::test]
async fn a_server_is_asked_where_its_authority_is_named_and_faults_are_tried_again_as_without_tls() {
    let folder = tempfile::tempdir().unwrap();
    let Authority { file, tls } = authority(folder.path(), "ca.pem", "127.0.0.1");
    let faults = [Act::Truncate, Act::Close, Act::Status(500, "", "")];
    let server =
        Server::start_tls(tls, move |index| faults.get(index).cloned().unwrap_or(Act::Judge)).await;
    let rest = format!("ca_file = '{}'\norders = 'given'", file.display());
    let verdict = ask(&server, &rest).await.unwrap();
    assert_eq!(verdict.p_first, 1.0);
    assert_eq!((server.received().len(), server.judged()), (4, 1));
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_told_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let other = authority(folder.path(), "other.pem", "127.0.0.1").file;
    for (host, trusted) in [("127.0.0.1", None), ("127.0.0.1", Some(&other)), ("judge.example", None)] {
        let Authority { file, tls } = authority(folder.path(), "ca.pem", host);
        let server = Server::start_tls(tls, |_| Act::Judge).await;
        // The last has the right authority, and another name.
        let trusted = if host == "judge.example" { Some(&file) } else { trusted };
        let ca_file = trusted.map_or_else(String::new, |path| format!("ca_file = '{}'", path.display()));
        let error = ask(&server, &format!("{ca_file}\norders = 'given'\nretries = 1")).await.unwrap_err();
        assert!(matches!(error, ComponentError::Failed(_)));
        assert!(error.to_string().contains("certificate"), "{error}");
        assert_eq!((server.received().len(), server.judged()), (0, 0), "{host}");
    }
}

#[test]
fn a_file_without_authorities_is_named_when_the_judge_is_built() {
    let folder = tempfile::tempdir().unwrap();
    let built = |text: Option<&str>| {
        let path = folder.path().join("ca.pem");
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let base = "type = 'http'\nbase_url = 'https://localhost/v1'\nmodel = 'm'";
        let config = parse(&format!("{base}\nca_file = '{}'", path.display())).unwrap();
        config.validate().unwrap();
        let error = config.build(&BuildContext::default()).err().unwrap().to_string();
        error.replace(&*folder.path().to_string_lossy(), "DIR")
    };
    assert!(built(None).starts_with("ca_file DIR/ca.pem: No such file"));
    insta::assert_snapshot!(built(Some("")), @"ca_file DIR/ca.pem: there is none in it; it must hold certificates as PEM");
    let broken = "-----BEGIN CERTIFICATE-----\n####\n-----END CERTIFICATE-----\n";
    assert!(built(Some(broken)).ends_with("it must hold certificates as PEM"));
}
