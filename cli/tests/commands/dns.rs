//! `landbridge dns enable|disable|print`: what people see before an API is asked anything.

use crate::{err, landbridge, out};

#[test]
fn the_stanza_is_printed_without_a_cluster() {
    let printed = out(&landbridge(&["dns", "print", "--server=10.96.0.53", "--server=fd00::35"]));
    let stanza = "clusterset.local:53 {\n    errors\n    forward . 10.96.0.53 fd00::35\n}\n";
    assert_eq!(printed, stanza);
}

#[test]
fn what_is_wrong_is_told_with_what_would_be_right() {
    let wrong = landbridge(&["dns", "enable", "--server=dns.example.org"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(err(&wrong).contains("such as 10.96.0.53 or 192.0.2.11:5300"), "{}", err(&wrong));
    // Nothing says where the API is.
    let nowhere = landbridge(&["dns", "disable"]);
    assert_eq!(nowhere.status.code(), Some(2), "{}", err(&nowhere));
    assert!(err(&nowhere).contains("give --kubeconfig FILE"), "{}", err(&nowhere));
    // A server's own flags are not for the command that changes a Corefile.
    assert_eq!(landbridge(&["dns", "--listen=127.0.0.1:1", "enable"]).status.code(), Some(2));
}
