//! `landbridge pki`: the files, and whether a stranger believes them.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde_json::Value;

use crate::{err, landbridge, out};

/// Makes root, member `paris` of set `demo` and gateway `gw-0` in folders of these names below `folder`.
pub(crate) fn certificates(folder: &Path) {
    let path = |name: &str| folder.join(name).display().to_string();
    let (root, member, gateway) = (path("root"), path("member"), path("gateway"));
    let told = out(&landbridge(&["pki", "root", "--set", "demo", "--out", &root]));
    assert!(told.contains("root-key.pem") && told.contains("landbridge pki member"), "{told}");
    let told = out(&landbridge(&[
        "pki",
        "member",
        "--root",
        &root,
        "--cluster",
        "paris",
        "--out",
        &member,
    ]));
    assert!(told.contains("landbridge pki gateway"), "{told}");
    let told = out(&landbridge(&[
        "pki",
        "gateway",
        "--member",
        &member,
        "--name",
        "gw-0",
        "--generation",
        "2",
        "--out",
        &gateway,
        "-o",
        "json",
    ]));
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["identity"], "spiffe://demo/cluster/paris/2/gateway/gw-0");
    assert_eq!(told["files"].as_array().unwrap().len(), 3);
}

#[test]
fn pki_makes_a_chain_that_a_stranger_verifies_and_keys_for_their_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let file = |name: &str| folder.path().join(name);

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file("gateway/ca.crt")).unwrap()).unwrap();
    let chain: Vec<CertificateDer<'_>> = CertificateDer::pem_file_iter(file("gateway/tls.crt"))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
    verifier.verify_client_cert(&chain[0], &chain[1..], UnixTime::now()).unwrap();
    verifier
        .verify_client_cert(&chain[0], &[], UnixTime::now())
        .expect_err("the leaf needs its member's certificate");
    let key = PrivateKeyDer::from_pem_file(file("gateway/tls.key")).unwrap();
    rustls::sign::CertifiedKey::from_der(chain, key, &provider).unwrap().keys_match().unwrap();

    for key in ["root/root-key.pem", "member/member-key.pem", "gateway/tls.key"] {
        let mode = fs::metadata(file(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
}

#[test]
fn pki_replaces_nothing_unless_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().display().to_string();
    out(&landbridge(&["pki", "root", "--set", "demo", "--out", &root]));
    let before = fs::read(folder.path().join("root.pem")).unwrap();
    let again = landbridge(&["pki", "root", "--set", "demo", "--out", &root]);
    assert_eq!(again.status.code(), Some(2));
    let told = err(&again);
    assert!(
        told.starts_with("error: already there")
            && told.contains("root-key.pem")
            && told.contains("--force"),
        "{told}"
    );
    assert_eq!(fs::read(folder.path().join("root.pem")).unwrap(), before);
    out(&landbridge(&["pki", "root", "--set", "demo", "--out", &root, "--force"]));
    assert_ne!(fs::read(folder.path().join("root.pem")).unwrap(), before);
    let mode = fs::metadata(folder.path().join("root-key.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn pki_says_which_folder_is_the_wrong_one() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let wrong = landbridge(&[
        "pki",
        "gateway",
        "--member",
        &path("root"),
        "--name",
        "gw-0",
        "--out",
        &path("x"),
    ]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(err(&wrong).contains("root/member.pem cannot be read"), "{}", err(&wrong));
    assert!(!folder.path().join("x").exists());
}
