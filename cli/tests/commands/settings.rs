//! Settings and exit codes, as a script sees them.

use std::fs;

use crate::{err, landbridge, landbridge_with, out, pki::certificates};

/// "Flags, environment, file, in that order; all errors at once before anything is bound."
#[test]
fn a_gateway_tells_everything_that_is_wrong_with_its_settings_and_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let file = folder.path().join("settings.yaml");
    let tls = |name: &str| folder.path().join("gateway").join(name).display().to_string();
    let text = format!(
        "tls-cert: {}\ntls-key: {}\ntls-ca: {}\nlog-format: xml\n",
        tls("tls.crt"),
        tls("tls.key"),
        tls("ca.crt")
    );
    fs::write(&file, text).unwrap();
    let output = landbridge_with(
        &["gateway", "--listen", "everywhere", "--config", file.to_str().unwrap()],
        &[("LANDBRIDGE_NAME", "GW_0")],
    );
    assert_eq!(output.status.code(), Some(2));
    let told = err(&output);
    assert!(told.starts_with("error: 3 settings are wrong, nothing was started:"), "{told}");
    for part in [
        "--listen \"everywhere\": is not an IP address: give one such as",
        "LANDBRIDGE_NAME=\"GW_0\": hostname \"GW_0\" is not valid: use",
        "log-format: \"xml\" in ",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    assert!(output.stdout.is_empty());
}

#[test]
fn exit_codes_tell_the_kind() {
    assert_eq!(landbridge(&["--version"]).status.code(), Some(0));
    assert_eq!(landbridge(&["--help"]).status.code(), Some(0));
    assert_eq!(landbridge(&["dance"]).status.code(), Some(2));
    let missing = landbridge(&["dns"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(err(&missing).contains("--listen: is missing"), "{}", err(&missing));
    let version = out(&landbridge(&["--version"]));
    assert_eq!(version, format!("landbridge {}\n", env!("CARGO_PKG_VERSION")));
}
