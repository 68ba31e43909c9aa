//! Pure: what the hub and a new member are told of each other: how often it has joined, and how its controller comes to
//! the hub's API.

use data_encoding::BASE64;
use landbridge_api::landbridge::Member;
use landbridge_model::ClusterId;
use serde_json::{Value, json};

/// How often a cluster has joined, this time included. Whoever has joined before, and is the same cluster, is taken up again
/// as it was.
///
/// # Errors
/// A sentence, where the id is another cluster's.
pub(crate) fn generation(
    before: Option<&Member>,
    cluster: &ClusterId,
    uid: &str,
) -> Result<i64, String> {
    let Some(member) = before else { return Ok(1) };
    let said = member.status.as_ref().and_then(|status| status.cluster_uid.as_deref());
    match said {
        Some(other) if other != uid => Err(format!(
            "{cluster} is the id of another cluster of the set, whose namespace kube-system has uid {other}: give this one another --cluster; if the other one is gone for good, `landbridge remove {cluster}` on the hub first"
        )),
        _ => Ok(member.spec.generation),
    }
}

/// Where the hub's API is, and by what it is known.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) url: String,
    /// Certificates in DER that its own leads to; those of the system where there are none.
    pub(crate) roots: Vec<Vec<u8>>,
    /// Whether it is believed whoever it is: as the kubeconfig of whoever joins the cluster has it.
    pub(crate) is_believed: bool,
}

/// By what a member's controller comes to the hub.
pub(crate) fn kubeconfig(server: &Server, cluster: &ClusterId, token: &str) -> Value {
    let mut hub = json!({"server": server.url});
    if server.is_believed {
        hub["insecure-skip-tls-verify"] = true.into();
    } else if !server.roots.is_empty() {
        let pem: String = server.roots.iter().map(|der| pem(der)).collect();
        hub["certificate-authority-data"] = BASE64.encode(pem.as_bytes()).into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "hub",
        "clusters": [{"name": "hub", "cluster": hub}],
        "contexts": [{"name": "hub", "context": {"cluster": "hub", "user": cluster.as_str()}}],
        "users": [{"name": cluster.as_str(), "user": {"token": token}}],
    })
}

/// A certificate as text, in lines of 64 characters (RFC 7468).
pub(crate) fn pem(der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use landbridge_api::landbridge::{MemberSpec, MemberStatus};
    use landbridge_gateway::{join::trust, pki::Root};
    use landbridge_model::Timestamp;

    use super::*;

    fn berlin() -> ClusterId {
        "berlin".parse().unwrap()
    }

    fn member(uid: Option<&str>) -> Member {
        let mut member =
            Member::new("berlin", MemberSpec { generation: 4, ..MemberSpec::default() });
        let cluster_uid = uid.map(str::to_owned);
        member.status = Some(MemberStatus { cluster_uid, ..MemberStatus::default() });
        member
    }

    #[test]
    fn a_cluster_that_comes_again_is_who_it_was() {
        assert_eq!(generation(None, &berlin(), "u1"), Ok(1));
        assert_eq!(generation(Some(&member(Some("u1"))), &berlin(), "u1"), Ok(4));
        // One that has never told its uid has never run.
        assert_eq!(generation(Some(&member(None)), &berlin(), "u1"), Ok(4));
        let told = generation(Some(&member(Some("u2"))), &berlin(), "u1").unwrap_err();
        assert!(told.contains("has uid u2: give this one another --cluster"), "{told}");
    }

    #[test]
    fn the_controller_is_told_where_the_hub_is_and_by_what_it_is_known() {
        let root =
            Root::generate(&"prod".parse().unwrap(), Timestamp::from_millis(1_790_000_000_000));
        let root = root.unwrap().cert_pem();
        let der = x509_parser::pem::parse_x509_pem(root.as_bytes()).unwrap().1.contents;
        let url = "https://192.0.2.9:6443/".to_owned();
        let server = Server { url, roots: vec![der], is_believed: false };
        let config = kubeconfig(&server, &berlin(), "token");
        let hub = &config["clusters"][0]["cluster"];
        assert_eq!(hub["server"], "https://192.0.2.9:6443/");
        let ca = BASE64.decode(hub["certificate-authority-data"].as_str().unwrap().as_bytes());
        let ca = String::from_utf8(ca.unwrap()).unwrap();
        assert_eq!(trust::fingerprint(&ca).unwrap(), trust::fingerprint(&root).unwrap());
        assert_eq!(config["users"][0], json!({"name": "berlin", "user": {"token": "token"}}));
        let believed = Server { is_believed: true, ..server };
        let hub = kubeconfig(&believed, &berlin(), "token")["clusters"][0]["cluster"].clone();
        assert_eq!(hub["insecure-skip-tls-verify"], true);
        assert!(hub["certificate-authority-data"].is_null());
    }
}
